"""`--output-spacing` and `--scale` of the commands: which model is taken, what is written, what is refused and how."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from CBCTSuperResLib import Volume
from CBCTSuperResLib.apply.report import identity, reading_facts
from CBCTSuperResLib.cli import batch, main
from CBCTSuperResLib.cli.terminal import with_triples
from CBCTSuperResLib.core.errors import OptionError
from CBCTSuperResLib.io.folders import report_path
from CBCTSuperResLib.models.folder import DEFAULT_MODEL, user_models_folder
from helpers import make_grid, position_error_mm
from stub_networks import interpolating_points, register, stub_model


@pytest.fixture(autouse=True)
def _model(monkeypatch):
    """The model of any size is one of the user's own."""
    register(monkeypatch)
    stub_model(interpolating_points(), name="zebra").save(user_models_folder() / "zebra.safetensors")


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    """10 x 9 x 6 voxels of 0.3 x 0.3 x 0.9 mm."""
    random = np.random.default_rng(0)
    voxels = random.uniform(0, 1000, (6, 9, 10)).astype(np.int16)
    return Volume(voxels, make_grid((10, 9, 6), (0.3, 0.3, 0.9))).write(tmp_path_factory.mktemp("thick") / "scan.nrrd")


def test_three_numbers_after_a_size_are_one_argument_and_no_name_of_a_file_is_taken():
    assert with_triples(["apply", "--scale", "1", "1", "3.3", "a", "b"]) == ["apply", "--scale", "1,1,3.3", "a", "b"]
    for rest in (
        ["--scale", "2", "scan", "out"],
        ["--output-spacing", ".2", "7", "out"],
        ["--scale"],
        ["--scale", "1"],
    ):
        assert with_triples(rest) == rest
    assert with_triples(["--scanner-blur", ".3", ".3", "5e-1"]) == ["--scanner-blur", ".3,.3,5e-1"]
    assert with_triples(["--roi", "1", "2", "3"]) == ["--roi", "1", "2", "3"]


