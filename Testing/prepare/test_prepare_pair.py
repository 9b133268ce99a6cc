"""Two scans of one phantom, moved against each other, become aligned pairs; everything else is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from CBCTSuperResLib.acquisition.phantom import cylinder, jaw_phantom, reference_scan
from CBCTSuperResLib.acquisition.scanner import (
    ALL_AXES,
    IN_PLANE,
    correlated_noise,
    gaussian_blur,
)
from CBCTSuperResLib.core.errors import (
    Cancelled,
    InputError,
    OptionError,
    OutputError,
)
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume

pytest.importorskip("cv2", reason="preparing pairs needs OpenCV")

from CBCTSuperResLib.prepare.images import empty_image, to_image
from CBCTSuperResLib.prepare.options import PrepareOptions
from CBCTSuperResLib.prepare.pair import prepare_pair
from CBCTSuperResLib.prepare.register import rigid

SHAPE, SPACING = (48, 96, 96), 0.2
LR_SPACING = (0.4, 0.4, 0.25)
GAIN, OFFSET = 0.09, -3140.0  # from HR grey values to LR grey values
LR_VOXEL = float(np.cbrt(np.prod(LR_SPACING)))
OPTIONS = PrepareOptions(min_size=40, min_slices=16, window=(26000, 46000))


def movement(degrees: float, mm: float, centre: np.ndarray, seed: int) -> np.ndarray:
    """Matrix (4, 4) that turns and moves by this much, about and along random directions."""
    random = np.random.default_rng(seed)
    axis, way = (v / np.linalg.norm(v) for v in random.normal(size=(2, 3)))
    turn = sitk.VersorTransform()
    turn.SetRotation(axis.tolist(), float(np.radians(degrees)))
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(turn.GetMatrix(), (3, 3))
    matrix[:3, 3] = centre + mm * way - matrix[:3, :3] @ centre
    return matrix


def fine_grid() -> Grid:
    return Grid(SHAPE[::-1], (SPACING,) * 3, (12.0, -30.0, 7.0))


def scans(seed: int, degrees: float = 6.0, mm: float = 4.0) -> tuple[Volume, Volume, np.ndarray]:
    """LR and HR of one jaw, and the matrix from HR points to LR points.

    They differ in spacing, field of view, sharpness, noise and grey scale.
    """
    grid = fine_grid()
    centre = grid.point((np.array(grid.size) - 1) / 2)
    field = gaussian_blur(jaw_phantom(SHAPE, SPACING, seed), 0.45, ALL_AXES)
    hr = reference_scan(field, grid, seed, blur=0, noise=0.01, blank=0)
    matrix = movement(degrees, mm, centre, seed)
    size = [int(0.92 * n * SPACING / s) for n, s in zip(grid.size, LR_SPACING, strict=True)]
    middle = (matrix @ np.r_[centre, 1])[:3]
    lr_grid = Grid(size, LR_SPACING)
    lr_grid = Grid(size, LR_SPACING, middle - lr_grid.point((np.array(size) - 1) / 2))
    blurred = to_image(gaussian_blur(field, 0.85, IN_PLANE), grid)
    back = rigid(np.linalg.inv(matrix), centre)
    image = sitk.GetArrayFromImage(sitk.Resample(blurred, empty_image(lr_grid), back, sitk.sitkLinear, -9.0))
    unseen = image < -2
    image = image + correlated_noise(image.shape, 0.02, 0.6, ALL_AXES, seed + 9)
    grey = np.rint(GAIN * (26000 + 20000 * image) + OFFSET).astype(np.int16)
    grey[unseen | ~cylinder(grey.shape)] = -3024
    return Volume(grey, lr_grid), hr, matrix


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder, its name with spaces and letters beyond ASCII, that holds two patients' scans."""
    folder = tmp_path_factory.mktemp("Zähne und Knochen")
    for seed in (0, 1):
        lr, hr, matrix = scans(seed)
        lr.write(folder / f"P{seed} LR.nrrd")
        hr.write(folder / f"P{seed} HR.nrrd")
        np.save(folder / f"P{seed}.npy", matrix)
    return folder


@pytest.fixture(scope="module")
def prepared(folder) -> tuple[dict, Path]:
    out = folder / "Paare"
    return prepare_pair(folder / "P0 LR.nrrd", folder / "P0 HR.nrrd", out, OPTIONS), out


