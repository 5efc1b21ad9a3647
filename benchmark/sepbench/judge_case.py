"""A scene and an answer to it, side by side: what several figures need, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from sepbench.errors import nearest
from sepbench.metrics.arrays import check_finite, shape_text
from sepbench.metrics.pairing import Pairs, best_pairs
from sepbench.metrics.separation_rate import louder_than_threshold
from sepbench.metrics.si_sdr import Looked, look_at
from sepbench.scene import Estimate, Scene


@dataclass(frozen=True)
class Case:
    """What `checked` makes of a scene and an estimate."""

    scene: Scene
    found: Tensor  # (estimate, time); none of them where nothing was separated
    references: Tensor  # (source, time), all sources of the scene
    active: list[int]  # those that sound
    labels: Sequence[str] | None  # of the estimates; None where either side has none
    separates: bool  # whether the answer holds sounds, be it none; else it only names what it hears

    @property
    def names(self) -> list[str]:
        return [source.label for source in self.scene.sources]

    @property
    def n_kinds(self) -> int:
        """How many classes sound; sources without a label each count as one."""
        names = [self.names[i] for i in self.active]
        return len(set(filter(None, names))) + names.count("")

    @property
    def mixture(self) -> Tensor:
        return self.scene.mixture.audio[0]

    @property
    def silent(self) -> list[int]:
        """Sources that should sound and do not; one without times is absent, not silent."""
        return [i for i, source in enumerate(self.scene.sources) if source.intervals_s and i not in self.active]

    def sounds(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Estimates and references of some pairs: (pair, time) both."""
        return self.found[[j for _, j in pairs]], self.references[[self.active[place] for place, _ in pairs]]

    @cached_property
    def looked(self) -> Looked:
        """One pass over all estimates, the mixture as the last of them, and all active references."""
        either = torch.promote_types(self.found.dtype, self.mixture.dtype)
        everything = torch.cat([self.found.to(either), self.mixture[None].to(either)])
        found = look_at(estimate=everything, reference=self.references[self.active])
        return Looked(*(getattr(found, each.name).cpu() for each in fields(found)))

    @property
    def scores(self) -> Tensor:
        """SI-SDR of each estimate against each active reference: (active, estimate)."""
        return self.looked.si_sdr[:, :-1]

    @property
    def mixture_scores(self) -> Tensor:
        """SI-SDR of the mixture against each active reference: (active,)."""
        return self.looked.si_sdr[:, -1]

    @cached_property
    def loud(self) -> list[bool]:
        """Which estimates are active: (estimate,)."""
        looked = self.looked
        return [bool(each) for each in louder_than_threshold(e_energy=looked.e_energy[:-1], s_energy=looked.s_energy)]

    @cached_property
    def pairs(self) -> Pairs:
        """(active reference, estimate), as places in `active` and `found`: the highest mean SI-SDR."""
        return best_pairs(self.scores)

    @cached_property
    def pairs_by_label(self) -> Pairs:
        """The same, each active reference with an estimate of its label; where a label repeats, by SI-SDR."""
        pairs: Pairs = []
        names = [self.names[i] for i in self.active]
        for name in sorted(set(names)):
            there = [i for i, each in enumerate(names) if each == name]
            given = [j for j, each in enumerate(self.labels or ()) if each == name]
            if there and given:
                pairs += [(there[i], given[j]) for i, j in best_pairs(self.scores[there][:, given])]
        return sorted(pairs)


def checked(scene: Scene, estimate: Estimate, classes: Sequence[str]) -> Case:
    """The estimated sources beside the true ones; ValueError where they cannot be an answer to the scene."""
    mixture, separates = scene.mixture.audio, estimate.sources is not None
    found = mixture.new_zeros(0, mixture.shape[-1]) if estimate.sources is None else estimate.sources.detach()
    if found.ndim != 2 or found.shape[1] != mixture.shape[-1]:
        raise ValueError(f"estimate (source, time) is {shape_text(found)} and mixture (channel, time) is "
                         f"{shape_text(mixture)}: both must have the same time axis")
    check_finite(found, "estimate")
    check_finite(mixture[:1], "mixture")
    if separates and estimate.labels is not None and len(estimate.labels) != len(found):
        raise ValueError(f"estimate has {len(estimate.labels)} labels for {len(found)} sources: each needs one")
    names = [source.label for source in scene.sources]
    for who, labels in (("estimate", estimate.labels or ()), ("scene", filter(None, names))):
        for label in labels:
            if label not in classes:
                raise ValueError(f"{who} label '{label}' is no class of the task.{nearest(label, classes)}")
    silence = mixture.new_zeros(0, mixture.shape[-1])
    references = torch.stack([each.audio for each in scene.sources]) if scene.sources else silence
    active = torch.nonzero((references != 0).any(-1))[:, 0].tolist()
    kept = None if "" in names else estimate.labels
    return Case(scene, found.to(mixture.device), references, active, kept, separates)