def test_two_numbers_or_four_are_refused_with_how_many_it_takes(capsys):
    for words, option in (
        (["apply", "scan", "out", "--scale", "1", "2"], "--scale 1 2 are 2 numbers"),
        (["apply", "--scale", "1", "2", "--quiet", "scan", "out"], "--scale 1 2 are 2 numbers"),
        (["info", "scan", "--output-spacing", ".1", ".1", ".1", ".2"], "--output-spacing .1 .1 .1 .2 are 4 numbers"),
        (["batch", "scan", "--output-folder", "out", "--scale", "1", "2"], "--scale 1 2 are 2 numbers"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(words)
        assert f"{option}: give one, for all axes, or three" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["apply", "scan", "out", "--scale", "2", "--frobnicate", "1"])
    assert "unrecognized arguments: --frobnicate 1" in capsys.readouterr().err


def test_thick_slices_become_cubic_and_it_is_said_which_model_did_it(scan, tmp_path, capsys):
    before, report = Volume.read(scan), None
    for way in (["--output-spacing", "0.3"], ["--output-spacing", "cubic"], ["--scale", "1", "1", "3"]):
        target = tmp_path / "result.nrrd"
        target.unlink(missing_ok=True)
        assert main(["apply", *way, str(scan), str(target), "--device", "cpu"]) == 0
        after = Volume.read(target)
        assert after.voxels.shape == (18, 9, 10) and after.voxels.dtype == before.voxels.dtype
        assert position_error_mm(after.grid, before.grid.resampled((10, 9, 18))) <= 1e-6
        printed, report = capsys.readouterr().out, json.loads(report_path(target).read_text(encoding="utf-8"))
        assert "18 voxels of 0.3 x 0.3 x 0.3 mm" in printed
        other = report["super_resolution"]["model"]
        assert f"The model {other} was taken because {DEFAULT_MODEL} does not enlarge by 1 x 1 x 3." in printed
    assert main(["info", str(scan), "--output-spacing", "0.2", "0.2", "0.3"]) == 0
    printed = capsys.readouterr().out
    assert "15 x 14 x 18 voxels of 0.2 x 0.1929 x 0.3 mm" in printed and f"was taken because {DEFAULT_MODEL}" in printed


def test_twice_as_fine_in_slices_stays_the_work_of_the_usual_model(scan, capsys):
    for way in ([], ["--output-spacing", ".15", ".15", ".9"], ["--scale", "2"]):
        assert main(["info", str(scan), *way]) == 0
        printed = capsys.readouterr().out
        assert DEFAULT_MODEL in printed and "was taken because" not in printed, way


def test_what_cannot_be_is_refused_with_a_reason_and_nothing_is_written(scan, tmp_path, capsys, monkeypatch):
    for way, words, code in (
        (["--output-spacing", "0.01"], "No model enlarges by 30 x 30 x 90", 2),
        (["--output-spacing", "0.01"], "any-size, 1 to 4 x 4 x 6 (down to 0.075 x 0.075 x 0.15 mm)", 2),
        (["--output-spacing", "0.05", "--model", "zebra"], "offers factors from 1 to 4, not 6 x 6 x 18", 2),
        (["--output-spacing", "0.3", "--model", "light"], "leaves the slices' distance as it is", 2),
        (["--output-spacing", "1"], "use resampling", 2),
        (["--output-spacing", "0.3", "--scale", "2"], "Both a factor and a voxel size", 2),
        (["--output-spacing", "0.3", "--roi", "0", "50", "0", "9", "0", "6"], "outside the volume", 2),
    ):
        assert main(["apply", str(scan), str(tmp_path / "r.nrrd"), *way, "--device", "cpu"]) == code, way
        assert words in capsys.readouterr().err, way
    from CBCTSuperResLib.apply import memory_and_disk

    size = ["--output-spacing", "0.08"]
    monkeypatch.setattr(memory_and_disk, "available_memory", lambda: 10_000)
    assert main(["apply", str(scan), str(tmp_path / "r.nrrd"), *size, "--model", "zebra"]) == 2
    size = ["--output-spacing", "0.1", "0.1", "0.3"]
    assert main(["apply", str(scan), str(tmp_path / "r.nrrd"), *size]) == 5
    printed = capsys.readouterr().err
    assert "30 x 27 x 18 voxels of int16 (29.2 kB)" in printed and "larger output voxels" in printed
    monkeypatch.undo()
    monkeypatch.setattr(memory_and_disk.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(SystemExit):
        main(["apply", str(scan), str(tmp_path / "r.nrrd"), "--output-spacing", "fine"])
    assert "nor three of them" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_single_slice_is_refused_whatever_size_is_asked_for(tmp_path, capsys):
    path = Volume(np.zeros((1, 9, 10), np.int16), make_grid((10, 9, 1), (0.3, 0.3, 0.9))).write(tmp_path / "one.nrrd")
    assert main(["apply", str(path), str(tmp_path / "r.nrrd"), "--output-spacing", "0.3"]) == 3
    assert "slice" in capsys.readouterr().err


def test_a_batch_lets_the_voxels_of_each_scan_decide_on_its_model(scan, tmp_path):
    def tasks(*options):
        parsed = batch.make_parser().parse_args(["--input", str(scan), "--output-folder", str(tmp_path), *options])
        chosen = batch.options_from_arguments(parsed)
        return batch.plan(parsed, chosen, batch.chosen_card(parsed.model, chosen))

    (task,) = tasks("--output-spacing", "0.3")
    assert task.card is None and task.target.name == "scan SR 0.3 mm.nrrd"
    (named,) = tasks("--output-spacing", "0.3", "--model", "zebra")
    assert named.card.name == "zebra" and named.target.name == "scan SR 0.3 mm.nrrd"
    (by_factor,) = tasks("--scale", "1", "1", "3")
    assert by_factor.card is None and by_factor.target.name == "scan SR 1x1x3.nrrd"
    (turned,) = tasks("--scale", "5", "1", "1")  # if it was stored with slices that are thick along i
    assert turned.card is None and turned.target.name == "scan SR 5x1x1.nrrd"
    with pytest.raises(OptionError, match="No model enlarges by 1 x 1 x 9"):
        tasks("--scale", "1", "1", "9")
    assert tasks()[0].card is None and tasks()[0].target.name == "scan SR x2.nrrd"  # its scanner decides, too

    from CBCTSuperResLib.models.folder import default_model

    Volume.read(scan).write(task.target)
    card = default_model(task.options, (0.3, 0.3, 0.9))
    report = {
        "input": {**identity(scan), "spacing_mm": [0.3, 0.3, 0.9]},
        "output": identity(task.target),
        "options": task.options.to_json(),
        "reading": reading_facts(None, None),
        "super_resolution": {"model_sha256": card.weights_sha256},
    }
    report_path(task.target).write_text(json.dumps(report), encoding="utf-8")
    assert task.is_up_to_date()
    report["super_resolution"]["model_sha256"] = "0" * 64
    report_path(task.target).write_text(json.dumps(report), encoding="utf-8")
    assert not task.is_up_to_date()
