"""The clip cache: what goes in comes out, once decoded, whatever else happens on the machine."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

import sepbench
from sepbench.corpora.base import Clip
from sepbench.corpora.cache import ClipCache, open_cache, resample
from sepbench.corpora.class_folders import ClassFolders
from sepbench.corpora.loudness import k_weighted_energy_prefix
from sepbench.errors import UserError

LONG_AGO_S = 1_000_000_000


class Counting(ClassFolders):
    """Class folders that count what they read."""

    decoded = 0
    hashed = 0

    def audio(self, clip: Clip) -> tuple[np.ndarray, int]:
        self.decoded += 1
        return super().audio(clip)

    def fingerprint(self, clip: Clip) -> str:
        self.hashed += 1
        return super().fingerprint(clip)


def write(path: Path, seed: int, rate: int = 16000, changed_s: int = LONG_AGO_S, depth: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.3, 0.3, rate // 5 + seed), rate, depth)
    os.utime(path, (changed_s, changed_s))


@pytest.fixture
def corpus(tmp_path: Path) -> Counting:
    root = tmp_path / "sounds"
    write(root / "dog" / "a.wav", 1)
    write(root / "dog" / "b.flac", 2, 48000, depth="PCM_24")
    write(root / "cat" / "c.wav", 3, 8000, depth="FLOAT")
    return Counting(root)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_holds(cache: ClipCache, corpus: ClassFolders) -> None:
    """Each clip, resampled, to within the step of 16 bits of its own peak; and the energy of just that."""
    for index, clip in enumerate(cache.clips):
        wanted = resample(*corpus.audio(clip), cache.sample_rate_hz)
        found = cache.audio(index)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=0.51 * np.abs(wanted).max() / 32767)
        first = cache.energy_offset[index]
        points = len(found) // (cache.sample_rate_hz // 1000) + 1
        energy = k_weighted_energy_prefix(found, cache.sample_rate_hz)
        np.testing.assert_allclose(cache.energy[first : first + points], energy, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rate", [16000, 22050])
def test_what_goes_in_comes_out(corpus: Counting, tmp_path: Path, rate: int) -> None:
    cache = open_cache(corpus, corpus.clips, rate, tmp_path / "cache")
    assert cache.samples.dtype == np.int16 and cache.energy.dtype == np.float64
    assert cache.offset.tolist() == [0, *np.cumsum(cache.length)[:-1]]
    assert cache.length.sum() == len(cache.samples)
    assert [clip.key for clip in cache.clips] == ["cat/c.wav", "dog/a.wav", "dog/b.flac"]
    assert_holds(cache, corpus)


def test_the_second_time_nothing_is_decoded_nor_hashed(corpus: Counting, tmp_path: Path) -> None:
    first = open_cache(corpus, corpus.clips, 16000, tmp_path / "cache")
    assert (corpus.decoded, corpus.hashed) == (3, 3)
    again = open_cache(corpus, reversed(corpus.clips), 16000, tmp_path / "cache")
    assert (corpus.decoded, corpus.hashed) == (3, 3)
    assert again.content_hash == first.content_hash and (again.samples == first.samples).all()


def test_only_the_clips_asked_for_are_decoded(corpus: Counting, tmp_path: Path) -> None:
    cache = open_cache(corpus, [clip for clip in corpus.clips if clip.label == "dog"], 16000, tmp_path)
    assert corpus.decoded == len(cache.clips) == 2


def test_a_changed_byte_makes_another_cache(corpus: Counting, tmp_path: Path) -> None:
    before = open_cache(corpus, corpus.clips, 16000, tmp_path / "cache")
    path = corpus.path(corpus.clips[1])
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1  # the same size
    path.write_bytes(whole)
    after = open_cache(corpus, corpus.clips, 16000, tmp_path / "cache")
    assert after.content_hash != before.content_hash and corpus.hashed == 4
    assert_holds(after, corpus)


def test_files_changed_just_now_are_not_remembered_by_their_time(tmp_path: Path) -> None:
    """Two writes within one tick of the file system's clock look alike."""
    write(tmp_path / "sounds" / "dog" / "a.wav", 1)
    path = tmp_path / "sounds" / "dog" / "a.wav"
    path.write_bytes(path.read_bytes())
    corpus = Counting(tmp_path / "sounds")
    keys = set()
    for byte in (1, 2, 3):
        path.write_bytes(path.read_bytes()[:-1] + bytes([byte]))
        keys.add(open_cache(corpus, corpus.clips, 16000, tmp_path / "cache").content_hash)
    assert len(keys) == corpus.hashed == 3


def test_rate_and_labels_are_part_of_the_content_and_places_are_not(corpus: Counting, tmp_path: Path) -> None:
    key = open_cache(corpus, corpus.clips, 16000, tmp_path / "cache").content_hash
    assert open_cache(corpus, corpus.clips, 8000, tmp_path / "cache").content_hash != key
    moved = corpus.path(corpus.clips[0]).parents[1].rename(tmp_path / "moved")
    assert open_cache(Counting(moved), Counting(moved).clips, 16000, tmp_path / "cache").content_hash == key
    (moved / "cat").rename(moved / "lion")
    assert open_cache(Counting(moved), Counting(moved).clips, 16000, tmp_path / "cache").content_hash != key