def corner_error(found: np.ndarray, true: np.ndarray, report: dict) -> float:
    """Largest distance in mm between the true and the found place of the region's corners."""
    region = report["region"]
    ends = list(zip(region["hr_start"], region["hr_stop"], strict=True))
    points = np.array([[*fine_grid().point((i, j, k)), 1.0] for i in ends[0] for j in ends[1] for k in ends[2]])
    return float(np.linalg.norm((points @ (found - true).T)[:, :3], axis=1).max())


def images(folder: Path) -> np.ndarray:
    return np.stack([sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in sorted(folder.iterdir())])


def test_a_turned_and_moved_scan_is_found_to_a_quarter_of_its_voxel(prepared, folder):
    report, _ = prepared
    found = np.array(report["registration"]["matrix_hr_to_lr"])
    assert corner_error(found, np.load(folder / "P0.npy"), report) < 0.25 * LR_VOXEL


def test_the_residual_is_measured_and_is_small(prepared):
    alignment = prepared[0]["alignment"]
    assert alignment["matched"] >= 5
    assert alignment["median_mm"] < 0.3 * LR_VOXEL
    assert alignment["gradient_correlation"] > 0.9


def test_the_slices_pair_by_name_size_and_type(prepared):
    report, out = prepared
    names = [[path.name for path in sorted((out / side).iterdir())] for side in ("HR", "LR")]
    assert names[0] == names[1] == report["files"]
    hr, lr = images(out / "HR"), images(out / "LR")
    assert hr.dtype == lr.dtype == np.uint16
    assert hr.shape == (len(lr), 2 * lr.shape[1], 2 * lr.shape[2])
    assert min(hr.shape[1:]) >= OPTIONS.min_size


def test_the_hr_slices_are_the_scan_itself_in_its_window(prepared, folder):
    report, out = prepared
    start, stop = report["region"]["hr_start"], report["region"]["hr_stop"]
    scan = Volume.read(folder / "P0 HR.nrrd").voxels
    scan = scan[tuple(slice(a, b) for a, b in zip(start[::-1], stop[::-1], strict=True))].astype(np.float64)
    assert scan.min() > 0, "the region reaches into the blank"
    expected = np.clip((scan - 26000) / 20000, 0, 1) * 65535
    assert np.abs(images(out / "HR") - expected).max() < 0.6


def test_the_lr_slices_show_the_same_in_the_matched_window(prepared):
    report, out = prepared
    hr, lr = (images(out / side) / 65535 for side in ("HR", "LR"))
    means = hr.reshape(len(hr), lr.shape[1], 2, lr.shape[2], 2).mean(axis=(2, 4))
    assert np.corrcoef(means.ravel(), lr.ravel())[0, 1] > 0.95
    assert abs(np.median(lr - means)) < 0.02
    expected = [GAIN * bound + OFFSET for bound in (26000, 46000)]
    assert np.allclose(report["window_lr"], expected, atol=0.03 * 1800)


def test_what_is_needed_to_train_and_to_check_is_beside_the_slices(prepared):
    report, out = prepared
    assert {path.name for path in out.iterdir()} == {
        "HR",
        "LR",
        "report.json",
        "checkerboard.png",
        "lr_to_hr.tfm",
        "datasets.json",
    }
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == json.loads(json.dumps(report))
    train = json.loads((out / "datasets.json").read_text(encoding="utf-8"))["train"]
    assert (train["mode"], train["dataroot_HR"], train["dataroot_LR"]) == ("LRHR", str(out / "HR"), str(out / "LR"))
    assert train["scanner_window"] == report["window_lr"]
    assert min(sitk.ReadImage(str(out / "checkerboard.png")).GetSize()) > 800
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


def test_the_same_scans_give_the_same_bytes(prepared, folder, tmp_path):
    _, out = prepared
    prepare_pair(folder / "P0 LR.nrrd", folder / "P0 HR.nrrd", tmp_path / "again", OPTIONS)
    for path in sorted((out / "LR").iterdir()):
        assert path.read_bytes() == (tmp_path / "again" / "LR" / path.name).read_bytes()
    assert (out / "lr_to_hr.tfm").read_bytes() == (tmp_path / "again" / "lr_to_hr.tfm").read_bytes()


@pytest.mark.parametrize("others", [(1, 0), (0, 1), (0, 2)])
def test_scans_of_two_objects_are_refused_and_leave_nothing(others, tmp_path):
    """Seeds 0 and 2 resemble each other: half of the blocks find something alike nearby."""
    scans(others[0])[0].write(tmp_path / "lr.nrrd")
    scans(others[1])[1].write(tmp_path / "hr.nrrd")
    options = PrepareOptions.from_json({**OPTIONS.to_json(), "min_size": 32, "min_slices": 8, "window": None})
    with pytest.raises(InputError, match="Registration failed") as error:
        prepare_pair(tmp_path / "lr.nrrd", tmp_path / "hr.nrrd", tmp_path / "out", options)
    assert "initial transform" in error.value.advice
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hr.nrrd", "lr.nrrd"]


