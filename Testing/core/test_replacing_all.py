"""Files that belong together take their places together; at no moment does a report tell of another result."""

from __future__ import annotations

import os

import pytest
from CBCTSuperResLib.core import atomic
from CBCTSuperResLib.core.atomic import replacing_all
from CBCTSuperResLib.core.errors import OutputError

NAMES = ("result.json", "mask", "result")


def write(folder, text: str, as_folder: bool = False) -> None:
    paths = [folder / name for name in NAMES]
    with replacing_all(paths, paths[-1:] if as_folder else []) as scratches:
        for scratch in scratches:
            (scratch / "IM0001" if scratch.is_dir() else scratch).write_text(text)


def state(folder) -> tuple:
    """What lies under each name, None where nothing does."""
    found = []
    for name in NAMES:
        path = folder / name
        path = path / "IM0001" if path.is_dir() else path
        found.append(path.read_text() if path.exists() else None)
    return tuple(found)


@pytest.fixture
def moments(tmp_path, monkeypatch):
    """The states before each change of a name: those in which a process that is killed would leave the folder."""
    seen, real = [], {name: getattr(os, name) for name in ("replace", "link", "rmdir", "unlink")}
    for name, change in real.items():

        def spied(*arguments, change=change, **options):
            seen.append(state(tmp_path))
            return change(*arguments, **options)

        monkeypatch.setattr(os, name, spied)
    return seen


@pytest.mark.parametrize("as_folder", [False, True])
def test_killed_at_any_moment_no_report_stands_beside_a_result_that_it_does_not_describe(tmp_path, moments, as_folder):
    write(tmp_path, "old", as_folder)
    assert state(tmp_path) == ("old", "old", "old")
    assert all(result in (None, report) for report, _, result in moments)  # the report first, the result last
    if as_folder:
        return
    moments.clear()
    write(tmp_path, "new")
    assert state(tmp_path) == ("new", "new", "new")
    assert {report for report, _, _ in moments} == {"old", None, "new"}
    assert all(report in (None, result) for report, _, result in moments)
    assert all(result for _, _, result in moments)  # nothing finished is lost
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("has_links", [True, False])
def test_a_name_that_cannot_be_taken_leaves_what_was_there(tmp_path, monkeypatch, has_links):
    write(tmp_path, "old")
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    real = atomic._rename
    for failing in range(6):
        count = iter(range(100))

        def rename(scratch, path, failing=failing, count=count):
            if next(count) == failing:
                raise PermissionError(13, "Permission denied")
            real(scratch, path)

        monkeypatch.setattr(atomic, "_rename", rename)
        try:
            write(tmp_path, "new")
        except OutputError as error:
            assert "Permission denied" in error.what
            report, _, result = state(tmp_path)
            assert result in ("old", "new") and (has_links is False or (report, result) == ("old", "old"))
        else:
            assert failing == 5 and state(tmp_path) == ("new", "new", "new")
        assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_nothing_appears_where_the_work_fails(tmp_path):
    with (
        pytest.raises(ValueError),
        replacing_all([tmp_path / "a.json", tmp_path / "b"], [tmp_path / "b"]) as (_, folder),
    ):
        (folder / "half").write_text("x")
        raise ValueError
    assert list(tmp_path.iterdir()) == []
