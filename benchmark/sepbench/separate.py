"""A recording of any length, rate and channel count, separated with what a finished run has learnt.

Windows of the task's length overlap by half and are joined by sin^2 crossfades, which sum to 1; the file's own first
and last half window are not faded. Each channel is a mono mixture of its own; where the task's mixtures have several, the
file's channels are one such mixture, and its estimates have one. Windows are resampled to the task's rate and the
estimates back to the file's, so what lies above half the task's rate is lost, and the sounds add up to the
recording only where the method's estimates add up to the mixture. Beyond the edge of a window, resampling sees the
sound mirrored at its end point. Inside the file that lies where the fade is all but 0; at its two ends, what begins or
ends abruptly is softened over 64 samples of the lower rate.

Reading, separating and writing go window by window, so the length of the file does not matter to memory. Beside what
the method itself needs to answer MIXTURES mixtures of a window each, it takes less than
    4 bytes x seconds of a window x (4 classes + 16) x (channels x file's rate + max(MIXTURES, channels) x task's rate),
with MIXTURES x channels for that maximum where channels make one mixture.

Longer than most: window, crossfade, event and file are four small parts of one stream, and no one else's business.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, pad

from sepbench.corpora.truncation import ends_early
from sepbench.devices import choose_device
from sepbench.errors import UserError
from sepbench.method import Method
from sepbench.recipe import build
from sepbench.results_format import learns_from
from sepbench.run import finished_run
from sepbench.scene import Activity, Estimate, Mixture, TaskInfo
from sepbench.storage import write_text
from sepbench.tasks.task import task_info

MIXTURES = 8  # windows of a channel that are answered together, so that a GPU or a wide CPU is used
RATES_HZ = (1000, 768_000)  # outside of these a header is more likely broken than true
GRID_S = 0.01  # about the step of what is heard when
ENERGY_S = 0.1  # about the frame in which energies are compared
AUDIBLE = 1e-6  # mean square, -60 dB re full scale
HALF_SHARE = 0.1  # of the mixture's energy: an estimate that holds so much is heard with 0.5
MERGED_S, DROPPED_S = 0.2, 0.05  # shorter gaps are closed, then shorter events forgotten
TAPS, BETA = 32, 8.0  # resampling filter: samples of the lower rate on either side, Kaiser; ripple below 1e-4
LARGEST_WAV = 0xFFFFFFFF - (1 << 20)  # bytes; above it RF64, the 64 bit WAV of EBU Tech 3306
READING_ERRORS = (soundfile.SoundFileError, OSError, RuntimeError, TypeError, ValueError)


def separate_file(
    run: Path, file: Path, out: Path, threshold: float, device: str, progress: Any
) -> list[dict[str, Any]]:
    """Write `out`/<stem>_<label>.wav per class heard, and <stem>_events.csv; its rows: label, on_s, off_s, confidence.

    A class is heard where its probability is at least `threshold` in any channel; gaps below 0.2 s are closed, events
    below 0.05 s dropped; confidence is the highest probability within. Where the method tells no activity, the share
    of the mixture's energy that the estimate holds stands for it, per 0.1 s: share / (share + 0.1), so that a tenth is
    0.5; and 0 where the estimate is below -60 dB re full scale. Nothing is heard where the mixture is digital silence.
    The wavs are 32 bit float, with the file's rate, channels and length, and one channel where the task's mixtures have
    several; RF64 where 4 GB would not do.

    UserError, naming the file, where it is no recording, is empty or not finite, or has not as many channels as the task;
    naming `out`, where it cannot be written. What was begun is removed then; the files of an earlier call are replaced
    only by whole ones.
    """
    choose_device(device)
    with _recording(file) as recording:
        if ends_early(file):
            progress.say(f"{file}: is cut short; what there is of it is separated.")
        method, task = _trained(run)
        windows = _Windows(recording, file, task)
        with _Sounds(windows, out) as sounds:
            heard = _separate(windows, method, sounds, threshold, run, progress)
            sounds.publish(heard)
    return heard


def _trained(run: Path) -> tuple[Method, TaskInfo]:
    """The method as the run left it, around the method it wraps if there is one."""
    record, recipe = finished_run(run)
    if record.config["supervision"] == "oracle":
        raise UserError(f"{run}: {record.config['name']} must be told the sources. Choose a run that is no oracle.")
    info = task_info(record.config["task"])
    inner = _trained(Path(record.config["inner"]["run"]))[0] if record.config.get("inner") else None
    method = build(recipe, record.config, info, inner)
    if not learns_from(record.config):
        return method, info
    try:
        method.load(record.path / "weights")
    except OSError as error:
        reason = _reason(error, "not weights")
        raise UserError(f"{run}: its weights cannot be read ({reason}). Restore them, or train it again.") from error
    return method, info


# reading


@contextmanager
def _recording(file: Path) -> Iterator[soundfile.SoundFile]:
    try:
        recording = soundfile.SoundFile(file)
    except READING_ERRORS as error:
        reason = _reason(error, "not a sound file")
        raise UserError(f"{file}: cannot be read as audio ({reason}). Name a wav, flac, ogg or mp3 file.") from error
    with recording:
        if not RATES_HZ[0] <= recording.samplerate <= RATES_HZ[1]:
            has, wanted = f"{recording.samplerate} Hz", "{} to {} Hz".format(*RATES_HZ)
            raise UserError(f"{file}: its sample rate is {has}; wanted {wanted}. Resample it, or mend its header.")
        yield recording


class _Windows:
    """The recording in windows (channel, time), each `half` samples after the one before; the last may be shorter."""

    def __init__(self, recording: soundfile.SoundFile, file: Path, task: TaskInfo) -> None:
        self.recording, self.file, self.task = recording, file, task
        self.rate_hz, self.channels = recording.samplerate, recording.channels
        if task.n_channels not in (1, self.channels):
            has, wanted = f"{self.channels} channel{'s' if self.channels > 1 else ''}", task.n_channels
            raise UserError(f"{file}: has {has}; the run wants {wanted}, for one mixture. Name a recording of {wanted}.")
        self.mixtures = self.channels if task.n_channels == 1 else 1  # in a window, each with a channel of every estimate
        self.half = int(task.seconds * self.rate_hz / 2)
        self.n_frames = 0  # read so far; headers may lie
        promised = min(recording.frames, 1 << 62)
        self.expected = max(1, math.ceil(promised / self.half) - 1)
        self.format = "WAV" if promised * self.mixtures * 4 < LARGEST_WAV else "RF64"

    def __iter__(self) -> Iterator[tuple[np.ndarray, bool]]:
        """Each window, and whether it is the last."""
        first, second = self._block(), self._block()
        if not first.size:
            raise UserError(f"{self.file}: holds no samples. Record it again, or name another file.")
        while True:
            window, third = np.concatenate([first, second], 1), self._block()
            yield window, not third.size
            if not third.size:
                return
            first, second = second, third

    def _block(self) -> np.ndarray:
        try:
            block = self.recording.read(self.half, dtype="float32", always_2d=True).T  # (channel, time)
        except READING_ERRORS as error:
            when = f"from {self.now_s:.1f} s on"
            raise UserError(f"{self.file}: cannot be decoded {when}. Copy or download it again.") from error
        if not np.isfinite(block).all():
            when = f"after {self.now_s:.1f} s"
            raise UserError(f"{self.file}: holds samples that are not finite, {when}. Export it again.")
        self.n_frames += block.shape[1]
        return np.ascontiguousarray(block)

    @property
    def now_s(self) -> float:
        return self.n_frames / self.rate_hz


# separating


def _separate(
    windows: _Windows, method: Method, sounds: _Sounds, threshold: float, run: Path, progress: Any
) -> list[dict[str, Any]]:
    """Write the sound of every class, window by window; what was heard when."""
    half_s = windows.half / windows.rate_hz
    steps = max(1, round(half_s / GRID_S))
    listeners = [_Listener(label, half_s / steps, threshold) for label in windows.task.classes]
    sound, likelihood = _Crossfade(windows.half), _Crossfade(steps)
    with progress.bar(f"separating {windows.file.name}", windows.expected) as bar:
        for estimates, probability, last in _answers(windows, method, steps, run):
            sounds.write(sound.add(estimates, last))
            for listener, frames in zip(listeners, likelihood.add(probability, last)):
                listener.add(frames)
            bar.advance()
    events = [event for listener in listeners for event in listener.events(windows.now_s)]
    return sorted(events, key=lambda event: event["on_s"])


def _answers(
    windows: _Windows, method: Method, steps: int, run: Path
) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """For each window: sounds (class, mixture, time), probabilities (class, 2 * steps), and whether it is the last."""
    task, waiting = windows.task, []
    for window, last in windows:
        waiting.append(window)
        if len(waiting) < MIXTURES // windows.mixtures and not last:
            continue
        mixtures = [mixture for each in waiting for mixture in _mixtures(each, windows)]
        batches = [mixtures[i : i + MIXTURES] for i in range(0, len(mixtures), MIXTURES)]
        answers = [answer for batch in batches for answer in method.separate(batch)]
        for i, each in enumerate(waiting):
            own = slice(i * windows.mixtures, (i + 1) * windows.mixtures)
            sources = torch.stack([_by_class(answer, task.classes, run) for answer in answers[own]], 1)
            if not sources.isfinite().all():
                when = f"before {windows.now_s:.1f} s"
                raise UserError(f"{windows.file}: {run} makes something not finite of it, {when}. Lower its level.")
            heard = [_probability(*each, task, steps) for each in zip(answers[own], sources.unbind(1), mixtures[own])]
            n_time = -(-each.shape[1] * task.sample_rate_hz // windows.rate_hz)  # what follows is padding
            # class by class, since the arithmetic of resampling needs several times the room of its result
            back = [_resample(one[:, :n_time].numpy(), task.sample_rate_hz, windows.rate_hz) for one in sources]
            whole = np.stack([one[:, : each.shape[1]] for one in back])  # (class, mixture, time)
            yield whole, torch.stack(heard).amax(0).numpy(), last and i + 1 == len(waiting)
        waiting = []


def _mixtures(window: np.ndarray, windows: _Windows) -> list[Mixture]:
    """A window's channels one by one, or as one mixture, at the task's rate, with silence up to the task's length."""
    task = windows.task
    n_time = round(task.seconds * task.sample_rate_hz)
    channels = torch.from_numpy(_resample(window, windows.rate_hz, task.sample_rate_hz))[:, :n_time]
    padded = pad(channels, (0, n_time - channels.shape[1]))
    audio = padded.reshape(windows.mixtures, task.n_channels, n_time)  # (mixture, channel, time)
    return [Mixture(each, task.sample_rate_hz, f"{windows.file.stem}-{i}") for i, each in enumerate(audio)]


