"""The one training loop: endless scenes in, the weights that do best on the validation scenes out.

pytorch-lightning turns the crank. An epoch is a fixed number of steps; each ends with validation and a checkpoint, and
batch i is a pure function of i, so a run that was stopped goes on from its last whole epoch as if it never had been.
Where a budget of minutes gives a stage its seconds, it trains until they are over, wherever in an epoch that is: how many
steps that makes is the machine's word, so two such runs with one seed may end with other weights.

Where several ranks train together, a batch holds the scenes that it holds for one, each rank learns from its share of them,
and gradients are averaged. The first rank writes what is written.

Longer than most: it is the loop and what it hands to lightning, which are read together.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO, StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.plugins.environments import ClusterEnvironment
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from sepbench.blocks.weights import keep, recall
from sepbench.checkpoints import BEST, LAST, check_fits, history_rows, read_checkpoint, to_go_on_from
from sepbench.clock import Clock
from sepbench.errors import SettingsRefused, UserError, memory_told
from sepbench.method import Batch, WeakBatch, batch_share
from sepbench.ranks import agreed, here, wait_for_all, who
from sepbench.schedule import Schedule, answering, check_sizes, precision_on, within
from sepbench.storage import read_json, write_bytes, write_text

__all__ = ["Schedule", "answering", "check_sizes", "precision_on", "train", "within"]

Loss = Callable[[Any], Mapping[str, Tensor]]  # a batch to named losses; "loss" is the one that is minimised
AHEAD = 4  # batches that are mixed while one is learned from: a slow one need not be waited for
TOLD_FROM = 0.05  # of the time spent waiting for scenes: what is worth a line

LIGHTNINGS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def train(
    name: str,
    network: nn.Module,
    loss: Loss,
    scenes: Any,
    valid: Any,
    schedule: Schedule,
    folder: Path,
    seed: int,
    device: torch.device,
    progress: Any,
) -> dict[str, Any]:
    """Minimise `loss(batch)["loss"]` over the parameters of `network` that require a gradient; keep the best weights.

    Hands back what it cost: steps, scenes, seconds, the share of the time spent waiting for scenes, the best validation loss.
    `folder`/<name> holds checkpoints, history.csv and, once it is through, best.safetensors: a second call loads those.
    UserError where the loss is no longer finite, or where memory runs out; the last whole epoch's checkpoint stays.
    """
    place = folder / name
    summary_file, weights_file = place / "summary.json", place / "best.safetensors"
    _check_ranks(name, schedule)
    if agreed(summary_file.is_file() and weights_file.is_file()):
        recall(network, weights_file)
        return dict(read_json(summary_file))
    place.mkdir(parents=True, exist_ok=True)
    _quiet()
    lightning.seed_everything((seed + here().rank * 1_000_003) % 2**32, verbose=False)  # no two ranks drop out the same
    clock = Clock(schedule.seconds, schedule.valid_batches)
    source = _Scenes(scenes, schedule, clock)
    every: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(place, Path(BEST).stem, monitor="valid_loss", **every)
    last = ModelCheckpoint(place, Path(LAST).stem, **every)  # save_last=True would write it after the better epochs only
    timed = schedule.seconds is not None
    endless = 10**9  # a stage that has its time stops when that is over
    patience = _Patience("valid_loss", patience=endless if timed else schedule.patience, check_on_train_epoch_end=True)
    with progress.bar(f"training {name}", None if timed else schedule.epochs * schedule.steps) as bar:
        history = _History(name, place / "history.csv", bar, schedule, source, clock)
        trainer = lightning.Trainer(
            **_on(device, network, progress),
            max_epochs=endless if timed else schedule.epochs,
            precision=LIGHTNINGS[precision_on(device, schedule.precision)],
            limit_val_batches=schedule.valid_batches, num_sanity_val_steps=0, gradient_clip_val=schedule.clip_norm,
            callbacks=[history, patience, best, last],
            logger=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=place,
        )  # fmt: skip
        learned_from = DataLoader(source, batch_size=None)
        judged_by = DataLoader(_Valid(valid, schedule), batch_size=None)
        lower = f"Lower train.{name}.batch, which is {schedule.batch}: --set train.{name}.batch=N."
        begun = agreed(to_go_on_from(place, progress.say))
        if begun is not None:
            check_fits(name, begun, network.state_dict(), None if timed else schedule.epochs)
        with memory_told(f"Training {name}", lower):
            _fit(trainer, _Crank(place, network, loss, schedule, source), learned_from, judged_by, begun)
    wait_for_all()
    weights = read_checkpoint(place / BEST)["state_dict"]
    network.load_state_dict({key.removeprefix("network."): value for key, value in weights.items()})
    assert best.best_model_score is not None
    summary = agreed({**history.summary(), "valid_loss": float(best.best_model_score)})
    if here().leads:
        keep(network, weights_file)
        write_text(summary_file, json.dumps(summary))
    if summary["waiting_share"] > TOLD_FROM:
        progress.say(f"training {name}: waited for scenes {100 * summary['waiting_share']:.0f} % of the time")
    return summary


def _check_ranks(name: str, schedule: Schedule) -> None:
    """UserError where the ranks cannot share a batch equally, or are not about to train the same."""
    n = here().n
    if schedule.batch % n:
        raise SettingsRefused(
            f"Training {name}: train.{name}.batch is {schedule.batch}, which {n} ranks cannot share equally. Give a multiple of "
            f"{n} with --set train.{name}.batch=N, or another number of --devices."
        )
    others = who(agreed(name) != name)
    if others:
        raise UserError(
            f"Training {name}: rank {others[0]} of {n} is about to train something else, since it finds other files. Give all "
            "nodes the same results and SEPBENCH_CACHE, in a folder that they share."
        )


def _on(device: torch.device, network: nn.Module, progress: Any) -> dict[str, Any]:
    """Where lightning computes: here, or on this process's share of the devices."""
    ranks, on_gpu = here(), device.type == "cuda"
    accelerator, plugins = "gpu" if on_gpu else "cpu", [_WholeCheckpoints()]
    if ranks.n == 1:
        return {"accelerator": accelerator, "plugins": plugins, "devices": 1}
    normed = any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in network.modules())
    if normed and not on_gpu:
        progress.say("BatchNorm has its statistics from the first rank's share of a batch here; on GPUs, from the whole batch.")
    # a stage may leave parameters without a gradient: they keep what they have, as they do in one process
    strategy = DDPStrategy(find_unused_parameters=True)
    shared = {"devices": ranks.n // ranks.nodes, "num_nodes": ranks.nodes, "sync_batchnorm": normed and on_gpu}
    return {
        "accelerator": accelerator, "plugins": [*plugins, _Together()], **shared, "strategy": strategy,
        "use_distributed_sampler": False,
    }  # fmt: skip


def _fit(trainer: lightning.Trainer, crank: _Crank, train_loader: Any, valid_loader: Any, checkpoint: Path | None) -> None:
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(crank, train_loader, valid_loader, ckpt_path=checkpoint and str(checkpoint))
    except SystemExit:  # what lightning makes of Ctrl-C, and it ignores every later one
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, interrupt)
        raise KeyboardInterrupt from None


