"""A search over a recipe's declared ranges. Optuna chooses the settings and keeps what was tried, on disk, trial by trial."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sepbench.errors import SettingsRefused, UserError, in_a_line
from sepbench.metrics import METRICS
from sepbench.ranges import Dimension
from sepbench.storage import FolderLock, locked, read_json, write_bytes
from sepbench.sweep_plan import CACHED, PlannedRun
from sepbench.sweep_spec import Outcome
from sepbench.worst import PREFERRED

NAME = "search"  # of the one study in a journal
RESTORE = "Restore it, or move it away: the study then begins anew, and takes the runs that are there."
SPLIT = "valid"  # trials are chosen by these scenes, so that no test scene has had a say in what is tested


@dataclass(frozen=True)
class Wanted:
    """A search as it is asked for."""

    kind: str  # random | optuna
    trials: int
    metric: str | None  # None: the first of PREFERRED that the trials measure
    seed: int
    dimensions: Sequence[Dimension]
    base: Mapping[str, Any]  # the configuration that every trial shares

    @property
    def key(self) -> str:
        """The same for the same search, however many trials of it are asked for."""
        told = {
            "kind": self.kind, "metric": self.metric, "seed": self.seed, "base": self.base,
            "ranges": {each.name: each.range.model_dump() for each in self.dimensions},
        }  # fmt: skip
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]


@dataclass
class Search:
    """The trials of a study in `folder`, which one process at a time may add to."""

    folder: Path
    wanted: Wanted
    plan: Callable[[Mapping[str, Any], str], PlannedRun]  # (value by dimension, name) -> its run, or SettingsRefused
    at_a_time: int
    progress: Any
    n_failed: int = 0  # trials that had not been refused, and are to be tried again: after one, no further is begun
    _by_run: dict[str, list[Any]] = field(default_factory=dict)  # run under way -> its trials: a draw may come twice

    def __post_init__(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.optuna = optuna
        self._lock = _locked(self.folder)
        try:
            self.study = self._open()
            self._take_up()
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Let another process go on with the study."""
        self._lock.release()

    @property
    def n_ended(self) -> int:
        """Trials that have a figure, or whose run refused its settings."""
        return len(self._ended())

    def runs(self) -> Iterator[PlannedRun]:
        """The runs of the trials that are left, each chosen when it is asked for; no further one once one has failed."""
        while True:
            under_way = sum(len(trials) for trials in self._by_run.values())
            if self.n_failed or self.n_ended + under_way >= self.wanted.trials:
                return
            with _written(self.folder):
                trial, run = self._next()
            if run is None:
                continue
            if run.id in self._by_run:
                self._by_run[run.id].append(trial)
            elif run.state == CACHED:
                self._tell(trial, self.folder / "runs" / run.id)
            else:
                self._by_run[run.id] = [trial]
                yield run

    def done(self, run: PlannedRun, outcome: Outcome) -> None:
        """What has come of the run of a trial."""
        for trial in self._by_run.pop(run.id):
            with _written(self.folder):
                if outcome.folder is None and outcome.refused:
                    self._refuse(trial, outcome.said)
                elif outcome.folder is None:
                    self._fail(trial, outcome.said)
                else:
                    self._tell(trial, outcome.folder)

    def ranking(self) -> tuple[str, list[Any]]:
        """The metric, and the trials that have a figure, the best first. UserError where there is none."""
        there = [trial for trial in self._ended() if trial.value is not None]
        if not there:
            raise UserError(f"{self.folder}: no trial came to a figure. The lines above say why.")
        metric = str(self.study.user_attrs["metric"])
        sign = -1 if METRICS[metric].higher_is_better else 1
        return metric, sorted(there, key=lambda trial: (sign * trial.value, trial.number))

    def _open(self) -> Any:
        _mend(self.folder)
        study = _begun(self.folder, self.wanted)
        if study is None:
            with _readable(self.folder) as storage:
                study = self.optuna.create_study(storage=storage, study_name=NAME, direction=_direction(self.wanted))
        if "key" not in study.user_attrs:
            if self.wanted.metric:
                study.set_user_attr("metric", self.wanted.metric)
            study.set_user_attr("key", self.wanted.key)
        return study

    def _take_up(self) -> None:
        """Trials that were running when a search was stopped, or failed, are queued: their runs go on where they were."""
        state, trials = self.optuna.trial.TrialState, self.study.get_trials(deepcopy=False)
        queued = {trial.user_attrs.get("after") for trial in trials}
        unended = [trial for trial in trials if trial.state in (state.RUNNING, state.FAIL) and "said" not in trial.user_attrs]
        stopped = [trial for trial in unended if trial.number not in queued]
        for trial in stopped:
            self.study.enqueue_trial(trial.params, user_attrs={"after": trial.number, "draw": _draw(trial)})
        for trial in trials:
            if trial.state == state.RUNNING:
                self.study.tell(trial.number, state=state.FAIL)
        if stopped:
            numbers = ", ".join(str(_draw(trial)) for trial in stopped)
            self.progress.say(f"Study {self.folder.name}: goes on with trial{'s' if len(stopped) > 1 else ''} {numbers}")

    def _ended(self) -> list[Any]:
        return _ended(self.study)

    def _next(self) -> tuple[Any, PlannedRun | None]:
        """A trial and its run; None where the recipe refuses such settings, or where the run cannot be planned."""
        draw = sum("after" not in trial.user_attrs for trial in self.study.get_trials(deepcopy=False))
        self.study.sampler = self._sampler(draw)
        trial = self.study.ask()
        if "draw" not in trial.user_attrs:
            trial.set_user_attr("draw", draw)
        values = {each.name: suggested(trial, each) for each in self.wanted.dimensions}
        try:
            return trial, self.plan(values, f"trial {_draw(trial)}")
        except SettingsRefused as error:
            self._refuse(trial, str(error))
        except (UserError, OSError) as error:
            self._fail(trial, in_a_line(error))
        return trial, None

    def _sampler(self, draw: int) -> Any:
        """By the study's seed and how many were drawn before: the same, wherever a search was stopped."""
        seed = int.from_bytes(hashlib.sha256(f"{self.wanted.seed} {draw}".encode()).digest()[:4], "big")
        if self.wanted.kind == "random":
            return self.optuna.samplers.RandomSampler(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.optuna.samplers.TPESampler(seed=seed, constant_liar=self.at_a_time > 1)

    def _tell(self, trial: Any, folder: Path) -> None:
        means = {name: (held.get("all") or {}).get("mean") for name, held in read_json(folder / "metrics.json")[SPLIT].items()}
        metric = self.study.user_attrs.get("metric")
        if metric is None:
            metric = next((name for name in PREFERRED if means.get(name) is not None), None)
            if metric is not None:
                self.study.set_user_attr("metric", metric)
        value = means.get(metric) if metric else None
        if value is None:
            there = ", ".join(name for name in means if name in METRICS) or "no figure at all"
            self._refuse(trial, f"has no {metric or 'figure'} on its validation scenes; it has {there}.")
            return
        trial.set_user_attr("run", folder.name)
        self.study.tell(trial, value)

    def _refuse(self, trial: Any, said: str) -> None:
        trial.set_user_attr("said", said)
        self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)
        self.progress.say(f"trial {_draw(trial)}: {said}")

    def _fail(self, trial: Any, said: str) -> None:
        """It is not the settings: without "said" the trial has not ended, and the next search in this study takes it up."""
        self.n_failed += 1
        self.progress.say(f"trial {_draw(trial)}: {said}")
        self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)


