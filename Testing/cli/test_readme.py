"""What README promises: its commands are understood, its files exist, its table of options is that of the program."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from CBCTSuperResLib.cli import make_parser
from CBCTSuperResLib.train.checks import read_options
from CBCTSuperResLib.train.options_schema import markdown_table

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
COMMANDS = [line for line in CODE.splitlines() if line.startswith("cbct-superres ") and " | " not in line]


def test_the_table_of_options_is_that_of_the_program():
    """To renew it: python -m CBCTSuperResLib.train.options_schema"""
    between = re.search(r"<!-- options: begin -->\n(.*?)<!-- options: end -->", README, re.DOTALL)[1]
    assert between == markdown_table()


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(line):
    parsed = make_parser().parse_args(shlex.split(line, comments=True)[1:])
    assert callable(parsed.run)


def test_there_are_commands_to_check():
    assert {line.split()[1] for line in COMMANDS} >= {"info", "apply", "train", "export"}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"Resources/[\w/.-]+\.\w+", README))))
def test_every_file_that_is_named_exists(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("path", sorted((ROOT / "Resources" / "Configurations").glob("*.json")), ids=lambda p: p.name)
def test_every_configuration_can_be_read(path):
    if "schema" not in path.name:
        assert read_options(path, is_train=not path.name.startswith("test_")).name
