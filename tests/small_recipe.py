"""A recipe that learns in a second, for tests of what happens around it: two stages, no BatchNorm, and it tells what it hears."""

from __future__ import annotations

import json
from pathlib import Path

from tones import tones

CLASSES = ["bark", "horn", "siren"]
RATE_HZ = 8000
STAGE = {"epochs": 2, "steps": 3, "batch": 4, "valid_batches": 2, "lr": 0.01, "patience": 9}
RECIPE = {
    "name": "Small",
    "method": "method.py:Small",
    "supervision": "isolated",
    "task": "urban_events",
    "params": {"told": {"default": "", "help": "a folder: the scenes of each step, a file per process"}},
    "profiles": {
        "quick": {
            "corpus": "class_folders",
            "train": {"first": STAGE, "second": STAGE},
            "sizes": {"hidden": 8},
            "task": {
                "classes": CLASSES, "sample_rate_hz": RATE_HZ, "seconds": 0.6, "splits": {"by": "recording"},
                "mixing": {"cut_s": [0.1, 0.4]}, "scenes": {"valid": 8, "test": 10, "seen": 0},
            },
        }
    },
}  # fmt: skip
METHOD = '''
import hashlib, os
from pathlib import Path

import torch
from torch import nn

from sepbench.blocks.weights import keep, recall
from sepbench.devices import device
from sepbench.scene import Estimate
from sepbench.training import Schedule, train, within

FRAME = 160


class Small:
    def __init__(self, settings, task):
        self.settings, self.task, self.device = settings, task, device()
        torch.manual_seed(settings.seed)
        self.n = len(task.classes)
        layers = nn.Linear(FRAME, settings.sizes.hidden), nn.Tanh(), nn.Linear(settings.sizes.hidden, self.n * FRAME)
        self.network = nn.ModuleDict({"used": nn.Sequential(*layers), "idle": nn.Linear(2, 2)}).to(self.device)
        self.schedules = {name: Schedule.of(name, getattr(settings.train, name)) for name in ("first", "second")}

    def fit(self, training):
        cost = {}
        for name, schedule in within(training.budget, self.schedules).items():
            def loss(batch, name=name):
                self.tell(name, batch)
                error = self.waves(batch.mixture) - batch.sources[:, : self.n]
                return {"loss": 100 * error.square().mean()}

            rest = (training.folder, training.seed, self.device, training.progress)
            cost[name] = train(name, self.network, loss, training.scenes, training.valid, schedule, *rest)
            self.network.to(self.device)
        return cost

    def tell(self, name, batch):
        if self.settings.params.told and torch.is_grad_enabled():
            hashes = [hashlib.md5(each.numpy().tobytes()).hexdigest()[:8] for each in batch.mixture]
            with open(Path(self.settings.params.told) / f"{os.getpid()}.txt", "a") as file:
                print(name, *hashes, file=file)

    def waves(self, mixture):  # (scene, time) -> (scene, class, time)
        frames = mixture.unfold(-1, FRAME, FRAME)
        found = self.network["used"](frames).unflatten(-1, (self.n, FRAME))
        return found.transpose(1, 2).flatten(2)

    @torch.inference_mode()
    def separate(self, mixtures):
        audio = torch.stack([each.audio[0] for each in mixtures]).to(self.device)
        decided = ({"round": 0},)
        return [Estimate(own.cpu(), tuple(self.task.classes), decisions=decided) for own in self.waves(audio)]

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        keep(self.network, folder / "small.safetensors")

    def load(self, folder):
        recall(self.network, folder / "small.safetensors")
'''


def small_recipe(root: Path) -> Path:
    """The recipe, in a folder of its own below `root`."""
    folder = root / "contestants" / "small"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(json.dumps(RECIPE))
    (folder / "method.py").write_text(METHOD)
    return folder


def small_world(root: Path) -> tuple[Path, Path]:
    """The recipe and the sounds for it."""
    sounds = root / "sounds"
    sounds.mkdir()
    return small_recipe(root), tones(sounds, CLASSES, RATE_HZ)
