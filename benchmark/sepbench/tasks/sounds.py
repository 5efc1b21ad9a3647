"""Which sounds a task would take, without decoding one: enough to know a run's name, and whether its sounds have changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sepbench.corpora.base import sorted_clips
from sepbench.corpora.cache import cache_root, clip_contents, content_hash
from sepbench.tasks.settings import is_ready
from sepbench.tasks.task import build_task, open_clips


def settings_and_sounds(config: Mapping[str, Any], data: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """The settings as `build_task` completes them, and the content hash that its cache will have.

    Files are read where they are new or have changed since they were last read; of a release, as `build_task` does.
    UserError where the sounds are not there.
    """
    if is_ready(config):
        task = build_task(config, data)
        return dict(task.config), str(task.cache.content_hash)
    corpus, clips, settings = open_clips(config, data)
    chosen = sorted_clips(clips)
    contents = clip_contents(corpus, chosen, cache_root())
    return settings, content_hash(chosen, contents, int(config["sample_rate_hz"]))
