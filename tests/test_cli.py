"""The command line: what it offers, what it refuses, and how it says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from sepbench.cli import main
from sepbench.errors import UserError
from sepbench.options_recipe import grid
from sepbench.recipe import RESERVED, load_recipe

RECIPE = {
    "name": "Tiny separator",
    "method": "method.py:Tiny",
    "supervision": "weak",
    "task": "urban_events",
    "params": {
        "labels": {"default": "frame", "choices": ["strong", "frame", "clip"], "help": "what training may see"},
        "alpha": {"default": 100.0, "min": 0, "help": "weight of the mixture loss, eq. 10"},
        "mel_bins": {"default": None, "choices": [None, 10, 40]},
    },
    "task_params": {
        "lambda": {"path": "mixing.rate", "default": 5.0, "exclusive_min": 0, "help": "mean number of events"}
    },
    "profiles": {"quick": {"corpus": "synthetic", "minutes": 3, "train": {"steps": 10}, "params": {"alpha": 10}}},
    "tables": {
        "V": {
            "title": "Labels",
            "metric": "si_sdri",
            "rows": [{"when": {"labels": name}} for name in ("strong", "clip")],
        }
    },
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A recipe at recipes/tiny of the working folder."""
    monkeypatch.chdir(tmp_path)
    folder = Path("recipes/tiny")
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    (folder / "method.py").write_text("class Tiny: ...\n")
    return folder


def call(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(args), prog_name="sepbench")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def refused(*args: str) -> str:
    """The one line with which the command was refused."""
    code, out, err = call(*args)
    assert code == 2 and out == "" and err.startswith("sepbench: ") and err.count("\n") == 1, (code, out, err)
    return err


def sepbench(*args: str, **how) -> subprocess.CompletedProcess:
    code = "from sepbench.cli import main; main(prog_name='sepbench')"
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, **how)


def test_help_lists_the_commands():
    code, out, _ = call("--help")
    assert code == 0 and all(name in out for name in ("run", "test", "separate", "table", "data", "ls"))


def test_no_command_is_answered_with_help():
    code, out, _ = call()
    assert code == 2 and "Commands:" in out


def test_help_of_a_recipe_lists_its_own_options_with_default_choices_and_equation(folder):
    code, out, _ = call("run", str(folder), "--help")
    assert code == 0
    text = " ".join(out.split())
    assert "Options of Tiny separator" in text
    assert "--alpha FLOAT weight of the mixture loss, eq. 10 [default: 100.0; quick: 10.0]" in text
    assert "--labels strong|frame|clip" in text and "--mel-bins null|10|40" in text and "--lambda FLOAT" in text
    assert "quick about 3 minutes, corpus synthetic" in text and "V Labels (2 runs)" in text


def test_help_without_a_recipe_says_how_to_get_its_options():
    code, out, _ = call("run", "--help")
    assert code == 0 and "sepbench run RECIPE --help" in out and "--profile" in out


def test_a_recipe_may_stand_anywhere_on_the_line(folder):
    assert "above 0" in refused("run", "--again", "--alpha", "3", str(folder), "--lambda", "0")
    assert "above 0" in refused("run", "--lambda=0", "--seed", "1", str(folder))


