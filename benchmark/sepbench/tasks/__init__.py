"""What is asked: corpus, mixer, splits and metrics. One YAML file each; `tasks.task` brings the sounds, and with them torch."""

from sepbench.tasks.settings import corpus_of, is_ready, known_tasks, load_task, settled

__all__ = ["corpus_of", "is_ready", "known_tasks", "load_task", "settled"]