class _Crank(lightning.LightningModule):
    """What lightning wants to know of a network: steps, optimiser, and how a batch gets to the device."""

    def __init__(self, place: Path, network: nn.Module, loss: Loss, schedule: Schedule, source: _Scenes):
        super().__init__()
        self.place, self.name, self.network, self.loss, self.source = place, place.name, network, loss, source
        self.schedule, self.clock = schedule, source.clock
        self.plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self.plateau_before: dict[str, Any] | None = None

    def training_step(self, batch: WeakBatch, index: int) -> Tensor:
        losses = self.loss(batch)
        if ranks := who(not torch.isfinite(losses["loss"])):
            its = f"{losses['loss'].item()}" if here().rank in ranks else f"not finite on rank {ranks[0]}"
            raise SettingsRefused(
                f"Training {self.name}: the loss is {its} at step {self.global_step}, on "
                f"{self.source.told(index)} {_lower_the_rate(self.place)}"
            )
        self.log_dict(
            {f"train_{key}": value.detach() for key, value in losses.items()},
            on_step=False,
            on_epoch=True,
            batch_size=1,
            sync_dist=here().n > 1,
        )
        return losses["loss"]

    def validation_step(self, batch: WeakBatch, index: int) -> None:
        """Every rank is judged by all of the batches, so that the figures are those of one process."""
        self.log_dict(
            {f"valid_{key}": value for key, value in self.loss(batch).items()}, batch_size=1, sync_dist=here().n > 1
        )

    def configure_optimizers(self) -> Any:
        wanted = [each for each in self.network.parameters() if each.requires_grad]
        options: dict[str, Any] = {"lr": self.schedule.lr, "betas": (0.9, 0.999)}
        decay = self.schedule.weight_decay
        adam = torch.optim.AdamW(wanted, weight_decay=decay, **options) if decay else torch.optim.Adam(wanted, **options)
        factor, patience = self.schedule.plateau_factor, self.schedule.plateau_patience
        if factor is not None:
            self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(adam, factor=factor, patience=patience)
            if self.plateau_before is not None:
                self.plateau.load_state_dict(self.plateau_before)
            return adam
        rate = torch.optim.lr_scheduler.LambdaLR(adam, self._factor)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    def _factor(self, step: int) -> float:
        """By the clock where the stage has a time of its own: as far along the schedule as along that."""
        timed = self.schedule.seconds is not None
        return self.schedule.factor(self.clock.share * self.schedule.epochs * self.schedule.steps if timed else step)

    def on_train_epoch_end(self) -> None:
        """The plateau, stepped here and not by lightning, which would do it when the checkpoint is already written."""
        if self.plateau is not None:
            self.plateau.step(float(self.trainer.callback_metrics["valid_loss"]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["rate"] = self.schedule.lr
        if self.plateau is not None:
            checkpoint["plateau"] = self.plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        _moved(checkpoint, self.place)
        _at_rate(checkpoint, self.schedule.lr)
        self.plateau_before = checkpoint.get("plateau")
        if self.plateau is not None and self.plateau_before is not None:
            self.plateau.load_state_dict(self.plateau_before)

    def transfer_batch_to_device(self, batch: WeakBatch, device: torch.device, index: int) -> WeakBatch:
        if isinstance(batch, Batch):
            return replace(batch, mixture=batch.mixture.to(device), sources=batch.sources.to(device))
        return replace(batch, mixture=batch.mixture.to(device))


class _Scenes(IterableDataset[WeakBatch]):
    """An epoch of batches in order, mixed by a second thread, AHEAD of them at most before they are wanted.

    It ends sooner where the stage's time is up, but not before its first batch.
    """

    def __init__(self, scenes: Any, schedule: Schedule, clock: Clock):
        self.scenes, self.schedule, self.clock = scenes, schedule, clock
        self.first = 0  # global step at which the epoch starts
        self.waited_s = 0.0

    def __len__(self) -> int:
        if self.schedule.seconds is not None:
            raise TypeError("as many as there is time for")  # what lightning takes for a length that nobody knows
        return self.schedule.steps

    def __iter__(self) -> Iterator[WeakBatch]:
        with ThreadPoolExecutor(1) as mixer:
            asked = (mixer.submit(self._batch, self.first + step) for step in range(self.schedule.steps))
            ahead = deque(islice(asked, AHEAD))
            try:
                while ahead:
                    began_s = time.perf_counter()
                    batch = ahead.popleft().result()
                    self.waited_s += time.perf_counter() - began_s
                    ahead.extend(islice(asked, 1))
                    yield batch
                    if self.clock.is_up:
                        return
            finally:
                for each in ahead:
                    each.cancel()

    def _batch(self, index: int) -> WeakBatch:
        """This rank's share of a batch. Scenes that cannot be asked for a share are mixed whole, and every n-th is taken."""
        size, ranks = self.schedule.batch, here()
        if ranks.n == 1:
            return self.scenes.batch(index, size)
        if hasattr(self.scenes, "share"):
            return self.scenes.share(index, size, ranks.rank, ranks.n)
        return batch_share(self.scenes.batch(index, size), ranks.rank, ranks.n)

    def told(self, step: int) -> str:
        """The scenes of a step of this epoch, as a sentence; of those that are no sound, which they are."""
        index, size = self.first + step, self.schedule.batch
        name = getattr(self.scenes, "scene_id", lambda number: str(number))
        batch = f"batch {index}, scenes {name(index * size)} to {name(index * size + size - 1)}."
        whole = self.scenes.batch(index, size).mixture.flatten(1)
        broken = [name(index * size + int(i)) for i in (~whole.isfinite().all(1)).nonzero().flatten()]
        return f"{batch} Of these, {', '.join(broken)} hold samples that are no numbers: mend their clips." if broken else batch


class _Valid(IterableDataset[WeakBatch]):
    def __init__(self, scenes: Any, schedule: Schedule):
        self.scenes, self.schedule = scenes, schedule

    def __len__(self) -> int:
        return self.schedule.valid_batches

    def __iter__(self) -> Iterator[WeakBatch]:
        for index in range(self.schedule.valid_batches):
            yield self.scenes.batch(index, self.schedule.batch)


class _WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there, one line where there is no room for them, and no code in them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = BytesIO()
        torch.save(checkpoint, buffer)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(Path(path), buffer.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))


class _Together(ClusterEnvironment):
    """Tells lightning of ranks that were started, and have found each other, before it came."""

    creates_processes_externally = True
    main_address, main_port = "", 0

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return here().n

    def global_rank(self) -> int:
        return here().rank

    def local_rank(self) -> int:
        return here().local

    def node_rank(self) -> int:
        return here().rank // (here().n // here().nodes)

    def set_world_size(self, size: int) -> None:
        """They are as many as they are."""

    def set_global_rank(self, rank: int) -> None:
        """It is what it is."""


class _Patience(EarlyStopping):
    """Stops where nothing gets better, and at once where an earlier start had stopped there."""

    def on_train_start(self, trainer: lightning.Trainer, crank: lightning.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.stopped_epoch > 0


class _History(Callback):
    """The bar while it trains, and history.csv: a row per epoch, those of an earlier start kept."""

    def __init__(self, name: str, file: Path, bar: Any, schedule: Schedule, source: _Scenes, clock: Clock):
        self.name, self.file, self.bar, self.schedule, self.source, self.clock = name, file, bar, schedule, source, clock
        self._take_up(agreed(history_rows(file)))

    def _take_up(self, rows: list[dict[str, float]]) -> None:
        self.rows = rows
        self.clock.before_s = rows[-1]["seconds"] if rows else 0.0
        self.first_step = self.seen = int(rows[-1]["step"]) if rows else 0

    def on_load_checkpoint(self, trainer: Any, crank: Any, checkpoint: dict[str, Any]) -> None:
        self.source.first = checkpoint["global_step"]  # where nobody knows its length, the first epoch is begun before its hooks

    def on_train_start(self, trainer: lightning.Trainer, crank: lightning.LightningModule) -> None:
        self._take_up([row for row in self.rows if row["epoch"] < trainer.current_epoch])
        self.bar.advance(self.seen)
        is_up = self.clock.is_up  # asked by all ranks, whatever they know
        trainer.should_stop = trainer.should_stop or (bool(self.rows) and is_up)

    def on_train_epoch_start(self, trainer: lightning.Trainer, crank: lightning.LightningModule) -> None:
        self.source.first = trainer.global_step
        self.clock.closed()

    def on_train_batch_end(self, trainer: lightning.Trainer, crank: Any, outputs: Any, batch: Any, index: int) -> None:
        facts = {"loss": float(outputs["loss"])} if trainer.global_step % 10 == 0 else {}
        self.bar.advance(trainer.global_step - self.seen, **facts)
        self.seen = trainer.global_step
        self.clock.n_steps = self.seen - self.first_step

    def on_validation_start(self, trainer: lightning.Trainer, crank: lightning.LightningModule) -> None:
        self.clock.closing()

    def on_train_epoch_end(self, trainer: lightning.Trainer, crank: lightning.LightningModule) -> None:
        judged = float(trainer.callback_metrics["valid_loss"])
        if not math.isfinite(judged):  # told before the weights that it is of are kept
            raise SettingsRefused(
                f"Training {self.name}: the validation loss is {judged} after step {trainer.global_step}. "
                + _lower_the_rate(self.file.parent)
            )
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        figures = {key: float(value) for key, value in sorted(trainer.callback_metrics.items())}
        spent = {"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": rate, "seconds": self.clock.spent_s}
        together = {"ranks": here().n, "nodes": here().nodes} if here().n > 1 else {}
        self.rows.append({**spent, **together, **figures})
        text = StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in self.rows for key in row)))
        writer.writeheader()
        writer.writerows(self.rows)
        if here().leads:
            write_text(self.file, text.getvalue())
        self.bar.advance(0, valid=figures["valid_loss"])
        is_up = self.clock.is_up
        trainer.should_stop = trainer.should_stop or is_up

    def summary(self) -> dict[str, Any]:
        here_s = self.clock.here_s
        return {
            "epochs": len(self.rows), "steps": self.seen, "scenes": self.seen * self.schedule.batch,
            "seconds": self.clock.spent_s, "steps_per_s": (self.seen - self.first_step) / here_s,
            "waiting_share": self.source.waited_s / here_s,
        } | self._together()  # fmt: skip

    def _together(self) -> dict[str, Any]:
        """How many ranks it was at most, and in how many of the epochs there were several; by whichever start."""
        together = [row for row in self.rows if row.get("ranks", 1) > 1]
        if not together:
            return {}
        most = max(together, key=lambda row: row["ranks"])
        ranks = {"ranks": int(most["ranks"]), "nodes": int(most["nodes"]), "epochs_together": len(together)}
        return {**ranks, "batch": self.schedule.batch}


