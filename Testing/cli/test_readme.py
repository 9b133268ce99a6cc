"""What README and its pages promise: commands are understood, files exist, the table of options is the program's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from CBCTSuperResLib.cli import make_parser
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.options_schema import markdown_table

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "README.md", *sorted((ROOT / "Resources" / "Documentation").glob("*.md"))]
PAGES = {path: path.read_text(encoding="utf-8") for path in FILES}
TEXT = "\n".join(PAGES.values())
CODE = "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)).replace("\\\n", " ")
COMMANDS = [line for line in CODE.splitlines() if line.startswith("cbct-superres ") and " | " not in line]


def test_the_table_of_options_is_that_of_the_program():
    """To renew it: python -m CBCTSuperResLib.train.options_schema"""
    between = re.search(r"<!-- options: begin -->\n(.*?)<!-- options: end -->", TEXT, re.DOTALL)[1]
    assert between == markdown_table()


def test_every_command_is_understood():
    for line in COMMANDS:
        words = shlex.split(line.partition(" > ")[0], comments=True)
        parsed = make_parser().parse_args(words[1:])
        assert callable(parsed.run), line


def test_there_are_commands_to_check():
    assert {line.split()[1] for line in COMMANDS} >= {"info", "apply", "train", "export"}


def test_every_file_that_is_named_exists():
    named = set(re.findall(r"Resources/[\w/.-]+\.\w+", TEXT))
    assert not [path for path in sorted(named) if not (ROOT / path).is_file()]


def test_every_link_leads_somewhere():
    links = [(page, link) for page, text in PAGES.items() for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)]
    assert len(links) > 10
    assert not [(page.name, link) for page, link in links if not (page.parent / link).exists()]


def test_the_readme_is_short():
    assert len(PAGES[ROOT / "README.md"].splitlines()) <= 200


def test_every_configuration_can_be_read():
    for path in sorted((ROOT / "Resources" / "Configurations").glob("*.json")):
        if "schema" not in path.name:
            assert read_options(path, is_train=not path.name.startswith("test_")).name, path
