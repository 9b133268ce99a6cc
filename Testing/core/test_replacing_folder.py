"""A folder of results appears whole or not at all, under a name that nobody can foretell until then."""

from __future__ import annotations

import pytest
from CBCTSuperResLib.core.atomic import replacing_folder
from CBCTSuperResLib.core.errors import OutputError


def test_what_was_written_appears_at_the_end(tmp_path):
    with replacing_folder(tmp_path / "new" / "pairs") as scratch:
        (scratch / "a.txt").write_text("a")
        assert not (tmp_path / "new" / "pairs").exists()
    assert [path.name for path in (tmp_path / "new" / "pairs").iterdir()] == ["a.txt"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pairs"]


def test_whatever_goes_wrong_nothing_is_left(tmp_path):
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), replacing_folder(tmp_path / "pairs") as scratch:
            (scratch / "a.txt").write_text("a")
            raise error
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="failed"), replacing_folder(tmp_path / "pairs"):
        raise OSError("the disk is full")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_and_a_file_are_refused_and_an_empty_one_is_taken(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name in ("full", "full/a.txt"):
        with pytest.raises(OutputError), replacing_folder(tmp_path / name):
            raise AssertionError("it was given")
    with replacing_folder(tmp_path / "empty") as scratch:
        (scratch / "b.txt").write_text("b")
    assert (tmp_path / "full" / "a.txt").read_text() == "mine" and (tmp_path / "empty" / "b.txt").exists()


def test_the_name_until_then_is_hidden_and_another_one_each_time(tmp_path):
    names = set()
    for _ in range(3):
        with pytest.raises(RuntimeError), replacing_folder(tmp_path / "pairs") as scratch:
            names.add(scratch.name)
            raise RuntimeError
    assert len(names) == 3 and all(name.startswith(".") for name in names)
