"""From a file to a file: what is published together, what is refused beforehand, and what is left alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.apply import file, run
from CBCTSuperResLib.apply import plan as planning
from CBCTSuperResLib.apply.file import DISAGREEMENT, MASK, apply_to_file, path_beside
from CBCTSuperResLib.core import atomic
from CBCTSuperResLib.core.errors import OptionError, OutputError, ResourceError
from CBCTSuperResLib.core.options import TYPES
from CBCTSuperResLib.io.exchange import read_exchange, write_exchange
from CBCTSuperResLib.io.read import read_volume
from CBCTSuperResLib.io.write import write_volume
from CBCTSuperResLib.models.folder import user_models_folder
from helpers import make_grid
from stub_networks import CubicTwice, stub_model

FORMATS = (".nrrd", ".mha", ".nii", ".nii.gz", ".npy")
OPTIONS = Options(window=(0.0, 1000.0), device="cpu", blank="none")
WITH_MAPS = Options(window=(0.0, 1000.0), device="cpu", blank="none", uncertainty=2, disagreement_above=1.0)


@pytest.fixture
def scan(tmp_path):
    voxels = np.random.default_rng(0).integers(20, 120, (3, 20, 24)).astype(np.uint8)
    return Volume(voxels, make_grid((24, 20, 3), (0.25, 0.25, 0.25))).write(tmp_path / "scan.nrrd")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_that_options_accept_is_written_by_every_format(scan, tmp_path, kind):
    for suffix in FORMATS:
        target = tmp_path / f"result{suffix}"
        apply_to_file(scan, target, stub_model(CubicTwice()), Options(**{**OPTIONS.to_json(), "dtype": kind}))
        voxels = (read_exchange if suffix == ".npy" else read_volume)(target).voxels
        assert voxels.dtype == kind and voxels.shape == (3, 40, 48), suffix


@pytest.mark.parametrize("kind", [">i2", "<u2", "int", "float", np.int16, np.dtype("float32")])
def test_other_names_of_a_type_are_understood(scan, tmp_path, kind):
    apply_to_file(scan, tmp_path / "result.nrrd", stub_model(CubicTwice()), Options(**{**vars(OPTIONS), "dtype": kind}))
    assert read_volume(tmp_path / "result.nrrd").voxels.dtype == np.dtype(kind).newbyteorder("=")
    json.dumps(Options(dtype=kind).to_json())


@pytest.mark.parametrize(
    "kind", ["float16", "longdouble", "complex64", "bool", "object", "str", "datetime64", "i2,i2", "nonsense", ""]
)
def test_types_that_no_format_holds_are_refused_by_name(kind):
    with pytest.raises(OptionError, match="int16") as error:
        Options(dtype=kind)
    assert repr(kind) in str(error.value)


@pytest.mark.parametrize("suffix", FORMATS[:4])
def test_the_type_of_a_scan_that_no_format_holds_is_refused_before_anything_is_computed(tmp_path, monkeypatch, suffix):
    voxels = np.random.default_rng(0).uniform(20, 120, (3, 20, 24)).astype(np.longdouble)
    source = write_exchange(Volume(voxels, make_grid((24, 20, 3))), tmp_path / "scan.npy")
    monkeypatch.setattr(run, "super_resolve", None)
    with pytest.raises(OutputError, match=str(np.dtype(np.longdouble))):
        apply_to_file(source, tmp_path / f"result{suffix}", stub_model(CubicTwice()), OPTIONS)
    with pytest.raises(OutputError, match=str(np.dtype(np.longdouble))):
        write_volume(Volume(voxels, make_grid((24, 20, 3))), tmp_path / f"result{suffix}")
    assert [name for name in names(tmp_path) if name.startswith(("result", ".result"))] == []


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_read(scan, tmp_path):
    (tmp_path / "result.nrrd.json").mkdir()
    with pytest.raises(OutputError, match="result.nrrd.json is a folder"):
        apply_to_file(scan, tmp_path / "result.nrrd", stub_model(CubicTwice()), OPTIONS)
    assert names(tmp_path) == ["result.nrrd.json", "scan.nrrd"]


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("suffix", [".nrrd", ".npy"])
@pytest.mark.parametrize("failing", range(4))
def test_result_and_what_goes_with_it_are_published_together_or_none(
    scan, tmp_path, monkeypatch, suffix, failing, is_there
):
    """Whichever of the files cannot take its place: nothing new stays, and what was there before is there again."""
    model, target = stub_model(CubicTwice()), tmp_path / f"result{suffix}"
    if is_there and suffix == ".nrrd":
        apply_to_file(scan, target, model, WITH_MAPS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    places, rename = [], atomic.os.replace

    def fail(source, place):
        if not Path(place).name.startswith("."):
            places.append(place)
            if len(places) == failing + 1:
                raise IsADirectoryError(21, "Is a directory")
        rename(source, place)

    monkeypatch.setattr(atomic.os, "replace", fail)
    if failing == 3 and suffix == ".npy":  # has no mask
        apply_to_file(scan, target, model, WITH_MAPS)
        return
    with pytest.raises(OutputError):
        apply_to_file(scan, target, model, WITH_MAPS)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_second_run_replaces_all_of_the_first(scan, tmp_path):
    target = tmp_path / "result.nrrd"
    first, second = (apply_to_file(scan, target, stub_model(CubicTwice()), WITH_MAPS) for _ in range(2))
    assert names(tmp_path) == sorted(
        ["scan.nrrd", target.name, f"{target.name}.json", *(path_beside(target, w).name for w in (DISAGREEMENT, MASK))]
    )
    assert json.loads((tmp_path / "result.nrrd.json").read_text(encoding="utf-8"))["seconds"] == second["seconds"]
    assert first["output"]["bytes"] == second["output"]["bytes"] == target.stat().st_size
    assert second["output"]["modified"] == target.stat().st_mtime


def test_computing_writes_nothing_but_what_it_was_asked_to_write(scan, tmp_path):
    volume, model = read_volume(scan), stub_model(CubicTwice(), weights_sha256="a" * 64)
    large = Volume(np.tile(volume.voxels, (40, 6, 6)), make_grid((144, 120, 120)))
    assert super_resolve(large, model, OPTIONS).report["seconds"]["computing"] > 0
    write_volume(large, scan)
    apply_to_file(scan, tmp_path / "result.nrrd", model, OPTIONS)
    assert not user_models_folder().exists()
    assert names(tmp_path) == ["result.nrrd", "result.nrrd.json", "scan.nrrd"]


def test_the_voxels_of_a_file_are_checked_once(scan, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "check_voxels", None)
    apply_to_file(scan, tmp_path / "result.nrrd", stub_model(CubicTwice()), OPTIONS)


@pytest.mark.parametrize(
    ("place", "words", "advice"),
    [
        ((file.Volume, "read"), "reading", "crop"),
        ((file, "allocate"), r"the result, 48 x 40 x 3 voxels of uint8 \(5.8 kB\)", "integer|smaller output type"),
        ((run.Preparation, "box"), "computing", "ROI"),
        ((run.Finisher, "write"), "computing", "ROI"),
        ((file, "write_into"), "writing", "ROI"),
    ],
)
def test_what_memory_ran_out_for_is_told_with_what_helps_there(scan, tmp_path, monkeypatch, place, words, advice):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(*place, fail)
    with pytest.raises(ResourceError, match=words) as error:
        apply_to_file(scan, tmp_path / "result.nrrd", stub_model(CubicTwice()), OPTIONS)
    assert any(word in error.value.advice for word in advice.split("|"))
    assert names(tmp_path) == ["scan.nrrd"]


def test_the_advice_for_reading_speaks_of_no_roi(scan, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(file.Volume, "read", fail)
    with pytest.raises(ResourceError) as error:
        apply_to_file(scan, tmp_path / "result.nrrd", stub_model(CubicTwice()), OPTIONS)
    assert "ROI" not in str(error.value) and "planes" not in str(error.value)
