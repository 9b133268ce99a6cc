"""`cbct-superres evaluate`: same points, known figures, one file for people, and every bad input told."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from CBCTSuperResLib import Grid, Volume, cli
from CBCTSuperResLib.acquisition.phantom import WINDOW, jaw_scans
from CBCTSuperResLib.acquisition.scanner import P2
from CBCTSuperResLib.core.errors import InputError, OptionError
from CBCTSuperResLib.core.interpolate import cubic
from CBCTSuperResLib.evaluate.common_region import (
    at_points,
    common_box,
    cropped,
    have_the_same_points,
)
from CBCTSuperResLib.evaluate.contenders import FileContender, check_names
from CBCTSuperResLib.evaluate.drawing import (
    chart,
    difference_picture,
    png_address,
    ticks,
)
from CBCTSuperResLib.measure.fidelity import psnr
from CBCTSuperResLib.measure.statistics import mean_difference, mean_with_interval
from CBCTSuperResLib.scan.field_of_view import find_blanks
from helpers import make_grid, make_rotation
from stub_networks import CubicTwice, Sharpened, register, stub_model

FEW = ["--measures", "psnr", "gradient_correlation", "consistency", "dice"]
SHAPE = (8, 96, 112)


@pytest.fixture(autouse=True)
def _stub_networks(monkeypatch):
    register(monkeypatch)


@pytest.fixture(scope="module")
def scans():
    return jaw_scans(SHAPE, 0.15, seed=3, blank=None)


@pytest.fixture
def model(tmp_path):
    return stub_model(CubicTwice(), window=WINDOW, name="stub").save(tmp_path / "stub.safetensors")


def run(tmp_path, *words, code=0):
    assert cli.main(["evaluate", *map(str, words), "--out", str(tmp_path / "out"), "--quiet", *FEW]) == code
    if code:
        return None
    return json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))


def value(report, method, measure, scan=0):
    rows = [row for row in report["values"] if (row["method"], row["measure"]) == (method, measure)]
    return rows[scan]["value"]


def notes(report, scan=0):
    return " ".join(report["scans"][scan]["notes"])


# The points


def test_grids_that_differ_by_whole_voxels_have_the_same_points():
    grid = make_grid((30, 40, 50))
    assert have_the_same_points(grid.cropped((3, 4, 5), (20, 30, 40)), grid)
    moved = Grid(grid.size, grid.spacing, tuple(grid.point((0.3, 0, 0))), grid.direction)
    turned = Grid(grid.size, grid.spacing, grid.origin, grid.direction @ make_rotation(3))
    finer = Grid(grid.size, tuple(s * 0.99 for s in grid.spacing), grid.origin, grid.direction)
    assert not any(have_the_same_points(other, grid) for other in (moved, turned, finer))


def test_values_at_the_same_points_are_not_interpolated():
    voxels = np.random.default_rng(0).uniform(size=(20, 24, 28)).astype(np.float32)
    volume = Volume(voxels, make_grid((28, 24, 20)))
    part = cropped(volume, ((2, 10), (3, 20), (4, 25)))
    assert np.array_equal(at_points(volume, part.grid), voxels[2:10, 3:20, 4:25])


def test_values_at_other_points_are_those_of_the_field_there():
    """A smooth field, sampled on two rotated grids, is the same function of place."""

    def field(grid):
        k, j, i = np.meshgrid(*map(np.arange, grid.shape), indexing="ij")
        points = np.stack([i, j, k], -1) @ grid.index_to_point[:3, :3].T + grid.origin
        return (np.sin(points[..., 0] / 2) + np.cos(points[..., 1] / 3) * points[..., 2] / 9).astype(np.float32)

    volume_grid = Grid((50, 52, 54), (0.3, 0.3, 0.3))
    turn = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1.0]])
    inside = Grid((16, 17, 18), (0.25, 0.25, 0.4), (7.0, 5.0, 4.0), turn)
    found = at_points(Volume(field(volume_grid), volume_grid), inside)
    assert np.abs(found - field(inside)).max() <= 2e-3


def test_the_common_box_lies_in_all_scans_and_is_large():
    reference = Grid((60, 50, 40), (0.2, 0.2, 0.2), (1.0, 2.0, 3.0))
    none = find_blanks(Volume(np.zeros((2, 2, 2)), Grid((2, 2, 2))), "none")
    other = Grid((45, 60, 60), (0.2, 0.2, 0.2), (3.0, 0.0, 0.0))
    assert common_box(reference, [other], none) == ((0, 40), (0, 50), (10, 55))
    turned = Grid(
        (60, 60, 60), (0.2, 0.2, 0.2), (0.0, 1.0, 2.0), np.array([[0.995, -0.1, 0], [0.1, 0.995, 0], [0, 0, 1]])
    )
    box = common_box(reference, [turned], none)
    part = reference.cropped([a for a, _ in box[::-1]], [b for _, b in box[::-1]])
    for corner in np.ndindex(2, 2, 2):
        point = part.point([c * (n - 1) for c, n in zip(corner, part.size, strict=True)])
        index = np.linalg.solve(turned.index_to_point, [*point, 1.0])[:3]
        assert np.all(index > -0.6) and np.all(index < np.array(turned.size) - 0.4)
    assert np.prod(part.size) > 0.5 * np.prod(reference.size)
    assert common_box(reference, [], none, (10, 40, 999)) == ((15, 25), (5, 45), (0, 60))


def test_blank_regions_are_left_out():
    fine, _ = jaw_scans((10, 96, 96), 0.15, seed=3)
    fine.voxels[:2] = 0
    blanks = find_blanks(fine)
    box = common_box(fine.grid, [], blanks)
    part = fine.voxels[tuple(slice(*pair) for pair in box)]
    assert blanks and (part > 0).all() and box[0] == (2, 10) and part[0].size > 0.4 * 96 * 96


def test_scans_of_different_places_are_refused():
    none = find_blanks(Volume(np.zeros((2, 2, 2)), Grid((2, 2, 2))), "none")
    grid = Grid((60, 50, 40), (0.2, 0.2, 0.2))
    with pytest.raises(InputError, match="can be compared"):
        common_box(grid, [Grid((60, 50, 40), (0.2, 0.2, 0.2), (100.0, 0, 0))], none)
    with pytest.raises(InputError, match="can be compared"):
        common_box(grid, [Grid((60, 50, 40), (0.2, 0.2, 0.2), (0, 0, 7.7))], none)


# Statistics


def test_the_bootstrap_is_that_of_the_normal_distribution_where_it_applies():
    values = np.random.default_rng(1).normal(5, 2, 200)
    found = mean_with_interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert found.value == pytest.approx(values.mean()) and found.count == 200
    assert found.low == pytest.approx(values.mean() - half, abs=0.05)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05)
    assert mean_with_interval(values) == found


def test_differences_are_those_of_pairs_and_missing_values_do_not_count():
    found = mean_difference([3.0, 5.0, float("nan"), 9.0], [1.0, 3.0, 4.0, 7.0])
    assert (found.value, found.low, found.high, found.count) == (2.0, 2.0, 2.0, 3)
    assert np.isnan(mean_with_interval([4.0]).low) and np.isnan(mean_with_interval([]).value)


# Drawing


def test_curves_are_drawn_where_they_are():
    svg = chart(
        {"a & b": (np.array([0.0, 10.0]), np.array([0.0, 1.0]))}, "x", "y", colors={"a & b": "#123456"}, y_range=(0, 1)
    )
    (points,) = re.findall(r'polyline points="([^"]+)"', svg)
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in points.split())
    assert x0 < x1 and y0 > y1 and "a &amp; b" in svg and "a & b" not in svg
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0]) and ticks(-3, 7)[0] >= -3


def test_differences_are_red_above_and_blue_below():
    low, none, high = difference_picture(np.array([[-0.5, 0.0, 0.5]]), 0.2)[0].astype(int)
    assert low[2] > low[0] and high[0] > high[2] and (none == 255).all()
    assert png_address(np.zeros((4, 4), np.uint8)).startswith("data:image/png;base64,")


# The command


def test_a_model_is_measured_against_cubic_interpolation_of_a_simulated_scan(tmp_path, scans, model):
    fine, _ = scans
    fine.write(tmp_path / "jaw.nrrd")
    report = run(tmp_path, "--hr", tmp_path / "jaw.nrrd", "--model", model, "--window", "model")
    assert report["methods"] == ["cubic", "stub"]
    unit = np.clip((fine.voxels.astype(np.float32) - WINDOW[0]) / 20000, 0, 1)
    coarse = P2.degrade(unit)
    along = [None, *((np.arange(2 * n) + 0.5) / 2 - 0.5 for n in coarse.shape[1:])]
    expected = psnr(np.clip(cubic(coarse, along), 0, 1), unit)
    assert value(report, "cubic", "psnr") == pytest.approx(expected, abs=0.01)
    assert value(report, "stub", "psnr") == pytest.approx(expected, abs=0.02)
    assert "simulated (P2)" in notes(report) and report["scans"][0]["quality"]["stub"]["figures"]
    again = run(tmp_path, "--hr", tmp_path / "jaw.nrrd", "--model", model, "--window", "model")
    again["scans"][0].pop("quality"), report["scans"][0].pop("quality")
    assert again == report


def test_a_simulated_scan_can_be_coarse_along_all_axes(tmp_path, scans, model):
    scans[0].write(tmp_path / "jaw.nrrd")
    report = run(tmp_path, "--hr", tmp_path / "jaw.nrrd", "--model", model, "--simulate", "P3", "--noise", "0.01")
    assert report["scans"][0]["simulated"] == {"protocol": "P3", "blur_voxels": 0.85, "noise_share": 0.01, "seed": 0}
    assert value(report, "stub", "consistency") is not None


def test_results_from_files_and_a_real_coarse_scan(tmp_path, scans, model):
    fine, coarse = scans
    for name, volume in (("fine.nrrd", fine), ("coarse.nrrd", coarse), ("same.nrrd", fine)):
        volume.write(tmp_path / name)
    report = run(
        tmp_path, "--hr", tmp_path / "fine.nrrd", "--lr", tmp_path / "coarse.nrrd", "--model", model,
        "--sr", f"the truth itself={tmp_path / 'same.nrrd'}",
    )  # fmt: skip
    assert report["methods"] == ["cubic", "stub", "the truth itself"]
    assert value(report, "the truth itself", "gradient_correlation") == pytest.approx(1)
    assert value(report, "the truth itself", "psnr") is None and value(report, "cubic", "consistency") is None
    assert 20 < value(report, "cubic", "psnr") == pytest.approx(value(report, "stub", "psnr"), abs=0.1)
    assert "other places" not in notes(report)


def test_a_coarse_scan_with_other_grey_values_is_told(tmp_path, scans, model):
    fine, coarse = scans
    fine.write(tmp_path / "fine.nrrd")
    for name, voxels in (("same", coarse.voxels), ("other", coarse.voxels * 0.7 + 13000)):
        Volume(voxels.astype(np.uint16), coarse.grid).write(tmp_path / f"{name}.nrrd")
    given = ["--hr", tmp_path / "fine.nrrd", "--model", model, "--lr"]
    assert "grey values are not those" not in notes(run(tmp_path, *given, tmp_path / "same.nrrd"))
    assert "grey values are not those" in notes(run(tmp_path, *given, tmp_path / "other.nrrd"))


def test_a_result_of_another_extent_is_brought_to_the_same_points_and_that_is_said(tmp_path, scans):
    fine, _ = scans
    fine.write(tmp_path / "fine.nrrd")
    shifted = Grid((112, 96, 8), fine.spacing, tuple(fine.grid.point((5.5, -3, 0))), fine.direction)
    Volume(fine.voxels, shifted).write(tmp_path / "elsewhere.nrrd")
    report = run(tmp_path, "--hr", tmp_path / "fine.nrrd", "--sr", tmp_path / "elsewhere.nrrd")
    assert "other places" in notes(report) and "Compared in a box of" in notes(report)
    assert report["scans"][0]["size"][0] < 112 and report["methods"] == ["elsewhere"]


def test_a_folder_of_scans_gives_means_with_intervals_and_one_table(tmp_path, model):
    (tmp_path / "hr").mkdir()
    for seed in (3, 4, 5):
        jaw_scans(SHAPE, 0.15, seed=seed, blank=None)[0].write(tmp_path / "hr" / f"jaw {seed}.nrrd")
    sharp = stub_model(Sharpened(), window=WINDOW, name="sharp").save(tmp_path / "sharp.safetensors")
    report = run(tmp_path, "--hr", tmp_path / "hr", "--model", model, "--model", f"net <b>={sharp}")
    mean = report["summary"]["means"]["psnr"]["cubic"]
    singles = [value(report, "cubic", "psnr", scan) for scan in range(3)]
    assert mean["mean"] == pytest.approx(np.mean(singles), abs=1e-3) and mean["low"] < mean["mean"] < mean["high"]
    assert set(report["summary"]["differences"]["psnr"]) == {"stub - cubic", "net <b> - cubic", "net <b> - stub"}
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Mean over 3 scans" in html and "net &lt;b&gt;" in html and "net <b>" not in html
    rows = list(csv.DictReader((tmp_path / "out" / "values.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 3 * 3 * 4 and {row["scan"] for row in rows} == {"jaw 3.nrrd", "jaw 4.nrrd", "jaw 5.nrrd"}


def test_the_report_stands_alone_and_says_what_it_is(tmp_path, scans, model):
    scans[0].write(tmp_path / "Kiefer é.nrrd")
    run(tmp_path, "--hr", tmp_path / "Kiefer é.nrrd", "--model", model)
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:)', html) and "<script" not in html
    assert html.count("data:image/png") >= 6 and html.count("<svg") == 2
    assert "not for diagnosis" in html and "safe" not in re.sub(r'base64,[^"]+', "", html)
    assert "cubic \u2212 truth" in html and "What the figures mean" in html and "Kiefer é.nrrd" in html


@pytest.mark.parametrize(
    ("name", "voxels", "words"),
    [("constant", np.full(SHAPE, 30000, np.uint16), "same value"),
     ("tiny", np.random.default_rng(0).integers(26000, 46000, (2, 8, 8)).astype(np.uint16), "can be compared")],
)  # fmt: skip
def test_references_that_show_nothing_are_refused(tmp_path, model, capsys, name, voxels, words):
    Volume(voxels, make_grid(voxels.shape[::-1])).write(tmp_path / f"{name}.nrrd")
    run(tmp_path, "--hr", tmp_path / f"{name}.nrrd", "--model", model, code=InputError.exit_code)
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_no_overlap_is_refused(tmp_path, scans, capsys):
    fine, _ = scans
    fine.write(tmp_path / "fine.nrrd")
    far = Grid(fine.grid.size, fine.spacing, (500.0, 0.0, 0.0), fine.direction)
    Volume(fine.voxels, far).write(tmp_path / "far.nrrd")
    run(tmp_path, "--hr", tmp_path / "fine.nrrd", "--sr", tmp_path / "far.nrrd", code=InputError.exit_code)
    assert "same place" in capsys.readouterr().err


def test_a_constant_result_is_measured_and_told(tmp_path, scans):
    fine, _ = scans
    fine.write(tmp_path / "fine.nrrd")
    grey = fine.voxels.copy()
    grey[...] = 33000
    grey[0, 0, :40] += np.arange(40, dtype=np.uint16)  # readers refuse a file in which nothing is
    Volume(grey, fine.grid).write(tmp_path / "grey.nrrd")
    report = run(tmp_path, "--hr", tmp_path / "fine.nrrd", "--sr", tmp_path / "grey.nrrd", "--window", 26000, 46000)
    assert value(report, "grey", "gradient_correlation") is not None and value(report, "grey", "psnr") < 20


def test_without_voxel_size_nothing_is_measured_in_millimetres(tmp_path, scans, model):
    fine, _ = scans
    text = (
        "NRRD0004\ntype: unsigned short\ndimension: 3\n"
        f"sizes: {' '.join(map(str, fine.grid.size))}\nencoding: raw\nendian: little\n\n"
    )
    (tmp_path / "bare.nrrd").write_bytes(text.encode() + fine.voxels.astype("<u2").tobytes())
    report = run(tmp_path, "--hr", tmp_path / "bare.nrrd", "--model", model)
    assert report["scans"][0]["spacing_mm"] is None and "no voxel size" in notes(report)
    told = run(tmp_path, "--hr", tmp_path / "bare.nrrd", "--model", model, "--spacing", 0.2, 0.2, 0.3)
    assert told["scans"][0]["spacing_mm"] == [0.2, 0.2, 0.3]


def test_anisotropic_voxels_are_shown_and_measured(tmp_path, scans, model):
    fine, _ = scans
    grid = replace(fine.grid, spacing=(0.15, 0.15, 0.5))
    Volume(fine.voxels, grid).write(tmp_path / "flat.nrrd")
    report = run(tmp_path, "--hr", tmp_path / "flat.nrrd", "--model", model)
    assert report["scans"][0]["spacing_mm"] == pytest.approx([0.15, 0.15, 0.5]) and value(report, "cubic", "psnr") > 20


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--lr", "c.nrrd", "--simulate", "P2"], "coarse scan already"), (["--planes", "axial"], "given coarse scan"),
     (["--noise", "2"], "out of range"), (["--box", "5", "5", "0", "9", "0", "9"], "empty"),
     (["--measures", "beauty"], "no measure")],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(tmp_path, scans, model, capsys, words, message):
    scans[0].write(tmp_path / "fine.nrrd")
    given = ["evaluate", "--hr", str(tmp_path / "fine.nrrd"), "--model", str(model), "--out", str(tmp_path / "o")]
    assert cli.main([*given, "--quiet", *words]) == 2
    assert message in capsys.readouterr().err


def test_names_and_files_must_match(tmp_path, scans, model, capsys):
    scans[0].write(tmp_path / "fine.nrrd")
    run(tmp_path, "--hr", tmp_path / "fine.nrrd", "--model", model, "--model", model, code=2)
    assert "called 'stub'" in capsys.readouterr().err
    (tmp_path / "two").mkdir()
    for name in "ab":
        scans[0].write(tmp_path / "two" / f"{name}.nrrd")
    run(tmp_path, "--hr", tmp_path / "fine.nrrd", "--sr", tmp_path / "two", code=3)
    assert "1 references and 2 files" in capsys.readouterr().err


def test_a_part_can_be_chosen(tmp_path, scans, model):
    scans[0].write(tmp_path / "fine.nrrd")
    report = run(tmp_path, "--hr", tmp_path / "fine.nrrd", "--model", model, "--box", 10, 90, 4, 80, 1, 7)
    assert report["scans"][0]["size"] == [80, 76, 6] and report["scans"][0]["first_voxel"] == [10, 4, 1]


def test_results_need_names_of_their_own_and_cubic_is_taken():
    """A result that makes voxels cubic may well be called so."""
    check_names([FileContender("a", ()), FileContender("b", ())])
    for names, words in ((("a", "a"), "Two results are called 'a'"), (("cubic",), "as is the interpolation")):
        with pytest.raises(OptionError, match=f"{words}.*NAME=FILE"):
            check_names([FileContender(name, ()) for name in names])