def test_no_option_of_the_command_can_be_taken_by_a_recipe():
    params = [param for name in ("run", "sweep") for param in main.commands[name].params]
    flags = (name for param in params for name in param.opts if name.startswith("--"))
    names = {name.removeprefix("--").replace("-", "_") for name in flags}  # as recipe.yaml would have to write them
    assert names | {"help"} == set(RESERVED)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["rnu"], "no such command 'rnu'. Did you mean 'run'?"),
        (["run"], "missing argument 'RECIPE...'"),
        (["run", "recipes/tniy"], "Did you mean 'recipes/tiny'?"),
        (["run", "recipes/tiny", "--lamda", "5"], "no such option --lamda. Did you mean '--lambda'?"),
        (["run", "recipes/tiny", "--xyzzy", "5"], "no such option --xyzzy. `sepbench run recipes/tiny --help` lists"),
        (["run", "recipes/tiny", "--labels", "frames"], "--labels: got 'frames'; allowed: strong, frame, clip."),
        (["run", "recipes/tiny", "--lambda", "5,0"], "--lambda: got '0'; allowed: a number above 0."),
        (["run", "recipes/tiny", "--lambda", "-1"], "--lambda: got '-1'"),
        (["run", "recipes/tiny", "--lambda", ""], "--lambda: got ''"),
        (["run", "recipes/tiny", "--profile", "quik"], "--profile: got 'quik'; there is quick. Did you mean 'quick'?"),
        (["run", "recipes/tiny", "--table", "VI"], "--table: got 'VI'; Tiny separator has V."),
        (["run", "recipes/tiny", "--table", "V", "--labels", "clip"], "--labels: table V sets that itself."),
        (["run", "recipes/tiny", "--set", "train.stepz=1"], "Did you mean 'train.steps'?"),
        (["run", "recipes/tiny", "--data", "urbansound9k=x"], "Did you mean 'urbansound8k'?"),
        (["run", "recipes/tiny", "--data", "urbansound8k"], "wanted NAME=DIR"),
        (["run", "recipes/tiny", "--corpus", "esc05"], "Did you mean 'esc50'?"),
        (["run", "recipes/tiny", "--inner", "nothing"], "--inner nothing: no run there"),
        (["run", "recipes/tiny", "--device", "gpu"], "'gpu' is not one of 'auto', 'cpu', 'cuda'. Did you mean 'cuda'?"),
        (["run", "recipes/tiny", "--device", "cudda"], "Did you mean 'cuda'?"),
        (["run", "recipes/tiny", "--threads", "0"], "--threads"),
        (["run", "recipes/tiny", "--budget", "scenes=0"], "wanted a whole number of scenes above 0."),
        (["run", "recipes/tiny", "--budget", "scenes=2.5"], "wanted a whole number of scenes above 0."),
        (["run", "recipes/tiny", "--budget", "minutes=nan"], "wanted a number of minutes above 0."),
        (["run", "recipes/tiny", "--budget", "minuts=3"], "Did you mean 'minutes'?"),
        (["run", "recipes/tiny", "--budget", "30"], "wanted minutes=N or scenes=N."),
        (["test", "results/runs/nothing"], "no run there (no run.json)"),
        (["separate", "run", "nothing.wav", "-o", "out"], "nothing.wav: no such file."),
        (["separate", "run", "nothing.wav"], "missing option '-o'"),
        (["data", "urbansound9k"], "Did you mean 'urbansound8k'?"),
        (["data", "verfy", "esc50"], "Did you mean 'verify'?"),
        (["data", "verify", "esc05"], "Did you mean 'esc50'?"),
        (["data", "esc50", "--data", "esc50=nowhere"], "nowhere"),
        (["data", "priors", "urbansound8k", "--metadata", "nothing.csv"], "nothing.csv: no such file."),
        (["data", "priors", "urbansound8k", "--metadata", "x", "--lambda", "0"], "got '0', wanted numbers such as"),
        (["data", "priors", "urbansound8k", "--metadata", "x", "--folds", "6-1"], "got '6-1', wanted folds such as"),
        (["run", "recipes/tiny", "--seed", "0,1", "--devices", "2", "-j", "2"], "--devices 2: so trained, one run follows"),
        (["run", "recipes/tiny", "--begin-with", ".", "--cluster", "local"], "no run there"),
        (["run", "recipes/tiny", "--seed", "4..0"], "4..0 ends before it begins"),
        (["run", "recipes/tiny", "--seed", "0..100000"], "100,001 seeds; 1,000 at most"),
        (["run", "recipes/tiny", "--seed", "9" * 20], "wanted seeds from 0 to 4294967295"),
        (["run", "recipes/tiny", "--seed", "4294967296"], "wanted seeds from 0 to 4294967295"),
        (["run", "recipes/tiny", "--seed", ""], "--seed '': wanted a whole number"),
        (["table", "nowhere"], "nowhere"),
        (["ls", "nowhere"], "nowhere"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(folder, args, said):
    before = sorted(Path().rglob("*"))
    assert said in refused(*args)
    assert sorted(Path().rglob("*")) == before


def test_several_nodes_do_not_search(folder, monkeypatch):
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517", "NODE_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    nodes = (str(folder), "--nodes", "2")
    assert "--search: its trials are chosen on one machine" in refused("sweep", *nodes, "--search", "random", "--trials", "20")


def test_a_misspelt_run_is_answered_with_the_nearest(folder):
    run = Path("results/runs/tiny-quick-synthetic-0123abcd")
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    assert f"Did you mean '{run}'?" in refused("test", "results/runs/tiny-quick-synthetic-0123abce")
    assert f"Did you mean '{run}'?" in refused("test", "tiny-quick-synthetic-0123abce")


def test_lists_of_values_are_a_grid(folder):
    recipe = load_recipe(folder)
    assert grid(recipe, {}, None) == [{}]
    assert grid(recipe, {"lambda": [5.0, 10.0], "labels": ["frame", "clip"]}, None) == [
        {"lambda": rate, "labels": name} for rate in (5.0, 10.0) for name in ("frame", "clip")
    ]
    assert grid(recipe, {"lambda": [10.0]}, "V") == [
        {"labels": "strong", "lambda": 10.0},
        {"labels": "clip", "lambda": 10.0},
    ]
    with pytest.raises(UserError):
        grid(recipe, {"labels": ["frame"]}, "V")


def test_the_built_in_corpus_is_described_and_the_absent_ones_say_where_to_get_them(monkeypatch):
    for name in list(os.environ):
        if name.startswith("SEPBENCH_DATA"):
            monkeypatch.delenv(name)
    code, out, _ = call("data")
    assert code == 0
    assert "synthetic: " in out and "siren" in out and "Licence:" in out
    assert "urbansound8k: not found" in out and "--data urbansound8k=DIR" in out and "https://" in out
    assert call("data", "synthetic")[1] in out


def test_an_empty_folder_of_results_is_no_error(tmp_path):
    for command in ("table", "ls"):
        code, out, _ = call(command, str(tmp_path))
        assert code == 0 and out.strip()


def test_a_run_of_another_version_is_refused(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"format": 99}))
    assert "format 99" in refused("table", str(tmp_path))