def _moved(checkpoint: dict[str, Any], place: Path) -> None:
    """Have the callbacks find their files in `place`, where the run may have been moved to; else they forget the best epoch."""
    folder = os.path.realpath(place)

    def here(path: str) -> str:
        return os.path.join(folder, os.path.basename(path)) if path else path

    for state in checkpoint["callbacks"].values():
        if "dirpath" in state:
            state |= {name: here(state[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
            state |= {"dirpath": folder, "best_k_models": {here(path): of for path, of in state["best_k_models"].items()}}


def _at_rate(checkpoint: dict[str, Any], rate: float) -> None:
    """Where the checkpoint is of a run with another learning rate, have it go on at the same share of this one."""
    times = rate / checkpoint["rate"] if checkpoint.get("rate") else 1.0
    if times != 1.0:
        for group in (group for state in checkpoint["optimizer_states"] for group in state["param_groups"]):
            group |= {name: times * group[name] for name in ("lr", "initial_lr") if name in group}
        for state in checkpoint["lr_schedulers"]:
            state |= {name: [times * each for each in state[name]] for name in ("base_lrs", "_last_lr") if name in state}


def _lower_the_rate(place: Path) -> str:
    """What to do; of an epoch that is kept only where one was through, in the stage of the folder `place` or one before it."""
    name, kept = place.name, any(place.parent.glob("*/*.ckpt"))
    goes_on = " The last whole epoch is kept: --begin-with RUN goes on from it." if kept else ""
    return f"Lower the learning rate with --set train.{name}.lr=..., or clip gradients: train.{name}.clip_norm=1.{goes_on}"


def _quiet() -> None:
    """Lightning's advice and banners, off: the bar and the history say what is needed."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("pytorch_lightning", "lightning"):
        warnings.filterwarnings("ignore", module=module)
    warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
