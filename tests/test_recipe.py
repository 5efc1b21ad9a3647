"""recipe.yaml is checked to the last key, and what it resolves to is what the user asked for."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
import yaml

from sepbench.errors import UserError
from sepbench.recipe import build, load_recipe
from sepbench.results_format import learns_from
from sepbench.scene import TaskInfo

RECIPE = {
    "name": "Tiny separator",
    "paper": {"title": "A title", "authors": "Somebody", "year": 2020},
    "method": "method.py:Tiny",
    "supervision": "weak",
    "task": "urban_events",
    "params": {
        "labels": {"default": "frame", "choices": ["strong", "frame", "clip"], "help": "what training may see"},
        "alpha": {"default": 100.0, "min": 0, "help": "weight of the mixture loss, eq. 10"},
        "mel_bins": {"default": None, "choices": [None, 10, 40], "help": "null: linear frequency"},
        "augment": {"default": False},
    },
    "task_params": {
        "lambda": {"path": "mixing.rate", "default": 5.0, "exclusive_min": 0, "help": "mean number of events"},
        "test_lambda": {"path": "mixing.test_rate", "default": None, "exclusive_min": 0},
    },
    "variants": [
        {"when": {"labels": "strong"}, "supervision": "isolated"},
        {"when": {"labels": "clip"}, "labels_seen": "clip"},
    ],
    "profiles": {
        "quick": {
            "corpus": "synthetic", "minutes": 3, "train": {"steps": 10, "lr": 1e-3}, "sizes": {"hidden": 8},
            "task": {"scenes": {"test": 20}}, "params": {"alpha": 10},
        },
        "paper": {"train": {"steps": 1000, "lr": 1e-4}, "sizes": {"hidden": 600}},
    },
    "inner": {"recipe": "recipes/weak_label"},
    "tables": {
        "V": {
            "title": "Labels", "metric": "si_sdri", "when": {"lambda": 5},
            "rows": [{"published": name, "when": {"labels": name}} for name in ("strong", "frame", "clip")],
            "published": {"paper": "weak_label", "table": "V"},
        },
        "VI": {
            "title": "Two ways", "metric": "si_sdri", "rows": [{"when": {"mel_bins": 10}}, {"when": {"mel_bins": 40}}],
            "columns": [{"when": {"labels": "frame"}}, {"when": {"labels": "clip"}}, {"when": {"labels": "clip"}}],
        },
    },
}  # fmt: skip
METHOD = """
class Tiny:
    def __init__(self, settings, task, inner=None):
        self.settings, self.task, self.inner = settings, task, inner