def _by_class(estimate: Estimate, classes: Sequence[str], run: Path) -> Tensor:
    """(class, time): the sum of the sources of each label, silence for a class without one."""
    if estimate.labels is None:
        raise UserError(f"{run}: its method does not say which source is what. Choose one that labels its sources.")
    if estimate.sources is None:
        raise UserError(f"{run}: its method only says what sounds, and separates nothing. Choose one that separates.")
    sources = estimate.sources.detach().float().cpu()
    of = torch.tensor([classes.index(label) for label in estimate.labels], dtype=torch.long)
    return sources.new_zeros(len(classes), sources.shape[-1]).index_add_(0, of, sources)


def _probability(estimate: Estimate, sources: Tensor, mixture: Mixture, task: TaskInfo, steps: int) -> Tensor:
    """(class, 2 * steps): how probably each class sounds, on a grid that splits the window evenly."""
    activity = estimate.activity or _activity_by_energy(sources, mixture.audio[:1], task.seconds)
    at_s = (torch.arange(2 * steps) + 0.5) * task.seconds / (2 * steps)
    known = activity.probability.detach().float().cpu()
    frame = ((at_s - activity.start_s) / activity.hop_s).floor().long().clamp(0, known.shape[-1] - 1)
    sounding = adaptive_avg_pool1d(mixture.audio.abs().amax(0, keepdim=True), 2 * steps) > 0
    return known[:, frame] * sounding


