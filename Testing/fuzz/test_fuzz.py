"""A slice of the campaign: a few seconds of mutated files, always the same, and all files that once broke a reader."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from CBCTSuperResLib.core.errors import SuperResError

from .campaign import _files_beside, attempt, input_of
from .mutations import mutated
from .targets import all_targets

HEADERS, READS = 120, 12  # of each kind
REGRESSIONS = Path(__file__).with_name("regressions")


@pytest.fixture(scope="module")
def targets():
    return {target.name: target for target in all_targets()}


def test_mutated_files_are_read_or_refused_with_a_reason(targets, tmp_path):
    _files_beside(tmp_path)
    outcomes = []
    with warnings.catch_warnings(action="error"):
        for target in targets.values():
            for number in range(HEADERS):
                way = "read" if target.read and number < READS else "gate"
                path = tmp_path / f"input{target.suffix}"
                path.write_bytes(input_of(target, number, seed=7))
                try:
                    outcomes.append(attempt(target, way, path))
                except Exception as error:
                    raise AssertionError(f"{target.name}, number {number}, {way}") from error
    assert 0.2 < sum(outcomes) / len(outcomes) < 0.9  # the mutations are neither harmless nor hopeless


def test_sound_files_are_read(targets, tmp_path):
    _files_beside(tmp_path)
    for target in targets.values():
        if target.name in ("checkpoint", "weights"):
            continue
        path = tmp_path / f"input{target.suffix}"
        path.write_bytes(target.seeds[0])
        assert not attempt(target, "gate", path), target.name
        assert not (target.read and attempt(target, "read", path)), target.name


def test_what_once_broke_a_reader_is_refused(targets, tmp_path):
    _files_beside(tmp_path)
    files = sorted(path for path in REGRESSIONS.iterdir() if path.name != "README.md")
    assert files
    for file in files:
        target = targets[file.name.partition("~")[0]]
        path = tmp_path / f"input{target.suffix}"
        path.write_bytes(file.read_bytes())
        for way in ("gate", "read") if target.read else ("gate",):
            try:
                attempt(target, way, path)
            except Exception as error:
                raise AssertionError(f"{file.name}, {way}") from error


def test_a_mutation_is_told_by_its_number(targets):
    seeds = targets["nrrd"].seeds
    assert mutated(seeds, 3, "nrrd") == mutated(seeds, 3, "nrrd") != mutated(seeds, 4, "nrrd")
    assert len({mutated(seeds, number, "nrrd") for number in range(200)}) > 190


def test_anything_but_an_error_of_ours_is_a_finding(targets, tmp_path):
    class Broken:
        name, suffix, seeds, read = "broken", ".x", (b"abc",), None

        @staticmethod
        def gate(path):
            if path.read_bytes()[:1] != b"a":
                raise IndexError("broken")
            raise SuperResError("refused")

    path = tmp_path / "input.x"
    path.write_bytes(b"abc")
    assert attempt(Broken, "gate", path)
    path.write_bytes(b"xbc")
    with pytest.raises(IndexError):
        attempt(Broken, "gate", path)
