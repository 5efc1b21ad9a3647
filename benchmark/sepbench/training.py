"""The one training loop: endless scenes in, the weights that do best on the validation scenes out.

pytorch-lightning turns the crank. An epoch is a fixed number of steps; each ends with validation and a checkpoint, and
batch i is a pure function of i, so a run that was stopped goes on from its last whole epoch as if it never had been.
Where a budget of minutes gives a stage its seconds, it trains until they are over, wherever in an epoch that is: how many
steps that makes is the machine's word, so two such runs with one seed may end with other weights.
"""

from __future__ import annotations

import csv
import json
import logging
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
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from sepbench.blocks.weights import keep, recall
from sepbench.checkpoints import BEST, LAST, read_checkpoint, to_go_on_from
from sepbench.clock import Clock
from sepbench.errors import UserError
from sepbench.method import Batch, WeakBatch
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
    UserError where the loss is no longer finite.
    """
    place = folder / name
    summary_file, weights_file = place / "summary.json", place / "best.safetensors"
    if summary_file.is_file() and weights_file.is_file():
        recall(network, weights_file)
        return dict(read_json(summary_file))
    place.mkdir(parents=True, exist_ok=True)
    _quiet()
    lightning.seed_everything(seed, verbose=False)
    clock = Clock(schedule.seconds, schedule.valid_batches)
    source = _Scenes(scenes, schedule, clock)
    every: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(place, Path(BEST).stem, monitor="valid_loss", **every)
    last = ModelCheckpoint(place, Path(LAST).stem, **every)  # save_last=True would write it after the better epochs only
    timed = schedule.seconds is not None
    endless = 10**9  # a stage that has its time stops when that is over
    patience = _Patience("valid_loss", patience=endless if timed else schedule.patience, check_on_train_epoch_end=True)
    with progress.bar(f"training {name}", None if timed else schedule.epochs * schedule.steps) as bar:
        history = _History(place / "history.csv", bar, schedule, source, clock)
        trainer = lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu", devices=1,
            max_epochs=endless if timed else schedule.epochs,
            precision=LIGHTNINGS[precision_on(device, schedule.precision)],
            limit_val_batches=schedule.valid_batches, num_sanity_val_steps=0, gradient_clip_val=schedule.clip_norm,
            callbacks=[history, patience, best, last], plugins=[_WholeCheckpoints()],
            logger=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=place,
        )  # fmt: skip
        learned_from = DataLoader(source, batch_size=None)
        judged_by = DataLoader(_Valid(valid, schedule), batch_size=None)
        _fit(trainer, _Crank(name, network, loss, schedule, clock), learned_from, judged_by, to_go_on_from(place, progress.say))
    weights = read_checkpoint(place / BEST)["state_dict"]
    network.load_state_dict({key.removeprefix("network."): value for key, value in weights.items()})
    keep(network, weights_file)
    assert best.best_model_score is not None
    summary = {**history.summary(), "valid_loss": float(best.best_model_score)}
    write_text(summary_file, json.dumps(summary))
    if summary["waiting_share"] > TOLD_FROM:
        progress.say(f"training {name}: waited for scenes {100 * summary['waiting_share']:.0f} % of the time")
    return summary


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

    def __init__(self, name: str, network: nn.Module, loss: Loss, schedule: Schedule, clock: Clock):
        super().__init__()
        self.name, self.network, self.loss, self.schedule, self.clock = name, network, loss, schedule, clock
        self.plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self.plateau_before: dict[str, Any] | None = None

    def training_step(self, batch: WeakBatch, index: int) -> Tensor:
        losses = self.loss(batch)
        if not torch.isfinite(losses["loss"]):
            raise UserError(
                f"Training {self.name}: the loss is {losses['loss'].item()} at step {self.global_step}. "
                f"Lower the learning rate with --set train.{self.name}.lr=..., or clip gradients: train.{self.name}.clip_norm=1."
            )
        self.log_dict(
            {f"train_{key}": value.detach() for key, value in losses.items()},
            on_step=False,
            on_epoch=True,
            batch_size=1,
        )
        return losses["loss"]

    def validation_step(self, batch: WeakBatch, index: int) -> None:
        self.log_dict({f"valid_{key}": value for key, value in self.loss(batch).items()}, batch_size=1)

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
        if self.plateau is not None:
            checkpoint["plateau"] = self.plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
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
            asked = (mixer.submit(self.scenes.batch, self.first + step, self.schedule.batch)
                     for step in range(self.schedule.steps))  # fmt: skip
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


class _Patience(EarlyStopping):
    """Stops where nothing gets better, and at once where an earlier start had stopped there."""

    def on_train_start(self, trainer: lightning.Trainer, crank: lightning.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.stopped_epoch > 0


class _History(Callback):
    """The bar while it trains, and history.csv: a row per epoch, those of an earlier start kept."""

    def __init__(self, file: Path, bar: Any, schedule: Schedule, source: _Scenes, clock: Clock):
        self.file, self.bar, self.schedule, self.source, self.clock = file, bar, schedule, source, clock
        self._take_up(_rows(file))

    def _take_up(self, rows: list[dict[str, float]]) -> None:
        self.rows = rows
        self.clock.before_s = rows[-1]["seconds"] if rows else 0.0
        self.first_step = self.seen = int(rows[-1]["step"]) if rows else 0

    def on_load_checkpoint(self, trainer: Any, crank: Any, checkpoint: dict[str, Any]) -> None:
        self.source.first = checkpoint["global_step"]  # where nobody knows its length, the first epoch is begun before its hooks

    def on_train_start(self, trainer: lightning.Trainer, crank: lightning.LightningModule) -> None:
        self._take_up([row for row in self.rows if row["epoch"] < trainer.current_epoch])
        self.bar.advance(self.seen)
        trainer.should_stop = trainer.should_stop or (bool(self.rows) and self.clock.is_up)

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
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        figures = {key: float(value) for key, value in sorted(trainer.callback_metrics.items())}
        spent = {"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": rate, "seconds": self.clock.spent_s}
        self.rows.append({**spent, **figures})
        text = StringIO()
        writer = csv.DictWriter(text, list(self.rows[-1]))
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.file, text.getvalue())
        self.bar.advance(0, valid=figures["valid_loss"])
        trainer.should_stop = trainer.should_stop or self.clock.is_up

    def summary(self) -> dict[str, Any]:
        here_s = self.clock.here_s
        return {
            "epochs": len(self.rows), "steps": self.seen, "scenes": self.seen * self.schedule.batch,
            "seconds": self.clock.spent_s, "steps_per_s": (self.seen - self.first_step) / here_s,
            "waiting_share": self.source.waited_s / here_s,
        }  # fmt: skip


def _rows(file: Path) -> list[dict[str, float]]:
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(lines)]


def _quiet() -> None:
    """Lightning's advice and banners, off: the bar and the history say what is needed."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("pytorch_lightning", "lightning"):
        warnings.filterwarnings("ignore", module=module)