def _activity_by_energy(sources: Tensor, mixture: Tensor, seconds: float) -> Activity:
    """Where a method does not say what sounds when: the share of the energy of `mixture` (1, time), as `separate_file` tells."""
    n_frames = max(1, round(seconds / ENERGY_S))
    energy, whole = (adaptive_avg_pool1d(audio.square(), n_frames) for audio in (sources, mixture))
    probability = energy / (energy + HALF_SHARE * whole).clamp_min(1e-20) * (energy > AUDIBLE)
    return Activity(probability, seconds / n_frames, 0.0)


def _resample(audio: np.ndarray, rate_hz: int, new_rate_hz: int) -> np.ndarray:
    """(..., time) at another rate; sample 0 stays where it is, and the length is rounded up."""
    if rate_hz == new_rate_hz:
        return audio
    from scipy.signal import resample_poly

    common = math.gcd(rate_hz, new_rate_hz)
    up, down = new_rate_hz // common, rate_hz // common
    beyond = "antireflect" if audio.shape[-1] > 1 else "edge"
    return resample_poly(audio, up, down, axis=-1, window=_taps(max(up, down)), padtype=beyond)


@lru_cache(maxsize=1)
def _taps(factor: int) -> np.ndarray:
    """The low-pass of `_resample`; cached, since between rates without a common divisor it is long."""
    from scipy.signal import firwin

    return firwin(2 * TAPS * factor + 1, 1 / factor, window=("kaiser", BETA)).astype(np.float32)


class _Crossfade:
    """Joins windows (..., 2 * half) that overlap by half along the last axis."""

    def __init__(self, half: int) -> None:
        self.rise = (np.sin(np.pi / 2 * (np.arange(half) + 0.5) / half) ** 2).astype(np.float32)
        self.tail: np.ndarray | None = None

    def add(self, window: np.ndarray, last: bool) -> np.ndarray:
        """What no later window will change: half a window, or all that is left if this is the `last`."""
        half = len(self.rise)
        head, tail = window[..., :half], window[..., half:]
        if self.tail is not None:
            head = self.tail + self.rise * head
        self.tail = None if last else (1 - self.rise) * tail
        return np.concatenate([head, tail], -1) if last else head


