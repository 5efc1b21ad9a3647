"""What comes from strangers: weights that are code, YAML that is, names that lead out, recipes from elsewhere."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from made_fuss import make_fuss
from made_up_runs import put
from sepbench import trust
from sepbench.blocks.weights import recall
from sepbench.catalogue import Found
from sepbench.checkpoints import BEST, LAST
from sepbench.corpora import open_corpus
from sepbench.corpora.cache import open_cache
from sepbench.corpora.class_folders import ClassFolders
from sepbench.corpora.fuss import Fuss
from sepbench.errors import UserError
from sepbench.home import home
from sepbench.loading import load_from
from sepbench.mixing.impulse_responses import SimulatedRooms, sealed
from sepbench.mixing.shoebox import ShoeboxSettings
from sepbench.progress import PlainProgress
from sepbench.recipe import load_class, load_recipe
from sepbench.report.listen import FOLDER, LISTED, read_sounds
from sepbench.results import read_runs
from sepbench.run_weights import content
from sepbench.scene_files import copy_listed
from sepbench.tasks import settings
from sepbench.tolerances import read_tolerances
from sepbench.training import train
from test_cli import call
from test_separate import METHOD, RECIPE, run_of
from test_training import CPU, PLAN, Line, history, loss_of, new_network, same_weights, trained

for recipe, file, name in (("itdcnpp", "checkpoints.py", "SoundClassifier"), ("redux", "m2d.py", "M2dTagger")):
    load_from(home() / "recipes" / recipe, file, name)
from recipes.itdcnpp.checkpoints import load_classifier  # noqa: E402  (packages once they are loaded)
from recipes.redux.m2d import M2dTagger  # noqa: E402
from recipes.redux.m2d_files import load_m2d  # noqa: E402


class Bad:
    """Unpickled, it leaves a sign."""

    def __init__(self, sign: Path):
        self.sign = sign

    def __reduce__(self):
        return (os.mkdir, (str(self.sign),))


def plain(bad: Bad) -> bytes:
    return pickle.dumps(bad)


def as_torch(bad: Bad) -> bytes:
    import io

    made = io.BytesIO()
    torch.save({"state_dict": {}, "model": {"x": torch.zeros(2)}, "more": bad}, made)
    return made.getvalue()


def one_line(act: Callable[[], object]) -> str:
    with pytest.raises(UserError) as told:
        act()
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.fixture
def sign(tmp_path: Path):
    """What a pickle would make, and none may."""
    yield tmp_path / "sign"
    assert not (tmp_path / "sign").exists()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trust, "_said", set())


# weights


def test_the_sign_is_made_where_a_pickle_is_run(tmp_path):
    pickle.loads(plain(Bad(tmp_path / "made")))
    assert (tmp_path / "made").is_dir()


@pytest.mark.parametrize("kind", [plain, as_torch])
def test_weights_that_are_code_are_refused_and_not_run(tmp_path, sign, kind):
    file = tmp_path / "weights" / "bad.safetensors"
    file.parent.mkdir()
    file.write_bytes(kind(Bad(sign)))
    assert "bad.safetensors: cannot be read" in one_line(lambda: recall(torch.nn.Linear(2, 2), file))
    assert "bad.safetensors: cannot be read" in one_line(lambda: content(file.parent))
    assert "cannot be read as a classifier" in one_line(lambda: load_classifier(file, ("dog",), 16000, 0.25, 8))
    assert "cannot be read as M2D" in one_line(lambda: load_m2d(M2dTagger(2, 16000, 2.0, 24, 1, 3, 1), str(file)))


@pytest.mark.parametrize("kind", [plain, as_torch])
@pytest.mark.parametrize("name", [LAST, BEST])
def test_a_checkpoint_that_is_code_is_refused_and_not_run(tmp_path, sign, kind, name):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, new_network(), Line(0, stop_at=4))
    (tmp_path / "tiny" / name).write_bytes(kind(Bad(sign)))
    line = one_line(lambda: trained(tmp_path, new_network()))
    assert f"tiny/{name}: holds code beside its weights, none of which was run" in line and "Remove it" in line


class Told(PlainProgress):
    def __init__(self) -> None:
        super().__init__(open(os.devnull, "w"))  # noqa: SIM115
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def scrambled(path: Path) -> None:
    """Some tensor's bytes are others, which the archive's checksums tell."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda each: each.file_size if "/data/" in each.filename else -1)
    place = largest.header_offset + 30 + len(largest.filename) + 100
    for i in range(place, place + 64):
        data[i] ^= 0xFF
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [cut, emptied, scrambled])
@pytest.mark.parametrize(("name", "said"), [(LAST, "goes on from best.ckpt"), (BEST, "starts again from its beginning")])
def test_a_damaged_checkpoint_costs_epochs_and_changes_nothing(tmp_path, damage, name, said):
    whole, again, told = new_network(), new_network(), Told()
    trained(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", new_network(), Line(0, stop_at=10))
    damage(tmp_path / "stopped" / "tiny" / name)
    train("tiny", again, loss_of(again), Line(0), Line(1), PLAN, tmp_path / "stopped", 3, CPU, told)
    assert any(name in line and said in line for line in told.lines), told.lines
    assert same_weights(whole, again) and history(tmp_path / "stopped") == history(tmp_path / "whole")


def test_a_damaged_summary_is_one_line(tmp_path):
    trained(tmp_path, new_network())
    (tmp_path / "tiny" / "summary.json").write_text("{")
    assert "summary.json: cannot be read" in one_line(lambda: trained(tmp_path, new_network()))


@pytest.mark.parametrize("command", ["separate", "test"])
def test_a_run_whose_weights_are_code_is_refused_by_the_command_line(tmp_path, sign, command):
    folder = tmp_path / "own" / "shares"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    loads = METHOD.replace("assert folder.is_dir()", "from sepbench.blocks.weights import recall_all\n"
                           "        recall_all({'net': torch.nn.Linear(2, 2)}, folder)")  # fmt: skip
    (folder / "method.py").write_text(loads)
    run = run_of(folder, tmp_path / "results")
    (run / "weights" / "net.safetensors").write_bytes(as_torch(Bad(sign)))
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    more = [str(tmp_path / "a.wav"), "-o", str(tmp_path / "out")] if command == "separate" else ["--results", str(tmp_path / "r")]
    code, _, err = call(command, str(run), *more)
    assert code == 2 and "net.safetensors: cannot be read" in err.splitlines()[-1] and "Traceback" not in err


def test_arrays_of_the_cache_that_are_code_are_not_run(tmp_path, sign):
    soundfile.write(file := tmp_path / "sounds.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 8000), 8000)
    (tmp_path / "sounds" / "dog").mkdir(parents=True)
    file.rename(tmp_path / "sounds" / "dog" / "a.wav")
    corpus = ClassFolders(tmp_path / "sounds")
    open_cache(corpus, corpus.clips, 8000, tmp_path / "clips")
    (index,) = (tmp_path / "clips").glob("*/index.npz")
    np.savez(index, length=np.array([Bad(sign)], dtype=object), scale=np.ones(1, np.float32))
    assert len(open_cache(corpus, corpus.clips, 8000, tmp_path / "clips").audio(0)) == 8000  # built anew

    rooms = SimulatedRooms(ShoeboxSettings(1, 2, (3.0, 4.0), (0.2, 0.3)), "train", 0, 8000)
    rooms.folder.mkdir(parents=True)
    np.save(rooms._file(0), np.array([Bad(sign)], dtype=object))
    rooms._file(0).write_bytes(sealed(rooms._file(0).read_bytes()))
    assert rooms.room(0).ndim == 3


# YAML

CODE = "!!python/object/apply:os.mkdir [{sign}]"


def test_yaml_that_is_code_is_refused_and_not_run(tmp_path, sign, monkeypatch):
    code = CODE.format(sign=sign)
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(f"name: {code}\n")
    assert "recipe.yaml: not YAML" in one_line(lambda: load_recipe(folder))
    (tmp_path / "tolerances.yaml").write_text(f"default: {code}\n")
    assert "not YAML" in one_line(lambda: read_tolerances(tmp_path / "tolerances.yaml", ()))
    run = put(tmp_path / "results")
    (run / "config.yaml").write_text(f"name: {code}\n")
    assert "config.yaml: does not say what run.json does" in one_line(lambda: read_runs(tmp_path / "results"))
    (tmp_path / "mine.yaml").write_text(f"name: {code}\n")
    with monkeypatch.context() as patch:
        patch.setattr(settings, "__file__", str(tmp_path / "settings.py"))
        assert "mine.yaml: not YAML" in one_line(lambda: settings.load_task("mine", {}))
    (tmp_path / "manifest.yaml").write_text(code)
    code_, _, err = call("score", "--manifest", str(tmp_path / "manifest.yaml"))
    assert code_ == 2 and "Traceback" not in err
    code_, _, err = call("run", str(home() / "baselines" / "mixture"), "--set", f"task.seconds={code}")
    assert code_ == 2 and "is not YAML" in err


@pytest.mark.parametrize("text", ["a: 2020-99-99", "[" * 1200, "a: &a [*a, *b]", "? {a: 1}\n: 2"])
def test_yaml_that_is_none_is_one_line(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text)
    one_line(lambda: load_recipe(tmp_path))


# names


@pytest.mark.parametrize("name", ["../../secret.wav", "/etc/secret.wav", "a/../../secret.wav", "..\\secret.wav", "C:\\secret"])
def test_names_of_metadata_stay_in_their_corpus(tmp_path, name):
    soundfile.write(tmp_path / "secret.wav", np.ones(100) / 2, 8000)
    for corpus, table, head, row in (
        ("esc50", "meta/esc50.csv", "filename,fold,category,src_file", f"{name},1,dog,1"),
        ("urbansound8k", "metadata/UrbanSound8K.csv", "slice_file_name,fsID,start,end,salience,fold,class",
         f"{name},7,0,1,1,1,dog"),
    ):  # fmt: skip
        root = tmp_path / corpus
        (root / table).parent.mkdir(parents=True)
        (root / "audio" / "fold1").mkdir(parents=True)
        (root / table).write_text(f"{head}\n{row}\n")
        line = one_line(lambda corpus=corpus, root=root: open_corpus(corpus, {corpus: str(root)}))
        assert "line 2 of" in line and f"'{name}' leads out of the corpus" in line
    root = make_fuss(tmp_path / "fuss", counts={"train": (1,), "validation": (1,), "eval": (1,)})
    table = root / "ssdata_reverb" / "eval_example_list.txt"
    mixture, source = table.read_text().rstrip("\n").split("\t")
    for line_ in (f"{mixture}\t{name}\n", f"{name}\t{source}\n"):
        table.write_text(line_)
        line = one_line(lambda: Fuss(root, "reverb"))
        assert "line 1 of" in line and "eval_example_list.txt" in line and f"'{name}' leads out" in line


def test_sounds_that_a_run_kept_are_of_its_own_folder(tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir()
    soundfile.write(tmp_path / "private.flac", np.zeros(10), 8000)
    (folder / "linked.flac").symlink_to(tmp_path / "private.flac")
    for name in ("../private.flac", str(tmp_path / "private.flac"), "linked.flac", ".."):
        sound = {"file": name, "label": "", "quieter_db": 0.0}
        scene = {"place": "best", "scene": "s", "value": 1.0, "sample_rate_hz": 8000, "mixture": sound}
        scene |= {"pairs": [], "said": None}
        listed = {"format": 1, "split": "test", "metric": "si_sdri", "unit": "dB", "n_scenes": 1, "scenes": [scene]}
        (folder / LISTED).write_text(json.dumps(listed))
        assert f"'{name}' is no file of its own folder" in one_line(lambda: read_sounds(tmp_path))


@pytest.mark.parametrize("name", ["../../evil-{hash}", "/tmp/evil-{hash}", ".evil-{hash}", "a\\evil-{hash}"])
def test_the_id_of_a_run_is_a_name(tmp_path, name):
    file = put(tmp_path) / "run.json"
    run = json.loads(file.read_text())
    file.write_text(json.dumps({**run, "id": name.format(hash=run["id"][-8:])}))
    assert "no name of a folder" in one_line(lambda: read_runs(tmp_path))


def test_a_run_of_somebody_else_has_no_file_copied_that_is_no_sound(tmp_path):
    (tmp_path / "id_rsa").write_text("secret")
    soundfile.write(tmp_path / "a.wav", np.zeros(10), 8000)
    files = {"a": {"references": [str(tmp_path / "a.wav")], "estimates": [str(tmp_path / "id_rsa")]}}
    record = SimpleNamespace(path=tmp_path / "run", provenance={"files": files})
    assert "id_rsa: is no sound" in one_line(lambda: copy_listed(record, ["a"], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


# recipes from elsewhere


def a_recipe(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "method.py").write_text(METHOD)
    return folder


def said(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    load_class(load_recipe(folder))
    return capsys.readouterr().err


def test_a_recipe_from_elsewhere_is_told_once_and_again_when_it_has_changed(tmp_path, capsys):
    folder = a_recipe(tmp_path / "sent" / "shares")
    line = said(folder, capsys)
    assert line == f"{folder}: a recipe is Python code, and this one is from elsewhere; it runs with your rights. Said once.\n"
    trust._said.clear()  # as in another process: the cache remembers
    assert said(folder, capsys) == ""
    (folder / "helper.py").write_text("x = 1\n")
    assert "from elsewhere and has changed since it last ran" in said(folder, capsys)
    trust._said.clear()
    assert said(folder, capsys) == ""
    assert "this one is from elsewhere;" in said(a_recipe(tmp_path / "other" / "shares"), capsys)  # another place is another


def test_of_ones_own_and_of_sepbenchs_recipes_nothing_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("new", "my_method")[0] == 0 and call("copy", "mixture", "my_mixture")[0] == 0
    capsys.readouterr()
    (tmp_path / "my_method" / "method.py").open("a").write("\n# changed\n")
    for folder in (tmp_path / "my_method", tmp_path / "my_mixture", home() / "baselines" / "mixture"):
        assert said(folder, capsys) == ""
    folder = a_recipe(tmp_path / "installed")
    trust.say_once(Found("installed", folder, "package x", "x.installed"))
    assert capsys.readouterr().err == ""


def test_where_the_cache_cannot_be_written_it_is_told_once_per_process(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEPBENCH_CACHE", str(tmp_path / "file" / "cache"))
    folder = a_recipe(tmp_path / "sent" / "shares")
    assert "from elsewhere" in said(folder, capsys) and said(folder, capsys) == ""


def test_a_damaged_memory_is_written_anew(tmp_path, capsys):
    folder = a_recipe(tmp_path / "sent" / "shares")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / trust.FILE).write_text("[")
    assert "from elsewhere" in said(folder, capsys)
    assert json.loads((tmp_path / "cache" / trust.FILE).read_text()) == {str(folder): trust.content_of(folder)}
