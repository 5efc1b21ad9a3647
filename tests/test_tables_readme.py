"""Tables in READMEs are what the command above them prints; nobody copies figures by hand.

    <!-- table: sepbench table results/reference --task common --format markdown -->
    ...
    <!-- end -->
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from sepbench.cli_table import table
from sepbench.options import Door

REPO = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^<!-- table: (?P<command>.+?) -->\n(?P<held>.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)
FILES = [REPO / "README.md", *sorted(REPO.glob("*/*/README.md")), *sorted(REPO.glob("results/*/README.md"))]
BLOCKS = {f"{path.relative_to(REPO)}: {found['command']}": found for path in dict.fromkeys(FILES)
          for found in BLOCK.finditer(path.read_text(encoding="utf-8"))}  # fmt: skip


def printed(command: str) -> str:
    """What `sepbench table ...` says in the root of the repository."""
    words = shlex.split(command)
    assert words[:2] == ["sepbench", "table"], f"a block is made by `sepbench table`, not by `{command}`"
    told = CliRunner().invoke(Door(commands={"table": table}), words[1:], prog_name="sepbench", catch_exceptions=False)
    assert told.exit_code == 0, told.output
    return told.stdout


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_block_holds_what_its_command_prints(block: re.Match[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(REPO)
    assert block["held"].strip() == printed(block["command"]).strip(), f"give `{block['command']}` again and paste what it prints"


def test_the_front_table_of_the_readme_is_made_by_a_command():
    made = [name for name in BLOCKS if name.startswith("README.md: ")]
    assert any("--task common" in name and "results/reference" in name for name in made)


def test_every_marker_is_a_whole_block():
    for path in dict.fromkeys(FILES):
        words = path.read_text(encoding="utf-8")
        assert words.count("<!-- table:") == words.count("<!-- end -->") == len(BLOCK.findall(words)), path