def check_installed(kind: str) -> None:
    """UserError where what a search of this kind needs is not there."""
    if find_spec("optuna") is None:
        raise UserError(f'--search {kind}: optuna is not installed. pip install "sepbench[search]"')


def checked_metric(name: str | None) -> str | None:
    """A metric that a search can go by. UserError where there is none, or where neither more nor less of it is better."""
    from sepbench.metrics import expand

    if name is None:
        return None
    if name not in METRICS:
        members = expand([name], "--metric")
        raise UserError(f"--metric {name}: stands for {', '.join(members)}. Choose one of them.")
    if METRICS[name].higher_is_better is None:
        raise UserError(f"--metric {name}: neither more nor less of it is better. `sepbench metrics` says of which it is.")
    return name


def n_there(folder: Path, wanted: Wanted) -> int:
    """How many trials of the study in `folder` have ended. Changes nothing there."""
    study = _begun(folder, wanted)
    return 0 if study is None else len(_ended(study))


def suggested(trial: Any, dimension: Dimension) -> Any:
    """The value that the study chooses for a dimension of a trial."""
    name, own = dimension.name, dimension.range
    if own.choices is not None:
        return trial.suggest_categorical(name, own.choices)
    if dimension.whole:
        return trial.suggest_int(name, int(own.low or 0), int(own.high or 0), step=int(own.step or 1), log=own.log)
    return trial.suggest_float(name, float(own.low or 0), float(own.high or 0), step=own.step, log=own.log)


