"""What an older sepbench wrote, in the words of this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORMAT = 2
# Format 1 paired by label and called that si_sdr; the figures are the same, and so are the scenes'.
RENAMED = {1: {name: f"{name}_by_label" for name in ("si_sdr", "si_sdri")} | {"missed": "missed_by_label"}}


LEARNING = ("weak", "isolated")  # supervisions of methods that learn, and all that there is to learn from


def learns_from(config: Mapping[str, Any]) -> str | None:
    """What a run's method learns from, weak or isolated scenes; None where there is nothing to learn.

    That is its supervision, but for an oracle that learns: `learns_from` says what from.
    """
    found = config.get("learns_from") or config["supervision"]
    return found if found in LEARNING else None


def is_trial(config: Mapping[str, Any]) -> bool:
    """Whether a run is a trial of a search: scored on the scenes that its epoch was chosen by, and on no test."""
    return (config.get("task") or {}).get("scored_on") == "valid"


def renamed(run: Mapping[str, Any]) -> dict[str, str]:
    """What the metrics of a run of an older format are called now, where they are called otherwise."""
    names = RENAMED.get(run["format"], {})
    undefined = {f"{old}_undefined": f"{new}_undefined" for old, new in names.items()}
    return names | undefined


def config_now(run: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration; of an older run, with the metrics that it has under the names they have now too."""
    config, names = dict(run["config"]), renamed(run)
    metrics = (config.get("task") or {}).get("metrics")
    if names and metrics:
        now = [names[name] for name in metrics if name in names]
        config["task"] = {**config["task"], "metrics": list(dict.fromkeys([*metrics, *now]))}
    return config


def tables_now(part: Any, names: Mapping[str, str]) -> Any:
    """The recipe's tables, asking for metrics by the names that they have now."""
    if isinstance(part, Mapping):
        asks = isinstance(part.get("metric"), str)
        part = {**part, "metric": names.get(part["metric"], part["metric"])} if asks else part
        return {key: item if key == "published" else tables_now(item, names) for key, item in part.items()}
    return [tables_now(item, names) for item in part] if isinstance(part, list) else part