def test_a_broken_clip_stops_the_build_and_leaves_nothing(corpus: Counting, tmp_path: Path) -> None:
    path = corpus.path(corpus.clips[2])
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match="b.flac"):
        open_cache(corpus, corpus.clips, 16000, tmp_path / "cache")
    assert entries(tmp_path / "cache") == ["fingerprints.json"]


@pytest.mark.parametrize("name", ["samples.i16", "energy.f64", "index.npz"])
def test_a_damaged_cache_is_built_again(corpus: Counting, tmp_path: Path, name: str) -> None:
    root = tmp_path / "cache"
    open_cache(corpus, corpus.clips, 16000, root)
    (place,) = [path for path in root.iterdir() if path.is_dir()]
    (place / name).write_bytes((place / name).read_bytes()[:100])
    assert_holds(open_cache(corpus, corpus.clips, 16000, root), corpus)
    (place / name).unlink()
    assert_holds(open_cache(corpus, corpus.clips, 16000, root), corpus)


def test_a_broken_file_is_named_by_the_build_and_not_before(corpus: Counting, tmp_path: Path) -> None:
    corpus.path(corpus.clips[1]).write_bytes(b"no sound")
    again = Counting(tmp_path / "sounds")
    assert again.clips[1].seconds == 0
    with pytest.raises(UserError, match="a.wav' cannot be decoded"):
        open_cache(again, again.clips, 16000, tmp_path / "cache")


def test_damaged_fingerprints_only_cost_time(corpus: Counting, tmp_path: Path) -> None:
    key = open_cache(corpus, corpus.clips, 16000, tmp_path / "cache").content_hash
    for text in ("{", "[]", '{"a": 1}', ""):
        (tmp_path / "cache" / "fingerprints.json").write_text(text)
        assert open_cache(corpus, corpus.clips, 16000, tmp_path / "cache").content_hash == key


class Meeting(ClassFolders):
    """Class folders whose readers wait for one another at each clip: two builds are surely under way at once."""

    barrier: threading.Barrier

    def audio(self, clip: Clip) -> tuple[np.ndarray, int]:
        self.barrier.wait(20)
        return super().audio(clip)


def test_two_builds_at_once_both_succeed(corpus: Counting, tmp_path: Path) -> None:
    meeting = Meeting(corpus.path(corpus.clips[0]).parents[1])
    meeting.barrier = threading.Barrier(2)
    caches: list[ClipCache] = []
    builds = [
        threading.Thread(target=lambda: caches.append(open_cache(meeting, meeting.clips, 16000, tmp_path / "cache")))
        for _ in range(2)
    ]
    for build in builds:
        build.start()
    for build in builds:
        build.join()
    assert len(caches) == 2
    for cache in caches:
        assert_holds(cache, corpus)
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_two_processes_at_once_both_succeed(corpus: Counting, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from sepbench.corpora.cache import open_cache\n"
        "from sepbench.corpora.class_folders import ClassFolders\n"
        "corpus = ClassFolders(Path(sys.argv[1])); print(open_cache(corpus, corpus.clips, 16000).content_hash)"
    )
    package = str(Path(sepbench.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": package, "SEPBENCH_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", program, str(tmp_path / "sounds")]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    keys = {process.communicate(timeout=60)[0].strip() for process in started}
    assert [process.returncode for process in started] == [0, 0]
    assert keys == {open_cache(corpus, corpus.clips, 16000, tmp_path / "cache").content_hash} and not corpus.decoded


class DiskFull(ClassFolders):
    """Stands for a disk that fills while clips are written."""

    def audio(self, clip: Clip) -> tuple[np.ndarray, int]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_with_folder_and_need(corpus: Counting, tmp_path: Path) -> None:
    full = DiskFull(tmp_path / "sounds")
    with pytest.raises(UserError, match=r"cache' is full: it needs \d+ MB free.*SEPBENCH_CACHE"):
        open_cache(full, full.clips, 16000, tmp_path / "cache")
    assert entries(tmp_path / "cache") == ["fingerprints.json"]


def test_a_root_that_is_a_file_is_told(corpus: Counting, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="clip cache folder .*file.* cannot be used"):
        open_cache(corpus, corpus.clips, 16000, tmp_path / "file")


def test_no_clips_is_an_error_and_no_empty_cache(corpus: Counting, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no clips left"):
        open_cache(corpus, [], 16000, tmp_path)


def test_what_killed_builds_left_is_swept(corpus: Counting, tmp_path: Path) -> None:
    old, young = tmp_path / ".building-old", tmp_path / ".building-young"
    old.mkdir()
    young.mkdir()
    os.utime(old, (LONG_AGO_S, LONG_AGO_S))
    open_cache(corpus, corpus.clips, 16000, tmp_path)
    assert not old.exists() and young.exists()


def test_resampling_keeps_a_tone_and_its_length() -> None:
    time_s = np.arange(11025) / 11025
    tone = np.sin(2 * np.pi * 440 * time_s).astype(np.float32)
    found = resample(tone, 11025, 16000)
    assert found.dtype == np.float32 and len(found) == 16000
    wanted = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(found[500:-500], wanted[500:-500], atol=5e-3)