def test_failures_are_one_line_in_a_real_process_too(folder):
    done = sepbench("run", "recipes/tiny", "--lambda", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "sepbench: --lambda: got '0'; allowed: a number above 0.\n"


def test_a_full_disk_is_one_line(folder):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        code = "from sepbench.cli import main; main(['data', 'synthetic'])"
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and "No space left on device" in done.stderr and "Traceback" not in done.stderr


def test_ctrl_c_that_falls_into_a_callback_is_heard_all_the_same():
    """Python prints such an exception and goes on."""
    code = (
        "import os, signal, time, weakref\nfrom sepbench.cli import main\n"
        "class Thing: ...\n"
        "@main.command()\ndef wait():\n"
        "    thing = Thing()\n"
        "    held = weakref.ref(thing, lambda _: (os.kill(os.getpid(), signal.SIGINT), time.sleep(1)))\n"
        "    del thing\n    time.sleep(20)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "main(['wait'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.strip() == "sepbench: stopped; the same command goes on where it stopped."


def test_stopping_is_one_line_that_says_how_to_go_on():
    code = (
        "import click, time\nfrom sepbench.cli import main\n"
        "@main.command()\ndef wait():\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "main(['wait'])"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert err.strip() == "sepbench: stopped; the same command goes on where it stopped."