def test_a_very_noisy_scan_of_the_same_object_is_not_refused(folder, tmp_path):
    lr = Volume.read(folder / "P1 LR.nrrd")
    noise = np.random.default_rng(1).normal(size=lr.voxels.shape) * 0.17 * GAIN * 20000
    noisy = np.where(lr.voxels == -3024, -3024, np.rint(lr.voxels + noise)).astype(np.int16)
    Volume(noisy, lr.grid).write(tmp_path / "lr.nrrd")
    report = prepare_pair(tmp_path / "lr.nrrd", folder / "P1 HR.nrrd", tmp_path / "out", OPTIONS)
    found = np.array(report["registration"]["matrix_hr_to_lr"])
    assert corner_error(found, np.load(folder / "P1.npy"), report) < 0.25 * LR_VOXEL
    assert report["alignment"]["median_mm"] < 0.3 * LR_VOXEL


def test_the_written_transform_aligns_the_scans_without_registration(prepared, folder, tmp_path):
    report, out = prepared
    options = PrepareOptions.from_json(
        {**OPTIONS.to_json(), "register": False, "initial": str(out / "lr_to_hr.tfm"), "format": "nrrd"}
    )
    again = prepare_pair(folder / "P0 LR.nrrd", folder / "P0 HR.nrrd", tmp_path / "out", options, name="P 0")
    assert again["alignment"]["median_mm"] == pytest.approx(report["alignment"]["median_mm"], abs=1e-3)
    hr, lr = (Volume.read(tmp_path / "out" / side / "P_0.nrrd") for side in ("HR", "LR"))
    outer = [hr.grid.point(np.array(hr.grid.size) - 0.5), lr.grid.point(np.array(lr.grid.size) - 0.5)]
    assert np.allclose(*outer, atol=1e-6)
    assert np.allclose(hr.grid.point((-0.5,) * 3), lr.grid.point((-0.5,) * 3), atol=1e-6)


def test_scans_that_are_said_to_be_aligned_and_are_not_are_refused(folder, tmp_path):
    options = PrepareOptions.from_json({**OPTIONS.to_json(), "register": False})
    with pytest.raises(InputError, match="not aligned|in common"):
        prepare_pair(folder / "P0 LR.nrrd", folder / "P0 HR.nrrd", tmp_path / "out", options)


def test_the_whole_region_is_larger_and_filled_alike_in_both(prepared, folder, tmp_path):
    options = PrepareOptions.from_json({**OPTIONS.to_json(), "region": "whole"})
    report = prepare_pair(folder / "P0 LR.nrrd", folder / "P0 HR.nrrd", tmp_path / "out", options)
    assert np.prod(report["region"]["hr_size"]) > 1.5 * np.prod(prepared[0]["region"]["hr_size"])
    assert 0.1 < report["region"]["filled_share"] < 0.5
    hr, lr = (images(tmp_path / "out" / side) / 65535 for side in ("HR", "LR"))
    corners = [(0, 0), (0, -1), (-1, 0), (-1, -1)]
    blank = np.mean([np.abs(hr[:, r, c] - lr[:, r, c]).mean() for r, c in corners])
    assert blank < 0.2, "the corners show different things"


def test_isotropic_pairs_are_coarser_along_all_axes(folder, tmp_path):
    options = PrepareOptions.from_json({**OPTIONS.to_json(), "planes": "isotropic", "format": "nrrd"})
    report = prepare_pair(folder / "P0 LR.nrrd", folder / "P0 HR.nrrd", tmp_path / "out", options)
    assert report["region"]["hr_size"] == [2 * n for n in report["region"]["lr_size"]]
    assert report["alignment"]["median_mm"] < 0.3 * LR_VOXEL


def test_a_region_smaller_than_asked_for_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="at least 90 x 90"):
        options = PrepareOptions.from_json({**OPTIONS.to_json(), "min_size": 90})
        prepare_pair(folder / "P0 LR.nrrd", folder / "P0 HR.nrrd", tmp_path / "out", options)


def test_a_movement_beyond_the_limit_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="beyond the limits of 1 degrees"):
        options = PrepareOptions.from_json({**OPTIONS.to_json(), "max_rotation_deg": 1.0})
        prepare_pair(folder / "P0 LR.nrrd", folder / "P0 HR.nrrd", tmp_path / "out", options)


