"""Reading YAML strictly, and saying in one line what is wrong with it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sepbench.errors import UserError, nearest

FILE = "recipe.yaml"


def read_yaml(text: str) -> Any:
    """What `text` holds. UserError, one line, where it is no YAML or a key stands twice."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none; lists in lists without end
        raise UserError(f"not YAML: {yaml_words(error)}") from None


def yaml_words(error: Exception) -> str:
    """What is wrong and where, without the lines of the text that yaml prints: `could not find ':' (line 3, column 7)`."""
    said, place = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if not said or place is None:
        return " ".join(str(error).split())
    return f"{' '.join(said.split())} (line {place.line + 1}, column {place.column + 1}). Mend it there."


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, as in YAML 1.2, and a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_FLOAT = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def parsed(text: str) -> tuple[str, Any, str]:
    """`a.b=c` -> (a.b, c as YAML reads it, c as typed)."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise UserError(f"--set {text}: wanted PATH=VALUE, such as task.scenes.test=200.")
    try:
        found = read_yaml(value)
    except UserError:
        raise UserError(
            f"--set {text}: {value!r} is not YAML; write a number, text, null or a list such as [1, 2]."
        ) from None
    return path.strip(), found, value.strip()


def content_of(flag: str, path: Path) -> str:
    """A hash of the file that the option `flag` names. UserError where it cannot be read."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise UserError(f"{flag} {path}: cannot be read ({error.strerror}). Wanted a file.") from None


def first_complaint(error: ValidationError) -> str:
    """The most telling complaint: the one that lies deepest."""
    found = max(error.errors(), key=lambda each: len(each["loc"]))
    where = ".".join(str(part) for part in found["loc"])
    said = found["msg"].removeprefix("Value error, ")
    if found["type"] == "literal_error":
        close = nearest(found["input"], re.findall(r"[a-z]+", said))
        said = f"got {found['input']!r}; {said[0].lower()}{said[1:]}.{close}"
    return f"{where}: {said}" if where else said
