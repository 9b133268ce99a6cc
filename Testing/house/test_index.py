"""What Slicer's extensions index asks of a repository, as far as files can tell, and that all places say the same."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
ENTRY = ROOT / "Resources" / "ExtensionsIndex" / "CBCTSuperRes.json"
MODULE_FILES = [ROOT / name / f"{name}.py" for name in ("CBCTSuperRes", "CBCTSuperResTraining")]
CATEGORY = "Filtering"


def extension(name: str) -> str:
    """The value of EXTENSION_name, which the index reads with an expression like this one."""
    return re.search(rf'^set\(EXTENSION_{name} "([^"]+)"\)$', CMAKE, re.MULTILINE)[1]


def size_of(png: Path) -> tuple[int, int]:
    header = png.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", header[16:])


def test_the_entry_has_what_the_schema_knows_and_unix_lines():
    assert b"\r" not in ENTRY.read_bytes()
    entry = json.loads(ENTRY.read_text(encoding="utf-8"))
    assert entry.pop("$schema").endswith("slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert entry.pop("tier") in (1, 3, 5)
    assert entry == {
        "build_dependencies": extension("DEPENDS").split(),
        "build_subdirectory": ".",
        "category": CATEGORY,
        "scm_revision": "main",
        "scm_url": extension("HOMEPAGE"),
    }


def test_project_entry_and_repository_have_the_same_name():
    assert re.search(r"^project\((\w+)\)$", CMAKE, re.MULTILINE)[1] == ENTRY.stem
    assert extension("HOMEPAGE").rpartition("/")[2] == f"Slicer{ENTRY.stem}"


@pytest.mark.parametrize("name", ["ICONURL", "SCREENSHOTURLS"])
def test_pictures_of_the_web_page_are_files_of_the_repository(name):
    raw = extension("HOMEPAGE").replace("//github.com/", "//raw.githubusercontent.com/") + "/main/"
    for url in extension(name).split():
        assert url.startswith(raw), url
        assert size_of(ROOT / url.removeprefix(raw))[0] >= 128


def test_icons_are_128_pixels_wide_and_high():
    icons = [*ROOT.glob("*/Resources/Icons/CBCT*.png"), *ROOT.glob("Resources/Icons/*.png")]
    assert len(icons) == 3
    for icon in icons:
        assert size_of(icon) == (128, 128)


def test_both_modules_and_the_extension_name_the_same_people_and_category():
    assert extension("CATEGORY") == CATEGORY
    for path in MODULE_FILES:
        source = path.read_text(encoding="utf-8")
        assert f'"{CATEGORY}")]' in source
        assert f'parent.contributors = ["{extension("CONTRIBUTORS")}"]' in source


def test_there_is_a_licence_and_the_repository_stays_small():
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    shipped = [
        path for folder in ("Resources", "CBCTSuperRes", "CBCTSuperResTraining") for path in (ROOT / folder).rglob("*")
    ]
    assert sum(path.stat().st_size for path in shipped if path.is_file()) < 50e6  # the index takes 100 MB with history


def test_no_placeholder_is_left():
    assert "OWNER" not in CMAKE + ENTRY.read_text(encoding="utf-8")


def test_the_steps_by_hand_stay_few_and_are_numbered():
    lines = (ROOT / "Testing" / "MANUAL.md").read_text(encoding="utf-8").splitlines()
    numbers = [int(line.split("|")[1]) for line in lines if re.match(r"\| \d+ \|", line)]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) <= 20