@pytest.mark.parametrize("stage", ["Registering, level", "Resampling", "Measuring", "Writing"])
def test_cancelling_ends_it_and_leaves_nothing(folder, tmp_path, stage):
    said, asked = [], []

    def cancelled() -> bool:
        asked.append(any(stage in message for message in said))
        return asked[-1]

    with pytest.raises(Cancelled):
        prepare_pair(
            folder / "P0 LR.nrrd",
            folder / "P0 HR.nrrd",
            tmp_path / "out",
            OPTIONS,
            lambda fraction, message: said.append(message),
            cancelled,
        )
    assert stage in said[-1], "it went on to the next stage"
    assert sum(asked) <= 3
    assert not list(tmp_path.iterdir())


def test_ctrl_c_within_the_registration_is_not_lost(folder, tmp_path):
    """SimpleITK swallows an exception in a callback, and Ctrl-C with it."""
    said = []

    def cancelled() -> bool:
        if said[-1].startswith("Registering, level 2"):
            signal.raise_signal(signal.SIGINT)
        return False

    lr, hr = folder / "P0 LR.nrrd", folder / "P0 HR.nrrd"
    with pytest.raises(KeyboardInterrupt):
        prepare_pair(lr, hr, tmp_path / "out", OPTIONS, lambda fraction, message: said.append(message), cancelled)
    assert said[-1].startswith("Registering, level 2")
    assert not list(tmp_path.iterdir())


def test_progress_tells_its_stages_and_never_goes_back(folder, tmp_path):
    told = []
    lr, hr = folder / "P0 LR.nrrd", folder / "P0 HR.nrrd"
    prepare_pair(lr, hr, tmp_path / "out", OPTIONS, lambda fraction, message: told.append((fraction, message)))
    assert [fraction for fraction, _ in told] == sorted(fraction for fraction, _ in told)
    assert told[-1][0] == 1.0
    assert len({message for _, message in told}) > 8


def test_a_folder_that_holds_something_is_not_touched(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="not empty"):
        prepare_pair(folder / "P0 LR.nrrd", folder / "P0 HR.nrrd", tmp_path, OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_unreadable_scan_is_named(folder, tmp_path):
    (tmp_path / "bad.nrrd").write_bytes(b"NRRD0004\nnothing")
    with pytest.raises(InputError, match="bad.nrrd"):
        prepare_pair(tmp_path / "bad.nrrd", folder / "P0 HR.nrrd", tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()


def test_a_transform_that_scales_is_refused(folder, tmp_path):
    transform = sitk.AffineTransform(3)
    transform.Scale(1.1)
    sitk.WriteTransform(transform, str(tmp_path / "scaled.tfm"))
    options = PrepareOptions.from_json({**OPTIONS.to_json(), "initial": str(tmp_path / "scaled.tfm")})
    with pytest.raises(InputError, match="scales or shears"):
        prepare_pair(folder / "P0 LR.nrrd", folder / "P0 HR.nrrd", tmp_path / "out", options)


def test_an_initial_transform_leads_where_no_start_would(folder, tmp_path):
    """Slicer saves an affine transform; 50 degrees are too many for the starts of our own."""
    lr, hr, matrix = scans(0, degrees=50.0)
    lr.write(tmp_path / "lr.nrrd")
    guess = sitk.AffineTransform(3)
    near = matrix @ movement(3.0, 0.8, fine_grid().point((48, 48, 24)), 3)
    guess.SetMatrix(near[:3, :3].ravel().tolist())
    guess.SetTranslation(near[:3, 3].tolist())
    sitk.WriteTransform(guess, str(tmp_path / "guess.tfm"))
    options = PrepareOptions.from_json(
        {**OPTIONS.to_json(), "initial": str(tmp_path / "guess.tfm"), "min_size": 24, "min_slices": 8}
    )
    report = prepare_pair(tmp_path / "lr.nrrd", folder / "P0 HR.nrrd", tmp_path / "out", options)
    assert corner_error(np.array(report["registration"]["matrix_hr_to_lr"]), matrix, report) < 0.25 * LR_VOXEL


@pytest.mark.parametrize(
    "values",
    [
        {"scale": 1},
        {"planes": "coronal"},
        {"format": "jpg"},
        {"planes": "isotropic", "format": "tif"},
        {"val_share": 1.0},
        {"patient_pattern": "("},
        {"min_overlap": float("nan")},
        {"blurr": 1},
    ],
)
def test_options_that_make_no_sense_are_refused(values):
    with pytest.raises(OptionError):
        PrepareOptions.from_json(values)
