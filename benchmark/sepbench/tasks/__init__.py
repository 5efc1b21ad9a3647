"""What is asked: corpus, mixer, splits and metrics. One YAML file each."""

from sepbench.tasks.settings import known_tasks, load_task
from sepbench.tasks.splits import split_clips
from sepbench.tasks.task import Task, build_task

__all__ = ["Task", "build_task", "known_tasks", "load_task", "split_clips"]