def _draw(trial: Any) -> int:
    """Which trial it is; one that was stopped and is begun again keeps its number."""
    return int(trial.user_attrs.get("draw", trial.number))


def _ended(study: Any) -> list[Any]:
    """Trials that have a figure, or whose settings were refused."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state.name == "COMPLETE" or "said" in trial.user_attrs]


def _direction(wanted: Wanted) -> str:
    return "maximize" if METRICS[wanted.metric or PREFERRED[0]].higher_is_better else "minimize"


def _begun(folder: Path, wanted: Wanted) -> Any:
    """The study that lies in `folder`; None where there is none. UserError where it is damaged, or another search's."""
    import optuna

    journal = folder / "study.journal"
    if not journal.exists() or (journal.is_file() and not journal.stat().st_size):
        return None
    with _readable(folder) as storage:
        study = optuna.load_study(study_name=NAME, storage=storage)
        known, trials, directions = study.user_attrs.get("key"), study.get_trials(deepcopy=False), study.directions
    if known not in (None, wanted.key):
        said = "was begun with other settings, ranges or seed. Choose another name, or leave it away."
        raise UserError(f"--study {folder.name}: {said}")
    if [each.name.lower() for each in directions] != [_direction(wanted)] or (known is None and trials):
        raise UserError(f"{journal}: its first lines are missing. {RESTORE}")
    return study


@contextmanager
def _readable(folder: Path) -> Iterator[Any]:
    """The journal in `folder` as Optuna's storage. UserError where it cannot be read, or what it holds is no journal."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    file = folder / "study.journal"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield JournalStorage(JournalFileBackend(str(file)))
    except OSError as error:
        raise UserError(f"{file}: cannot be read or written ({error.strerror}). {RESTORE}") from error
    except Exception as error:  # Optuna believes what it reads: anything may come of a damaged line
        raise UserError(f"{file}: is damaged, or no journal of a study ({type(error).__name__}). {RESTORE}") from error


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """UserError where the disk is full, or gone: what is not in the journal then is tried again."""
    try:
        yield
    except OSError as error:
        why = f"cannot be read or written ({error.strerror or error})"
        raise UserError(f"{error.filename or folder}: {why}. Mend that, and the same command goes on.") from error


def _locked(folder: Path) -> FolderLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}). Choose a folder you may write.") from error
    if locked(folder):
        raise UserError(f"--study {folder.name}: another process is searching in it. Wait for it to end, or stop it.")
    return FolderLock(folder)


def _mend(folder: Path) -> None:
    """Drop what was written of a last line when the power went, or the disk was full, and optuna's lock of a process that died.

    The lock of the study is held. Optuna waits for its own half a minute, and for ever where the path is relative.
    """
    for left in folder.glob("study.journal.lock*"):
        left.unlink()
    journal = folder / "study.journal"
    held = journal.read_bytes() if journal.is_file() else b""
    if held.startswith(b"{") and not held.endswith(b"\n"):  # else it is none of Optuna's, and is told of
        write_bytes(journal, held[: held.rfind(b"\n") + 1])
