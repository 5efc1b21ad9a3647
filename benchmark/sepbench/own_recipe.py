"""A recipe folder of one's own: from the template, or as a copy of one that there is."""

from __future__ import annotations

import json
import keyword
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from sepbench.catalogue import names
from sepbench.errors import UserError, nearest
from sepbench.recipe import load_recipe
from sepbench.recipe_yaml import FILE
from sepbench.storage import write_text
from sepbench.trust import remember_own

TEMPLATE = Path(__file__).resolve().parent / "template"
NAME = re.compile(r"^name:.*$", re.MULTILINE)
TASKS = re.compile(r"^task:(\s*\w+)(.*\n)other_tasks: \[([^\]]*)\]", re.MULTILINE)


def new_recipe(folder: Path, task: str | None) -> list[Path]:
    """Write a recipe that runs at once into `folder`, on `task` unless another is asked for; the files.

    UserError where the folder is taken or its name is no importable word, or where the template has no such task.
    """
    _check_free(folder)
    name = folder.resolve().name
    words = {"NAME": name.replace("_", " ").capitalize(), "FOLDER": name, "PATH": str(folder)}
    texts = {file.name: file.read_text(encoding="utf-8") for file in sorted(TEMPLATE.iterdir()) if file.is_file()}
    texts[FILE], words["TASK"] = _on_task(texts[FILE], task)
    texts[f"test_{name}.py"] = texts.pop("test_method.py")
    _make(folder)
    for file, text in texts.items():
        write_text(folder / file, text if file.endswith(".py") else _filled(text, words))
    remember_own(folder)
    return [folder / file for file in texts]


def copy_recipe(name: str, folder: Path) -> Path:
    """Copy the recipe `name` to `folder`, under a name of its own in the tables too; the recipe.yaml.

    UserError where there is no such recipe, the folder is taken, or its name is no importable word.
    """
    recipe = load_recipe(name)
    _check_free(folder)
    if folder.resolve().is_relative_to(recipe.folder):
        raise UserError(f"{folder}: lies in {recipe.folder} itself. Choose a folder beside it.")
    _make(folder)
    shutil.copytree(recipe.folder, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"), dirs_exist_ok=True)
    file = folder / FILE
    own_name = "name: " + json.dumps(f"{recipe.name} ({folder.resolve().name})", ensure_ascii=False)
    write_text(file, NAME.sub(lambda _: own_name, file.read_text(encoding="utf-8"), count=1))
    remember_own(folder)
    return file


def _make(folder: Path) -> None:
    """UserError where the folder cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}. Choose another name, where you may write.") from None


def _check_free(folder: Path) -> None:
    """UserError where nothing can be written into `folder`, or its runs would be taken for those of another recipe."""
    name = folder.resolve().name
    if not name.isidentifier() or keyword.iskeyword(name):
        word = re.sub(r"\W+", "_", name).strip("_").lower() or "my_method"
        word = word if word.isidentifier() and not keyword.iskeyword(word) else f"my_{word}"
        raise UserError(f"{folder}: wanted a folder whose name is an importable word (letters, digits, underscores), as {word}.")
    if not folder.resolve().parent.is_dir():
        raise UserError(f"{folder}: there is no folder {folder.parent}. Make it, or choose another.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: there is something there already, and nothing is overwritten. Choose another name.")
    if name in names():
        raise UserError(f"{folder}: there is a recipe '{name}' already, whose runs bear that name. Choose another, as my_{name}.")


def _on_task(text: str, task: str | None) -> tuple[str, str]:
    """The template's recipe.yaml with `task` as its own, the others beside it; and which that is."""
    found = TASKS.search(text)
    assert found is not None  # the template's tests say so
    known = [found[1].strip(), *(name.strip() for name in found[3].split(","))]
    if task is None or task == known[0]:
        return text, known[0]
    if task not in known:
        raise UserError(
            f"--task {task}: the template runs on {', '.join(known)}.{nearest(task, known)} Others go into {FILE} afterwards."
        )
    others = ", ".join(name for name in known if name != task)
    return text[: found.start()] + f"task: {task}{found[2]}other_tasks: [{others}]" + text[found.end() :], task


def _filled(text: str, words: Mapping[str, str]) -> str:
    return re.sub("NAME|FOLDER|PATH|TASK", lambda found: words[found[0]], text)