"""


def write(folder: Path, change=None) -> Path:
    """A recipe folder, with `change` made to its YAML."""
    recipe = copy.deepcopy(RECIPE)
    if change:
        change(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    (folder / "method.py").write_text(METHOD)
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return write(tmp_path / "contest" / "tiny")


@pytest.fixture
def recipe(folder):
    return load_recipe(folder)


def test_a_resolved_configuration_holds_all_that_a_run_needs(recipe):
    config, options = recipe.resolve("quick")
    assert (config["recipe"], config["name"], config["kind"], config["profile"]) == (
        "tiny",
        "Tiny separator",
        "recipe",
        "quick",
    )
    assert (config["supervision"], config["labels_seen"], config["seed"], config["inner"]) == ("weak", "frame", 0, None)
    assert config["params"] == {"labels": "frame", "alpha": 10.0, "mel_bins": None, "augment": False}
    assert config["train"] == {"steps": 10, "lr": 1e-3} and config["sizes"] == {"hidden": 8}
    assert config["task"]["mixing"]["rate"] == 5.0 and config["task"]["scenes"]["test"] == 20
    assert options == {**config["params"], "lambda": 5.0, "test_lambda": None}
    assert json.loads(json.dumps(config)) == config


def test_later_wins_default_profile_option_set(recipe):
    assert recipe.resolve("paper")[1]["alpha"] == 100.0
    assert recipe.resolve("quick")[1]["alpha"] == 10.0
    assert recipe.resolve("quick", {"alpha": 3})[1]["alpha"] == 3.0
    assert recipe.resolve("quick", {"alpha": 3}, ["params.alpha=4"])[1]["alpha"] == 4.0


def test_a_setting_that_is_an_option_is_that_option(recipe):
    config, options = recipe.resolve("quick", {}, ["task.mixing.rate=7", "params.labels=strong"])
    assert options["lambda"] == config["task"]["mixing"]["rate"] == 7.0
    assert config["supervision"] == "isolated"


def test_whole_numbers_and_fractions_of_one_value_resolve_alike(recipe):
    assert recipe.resolve("quick", {"lambda": 5}) == recipe.resolve("quick", {"lambda": 5.0}) == recipe.resolve("quick")
    assert type(recipe.resolve("quick", {"lambda": 5})[1]["lambda"]) is float


def test_variants_change_the_claim(recipe):
    claims = {name: recipe.resolve("quick", {"labels": name})[0] for name in ("strong", "frame", "clip")}
    told = {name: (config["supervision"], config["labels_seen"]) for name, config in claims.items()}
    assert told == {"strong": ("isolated", "frame"), "frame": ("weak", "frame"), "clip": ("weak", "clip")}


def test_the_corpus_is_never_a_silent_choice(recipe):
    def corpus(profile, data=None, corpus=None):
        return recipe.resolve(profile, data=data, corpus=corpus)[0]["task"]["corpus"]

    assert corpus("quick") == "synthetic"
    assert corpus("paper") == "urbansound8k"
    assert corpus("quick", {"urbansound8k": "somewhere"}) == "urbansound8k"
    assert corpus("quick", {"esc50": "somewhere"}) == "synthetic"
    assert corpus("paper", {"urbansound8k": "somewhere"}, "synthetic") == "synthetic"


def test_settings_of_the_split_that_is_not_used_are_refused(recipe):
    with pytest.raises(UserError, match="split by fold. Leave it away, or add --set task.splits.by=rec"):
        recipe.resolve("quick", {}, ["task.splits.folds=[1, 2]"])
    sets = ["task.splits.folds=[1, 2]", "task.splits.by=recording"]
    assert recipe.resolve("quick", {}, sets)[0]["task"]["splits"]["folds"] == [1, 2]
    with pytest.raises(UserError, match="split by recording. Leave"):
        recipe.resolve("quick", {}, ["task.splits.test=[10]", "task.splits.by=recording"])


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("train.steps=20", ("train", "steps"), 20),
        ("train.lr=1e-5", ("train", "lr"), 1e-5),
        ("train.lr=1", ("train", "lr"), 1.0),
        ("task.splits.test=[10]", ("task", "splits", "test"), [10]),
        ("task.splits.by=recording", ("task", "splits", "by"), "recording"),
        ("task.mixing.cut_s=[1, 2.5]", ("task", "mixing", "cut_s"), [1, 2.5]),
        ("task.foreground_only=false", ("task", "foreground_only"), False),
        ("task.mixing.test_rate=null", ("task", "mixing", "test_rate"), None),
    ],
)
def test_set_reaches_every_other_setting_in_its_own_type(recipe, text, path, value):
    found = recipe.resolve("quick", {}, [text])[0]
    for name in path:
        found = found[name]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train.stepz=20", "train.stepz: there is no such setting. Did you mean 'train.steps'?"),
        ("tain.steps=20", "Did you mean 'train.steps'?"),
        ("supervision=oracle", "Known: params, sizes, task, train."),
        ("train={a: 1}", "that is a group. Set one of train.steps, train.lr."),
        ("train.steps", "wanted PATH=VALUE"),
        ("train.steps=many", "got 'many', wanted a whole number"),
        ("train.steps=true", "wanted a whole number"),
        ("train.steps=null", "wanted a whole number"),
        ("train.lr=.inf", "wanted a number"),
        ("task.splits.test=10", "wanted a list such as [9, 10]"),
        ("task.splits.test=[a]", "wanted a list such as [9, 10]"),
        ("task.splits.test=[10", "is not YAML"),
        ("task.mixing.rate=0", "lambda: got '0'; allowed: a number above 0."),
        ("params.labels=weak", "allowed: strong, frame, clip"),
    ],
)
def test_a_wrong_set_is_refused_in_one_line(recipe, text, said):
    with pytest.raises(UserError) as error:
        recipe.resolve("quick", {}, [text])
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lambda": 0}, "lambda: got '0'; allowed: a number above 0."),
        ({"lambda": "nan"}, "allowed: a number above 0."),
        ({"lambda": float("inf")}, "allowed: a number above 0."),
        ({"lambda": None}, "lambda: got 'null'"),
        ({"alpha": -1}, "alpha: got '-1'; allowed: a number of at least 0."),
        ({"alpha": "much"}, "alpha: got 'much'"),
        ({"labels": "frames"}, "labels: got 'frames'; allowed: strong, frame, clip. Did you mean 'frame'?"),
        ({"mel_bins": 11}, "mel_bins: got '11'; allowed: null, 10, 40."),
        ({"mel_bins": 10.5}, "allowed: null, 10, 40."),
        ({"augment": 1}, "augment: got '1'; allowed: true or false."),
        ({"lamda": 5}, "lamda: Tiny separator has no such option. Did you mean 'lambda'?"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_in_one_line(recipe, options, said):
    with pytest.raises(UserError) as error:
        recipe.resolve("quick", options)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_text_from_a_command_line_is_read_in_the_options_type(recipe):
    options = recipe.resolve("quick", {"mel_bins": "40", "lambda": "1e1", "test_lambda": "null", "augment": "true"})[1]
    assert (options["mel_bins"], options["lambda"], options["test_lambda"], options["augment"]) == (
        40,
        10.0,
        None,
        True,
    )


def test_a_test_changes_the_task_and_nothing_else(recipe):
    trained, options = recipe.resolve("quick", {"alpha": 3})
    sets = ["task.splits.test=[10]", "task.mixing.rate=7"]
    config, values = recipe.retarget(trained, options, sets, {"urbansound8k": "somewhere"})
    assert config["task"]["splits"]["test"] == [10] and config["task"]["corpus"] == "urbansound8k"
    assert config["task"]["mixing"]["rate"] == values["lambda"] == 7.0 and values["alpha"] == 3.0
    assert {**config, "task": None} == {**trained, "task": None}
    assert trained == recipe.resolve("quick", {"alpha": 3})[0]
    assert recipe.retarget(trained, options, [], {}) == (trained, options)
    for text in ("params.alpha=5", "train.steps=5", "seed=3"):
        with pytest.raises(UserError, match="what was learnt stays as it is"):
            recipe.retarget(trained, options, [text], {})
    with pytest.raises(UserError, match="Did you mean 'task.splits.test'"):
        recipe.retarget(trained, options, ["task.splits.tets=[1]"], {})


def test_a_row_has_runs_in_the_columns_that_it_names(tmp_path):
    def change(r):
        r["tables"]["VI"]["columns"] = [{"published": "one", "when": {"alpha": 1}}, {"published": "two", "when": {"alpha": 2}}]
        r["tables"]["VI"]["rows"] = [{"when": {"labels": "frame"}, "columns": ["two"]}, {"when": {"labels": "clip"}}]

    cells = load_recipe(write(tmp_path / "tiny", change)).grid("VI")
    assert [(cell["labels"], cell["alpha"]) for cell in cells] == [("frame", 2), ("clip", 1), ("clip", 2)]


def test_an_oracle_that_learns_says_what_from_and_nobody_else_does(tmp_path):
    def change(r):
        r["variants"] = [{"when": {"labels": "strong"}, "supervision": "oracle", "learns_from": "isolated"}]

    recipe = load_recipe(write(tmp_path / "tiny", change))
    oracle, usual = (recipe.resolve("quick", {"labels": labels})[0] for labels in ("strong", "frame"))
    assert (oracle["supervision"], oracle["learns_from"]) == ("oracle", "isolated")
    assert "learns_from" not in usual
    assert [learns_from(each) for each in (oracle, usual, {"supervision": "oracle"}, {"supervision": "none"})] == [
        "isolated", usual["supervision"], None, None,
    ]  # fmt: skip


def test_an_unknown_profile_is_refused(recipe):
    with pytest.raises(UserError, match="--profile: got 'quik'; there is quick, paper. Did you mean 'quick'?"):
        recipe.resolve("quik")


WRONG = {
    "misspelt key": (
        lambda r: r.update(suprvision=r.pop("supervision")),
        "unknown key 'suprvision'. Did you mean 'supervision'?",
    ),
    "misspelt inner key": (
        lambda r: r["params"]["alpha"].update(hlep="x"),
        "params.alpha: unknown key 'hlep'. Did you mean 'help'?",
    ),
    "misspelt profile key": (lambda r: r["profiles"]["quick"].update(trian={}), "profiles.quick: unknown key 'trian'"),
    "misspelt column key": (
        lambda r: r["tables"]["VI"]["columns"][0].update(wen={}),
        "unknown key 'wen'. Did you mean 'when'?",
    ),
    "unknown supervision": (lambda r: r.update(supervision="weka"), "supervision: got 'weka'"),
    "missing key": (lambda r: r.pop("method"), "method: Field required"),
    "default out of range": (lambda r: r["params"]["alpha"].update(default=-1), "params.alpha.default: got '-1'"),
    "default no choice": (lambda r: r["params"]["labels"].update(default="soft"), "params.labels.default: got 'soft'"),
    "variant of nothing": (lambda r: r["variants"][0].update(when={"lables": "strong"}), "Did you mean 'labels'?"),
    "variant value": (lambda r: r["variants"][0].update(when={"labels": "stong"}), "Did you mean 'strong'?"),
    "profile of nothing": (lambda r: r["profiles"]["quick"].update(params={"alhpa": 1}), "profiles.quick.params.alhpa"),
    "table value": (lambda r: r["tables"]["V"].update(when={"lambda": 0}), "tables.V: when.lambda: got '0'"),
    "option of the command": (lambda r: r["params"].update(seed={"default": 1}), "seed: an option's name"),
    "option twice": (
        lambda r: r["params"].update({"lambda": {"default": 1}}),
        "lambda: stands in params and in task_params",
    ),
    "teacher of no oracle": (lambda r: r.update(learns_from="weak"), "learns_from: says what an oracle learns from"),
    "teacher of no oracle in a variant": (
        lambda r: r["variants"][0].update(learns_from="weak"),
        "learns_from: says what an oracle learns from",
    ),
    "unknown teacher": (lambda r: r.update(supervision="oracle", learns_from="strong"), "learns_from: got 'strong'"),
    "row of no column": (
        lambda r: r["tables"]["VI"]["rows"][0].update(columns=["nothing"]),
        "tables.VI: rows: columns: there is no 'nothing'",
    ),
    "no method class": (lambda r: r.update(method="method.py"), "method: "),
    "no mapping": (lambda r: r["params"].update(alpha=3), "params.alpha: got 3, wanted the keys default"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_recipe_is_refused_in_one_line_with_file_and_key(tmp_path, what):
    change, said = WRONG[what]
    with pytest.raises(UserError) as error:
        load_recipe(write(tmp_path / "tiny", change))
    assert said in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "tiny" / "recipe.yaml"))


def test_a_path_that_the_task_does_not_have_is_refused(tmp_path):
    folder = write(tmp_path / "tiny", lambda r: r["task_params"]["lambda"].update(path="mixing.speed"))
    with pytest.raises(UserError, match="task_params.lambda.path: task 'urban_events' has no 'mixing.speed'"):
        load_recipe(folder).resolve("quick")


def test_a_key_that_stands_twice_and_broken_yaml_are_refused(folder):
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text + "\nname: Another\n")
    with pytest.raises(UserError, match="key 'name' stands twice"):
        load_recipe(folder)
    (folder / "recipe.yaml").write_text("name: X\nparams: [unclosed\n")
    with pytest.raises(UserError, match=r"recipe.yaml: not YAML: [^\n]* \(line 3, column 1\)\. Mend it there\.$"):
        load_recipe(folder)
    (folder / "recipe.yaml").write_text("")
    with pytest.raises(UserError, match="recipe.yaml: got None, wanted the keys"):
        load_recipe(folder)


def test_numbers_with_an_exponent_are_numbers(folder):
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("lr: 0.0001", "lr: 1e-4"))
    assert load_recipe(folder).resolve("paper")[0]["train"]["lr"] == 1e-4


def test_an_unknown_folder_is_answered_with_the_nearest(folder, monkeypatch):
    with pytest.raises(UserError, match=f"Did you mean '{folder}'"):
        load_recipe(folder.parent / "tinny")
    (folder.parent / "recipes").mkdir()
    folder.rename(folder.parent / "recipes" / "tiny")
    monkeypatch.chdir(folder.parent)
    for named in ("recipe/tiny", "recipes/tniy"):
        with pytest.raises(UserError, match="Did you mean 'recipes/tiny'"):
            load_recipe(named)


def test_a_table_is_a_grid_of_runs_each_once(recipe):
    assert recipe.grid("V") == [{"lambda": 5, "labels": name} for name in ("strong", "frame", "clip")]
    assert len(recipe.grid("VI")) == 4
    with pytest.raises(UserError, match="--table: got 'IV'; Tiny separator has V, VI"):
        recipe.grid("IV")


def test_tables_travel_as_plain_values(recipe):
    plain = recipe.tables_plain()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["V"]["columns"] == "classes" and plain["V"]["rows"][0] == {
        "published": "strong",
        "when": {"labels": "strong"},
    }


TASK = TaskInfo(("car_horn", "siren"), 16000, 1, 2, 4.0)


def test_a_method_is_built_from_frozen_settings(recipe):
    method = build(recipe, recipe.resolve("quick")[0], TASK)
    assert method.settings.params.alpha == 10.0 and method.settings.train.lr == 1e-3
    assert method.settings.sizes.hidden == 8 and method.settings.seed == 0 and method.task is TASK
    with pytest.raises(AttributeError, match="frozen"):
        method.settings.params.alpha = 3
    with pytest.raises(AttributeError, match="no setting 'alhpa'. Did you mean 'alpha'"):
        _ = method.settings.params.alhpa
    assert pickle.loads(pickle.dumps(method.settings)) == method.settings
    assert copy.deepcopy(method.settings) == method.settings


def test_the_method_that_is_wrapped_is_handed_over(recipe):
    config = recipe.resolve("quick")[0]
    inner = build(recipe, config, TASK)
    assert inner.inner is None and build(recipe, config, TASK, inner).inner is inner


def test_an_inner_run_must_be_a_run_of_the_recipe_named(recipe, tmp_path):
    with pytest.raises(UserError, match="that is no run"):
        recipe.resolve("quick", inner=tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"config": {"recipe": "other"}}))
    with pytest.raises(UserError, match="that is a run of other; Tiny separator wraps recipes/weak_label"):
        recipe.resolve("quick", inner=tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"config": {"recipe": "weak_label"}}))
    assert recipe.resolve("quick", inner=tmp_path)[0]["inner"] == {"recipe": "recipes/weak_label", "run": str(tmp_path)}


def test_a_recipe_may_wrap_runs_of_several(tmp_path):
    several = {"recipe": ["recipes/weak_label", "recipes/sepclsnet"]}
    recipe = load_recipe(write(tmp_path / "tiny", lambda r: r.update(inner=several)))
    for name in ("weak_label", "sepclsnet"):
        (tmp_path / "run.json").write_text(json.dumps({"config": {"recipe": name}}))
        assert recipe.resolve("quick", inner=tmp_path)[0]["inner"] == {"recipe": f"recipes/{name}", "run": str(tmp_path)}
    (tmp_path / "run.json").write_text(json.dumps({"config": {"recipe": "other"}}))
    with pytest.raises(UserError, match="that is a run of other; Tiny separator wraps recipes/weak_label or recipes/sepclsnet"):
        recipe.resolve("quick", inner=tmp_path)


def test_a_method_that_is_not_there_is_named(tmp_path):
    recipe = load_recipe(write(tmp_path / "contest" / "lost", lambda r: r.update(method="method.py:Tinny")))
    with pytest.raises(UserError, match="recipe.yaml: method: method.py has no class Tinny. Did you mean 'Tiny'"):
        build(recipe, recipe.resolve("quick")[0], TASK)


def test_a_part_of_a_corpus_is_not_passed_over_in_silence(repo: Path):
    recipe = load_recipe(repo / "recipes/itdcnpp").on("common")
    assert recipe.resolve("quick", data={"esc50": "x", "urbansound8k": "y"})[0]["task"]["corpus"] == "esc50+urbansound8k"
    assert recipe.resolve("quick", data={"fuss": "x"})[0]["task"]["corpus"] == "synthetic"
    assert recipe.resolve("quick", data={"esc50": "x"}, corpus="esc50")[0]["task"]["corpus"] == "esc50"
    with pytest.raises(UserError, match="mixes esc50 and urbansound8k, and urbansound8k is not given"):
        recipe.resolve("quick", data={"esc50": "x"})