class _Listener:
    """Gathers the events of one class from its probabilities, piece by piece."""

    def __init__(self, label: str, step_s: float, threshold: float) -> None:
        self.label, self.step_s, self.threshold = label, step_s, threshold
        self.n_frames = 0
        self.runs: list[list[float]] = []  # on_s, off_s, confidence

    def add(self, probability: np.ndarray) -> None:
        """(frame,): the next frames."""
        active = (probability >= self.threshold) & (probability > 0)
        edges = np.flatnonzero(np.diff(active, prepend=False, append=False))
        for on, off in edges.reshape(-1, 2):
            on_s, off_s = ((self.n_frames + frame) * self.step_s for frame in (int(on), int(off)))
            best = float(probability[on:off].max())
            if self.runs and on_s - self.runs[-1][1] < MERGED_S - 1e-9:
                self.runs[-1][1:] = off_s, max(best, self.runs[-1][2])
            else:
                self.runs.append([on_s, off_s, best])
        self.n_frames += len(probability)

    def events(self, duration_s: float) -> list[dict[str, Any]]:
        """In order of time, cut at `duration_s`. A recording shorter than 0.05 s may still be one event as a whole."""
        runs = [(on_s, min(off_s, duration_s), confidence) for on_s, off_s, confidence in self.runs]
        return [
            {"label": self.label, "on_s": round(on_s, 3), "off_s": round(off_s, 3), "confidence": round(confidence, 4)}
            for on_s, off_s, confidence in runs
            if off_s - on_s > min(DROPPED_S, duration_s) - 1e-9
        ]


# keeping


class _Sounds:
    """A wav per class, begun in a hidden folder in `out` and shown when all is whole; the hidden ones go in the end."""

    def __init__(self, windows: _Windows, out: Path) -> None:
        self.windows, self.out = windows, out
        self.files: list[soundfile.SoundFile] = []
        self.stack = ExitStack()

    def __enter__(self) -> _Sounds:
        windows, form = self.windows, {"format": self.windows.format, "subtype": "FLOAT"}
        with self._said_plainly(), ExitStack() as stack:
            self.out.mkdir(parents=True, exist_ok=True)
            hidden = tempfile.TemporaryDirectory(prefix=f".{windows.file.stem}.", dir=self.out)
            self.begun = Path(stack.enter_context(hidden))
            for label in windows.task.classes:
                path = self.begun / _named(label)
                file = soundfile.SoundFile(path, "w", windows.rate_hz, windows.mixtures, **form)
                self.files.append(stack.enter_context(file))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        with self._said_plainly():
            self.stack.close()

    def write(self, sounds: np.ndarray) -> None:
        """(class, mixture, time): the next samples; each mixture has a channel."""
        with self._said_plainly():
            for file, audio in zip(self.files, sounds):
                file.write(audio.T)

    def publish(self, heard: Sequence[dict[str, Any]]) -> None:
        """Move the sounds of the classes heard to `out`; what an earlier call left there, by its own list, goes."""
        stem = self.windows.file.stem
        listed = self.out / f"{stem}_events.csv"
        with self._said_plainly():
            for file in self.files:
                file.close()
            for label in _listed(listed):
                (self.out / f"{stem}_{_named(label)}").unlink(missing_ok=True)
            for label in {event["label"] for event in heard}:
                os.replace(self.begun / _named(label), self.out / f"{stem}_{_named(label)}")
        text = io.StringIO()
        writer = csv.DictWriter(text, ["label", "on_s", "off_s", "confidence"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(heard)
        write_text(listed, text.getvalue())

    @contextmanager
    def _said_plainly(self) -> Iterator[None]:
        try:
            yield
        except (OSError, soundfile.SoundFileError, AssertionError) as error:  # soundfile asserts that all was written
            name = self.windows.file.name
            raise UserError(
                f"{self.out}: cannot write what {name} is separated into ({_reason(error, 'not all was written')}). "
                "Free some space, or choose another folder."
            ) from error


def _named(label: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", label) + ".wav"


def _listed(events: Path) -> set[str]:
    """The labels that an earlier call heard."""
    if not events.is_file():
        return set()
    with events.open(newline="", encoding="utf-8", errors="replace") as lines:
        return {row["label"] for row in csv.DictReader(lines) if row.get("label")}


def _reason(error: BaseException, otherwise: str) -> str:
    """What libsndfile or the system says, as a part of a sentence."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or otherwise
    return str(text).strip(" .")
