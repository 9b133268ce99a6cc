"""The parts of preparing pairs, each against what is known."""

from __future__ import annotations

import argparse
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, gaussian_blur
from CBCTSuperResLib.cli.prepare import add_prepare_arguments, options_from
from CBCTSuperResLib.core.errors import InputError, OptionError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.prepare.options import PrepareOptions
from helpers import make_grid, make_rotation

pytest.importorskip("hypothesis")
pytest.importorskip("cv2", reason="preparing pairs needs OpenCV")

from CBCTSuperResLib.prepare.alignment import measure_alignment, warn_of_ratio
from CBCTSuperResLib.prepare.images import (
    Scan,
    Working,
    block_means,
    coarser,
    to_image,
)
from CBCTSuperResLib.prepare.pair import prepare_pair, safe_name, scan_name
from CBCTSuperResLib.prepare.picture import checkerboard
from CBCTSuperResLib.prepare.region import largest_box
from CBCTSuperResLib.prepare.register import (
    angle_deg,
    best_shift,
    matrix_of,
    read_rigid,
    rigid,
    shift,
)
from CBCTSuperResLib.prepare.resample import LowResolution, fit_line, native_ratio, to_uint16, window_of_lr
from CBCTSuperResLib.scan.blank_region import BlankRegion
from CBCTSuperResLib.scan.field_of_view import find_blanks
from CBCTSuperResLib.scan.window import Window
from hypothesis import given
from hypothesis import strategies as st

NOTHING = BlankRegion("none", "")


def texture(shape: tuple[int, ...], seed: int = 0, sigma: float = 2.0) -> np.ndarray:
    """Smooth noise in about [0, 1], float32."""
    noise = gaussian_blur(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), sigma, ALL_AXES)
    return 0.5 + noise / (6 * noise.std())


def scan_of(values: np.ndarray, grid: Grid, title: str = "LR") -> Scan:
    return Scan(Volume(values, grid), NOTHING, title)


@given(st.integers(0, 10_000), st.tuples(*[st.integers(1, 5)] * 3), st.floats(0.5, 0.95))
def test_the_largest_box_is_the_largest(seed, shape, density):
    mask = np.random.default_rng(seed).random(shape) < density
    box = largest_box(mask)
    inside = mask[tuple(slice(a, b) for a, b in box)]
    assert inside.all()
    ranges = [[(a, b) for a in range(n) for b in range(a + 1, n + 1)] for n in shape]
    boxes = (mask[tuple(slice(a, b) for a, b in choice)] for choice in product(*ranges))
    assert inside.size == max((part.size for part in boxes if part.all()), default=0)


def test_the_largest_box_of_a_large_disc_is_nearly_its_inscribed_square():
    y, x = np.indices((200, 200)) - 99.5
    mask = np.broadcast_to(np.hypot(y, x) < 95, (70, 200, 200))
    box = largest_box(mask)
    assert mask[tuple(slice(a, b) for a, b in box)].all()
    assert box[0] == (0, 70)
    assert (box[1][1] - box[1][0]) * (box[2][1] - box[2][0]) > 0.97 * 2 * 95**2


def test_a_smaller_box_that_is_wide_enough_is_preferred():
    mask = np.zeros((4, 20, 20), bool)
    mask[:, :3, :] = True  # 240 voxels, too narrow
    mask[:3, 10:18, 10:18] = True  # 192 voxels
    box = largest_box(mask, (2, 8, 8))
    assert box == [(0, 3), (10, 18), (10, 18)]


@pytest.mark.parametrize("by", [(0, 0, 0), (0.4, -0.3, 0.6), (1.5, 1.0, -1.2), (-2.2, 0.7, 0.3)])
def test_a_known_shift_is_measured_to_a_tenth_of_a_voxel(by):
    spacing = (0.4, 0.4, 0.2)
    shape = (60, 56, 56)
    big = texture((80, 72, 72), 3, 1.5)
    grid = Grid(big.shape[::-1], spacing)
    reference = to_image(np.zeros(shape, np.uint8), grid.cropped((8, 8, 10), (64, 64, 70)))
    image = to_image(big, grid)
    hr = sitk.GetArrayFromImage(sitk.Resample(image, reference, sitk.Transform(), sitk.sitkBSpline))
    moved = sitk.TranslationTransform(3, [-b * 0.4 for b in by])
    lr = sitk.GetArrayFromImage(sitk.Resample(image, reference, moved, sitk.sitkBSpline))
    found = measure_alignment(hr, lr, np.ones(shape, bool), spacing)
    assert found.matched == found.blocks > 20
    assert np.allclose(found.mean_mm, np.array(by) * 0.4, atol=0.04)
    assert found.median_mm == pytest.approx(0.4 * np.linalg.norm(by), abs=0.04)


def test_images_of_different_things_do_not_match():
    shape = (40, 48, 48)
    found = measure_alignment(texture(shape, 1), texture(shape, 2), np.ones(shape, bool), (0.4,) * 3)
    assert found.matched < 0.3 * found.blocks
    assert abs(found.gradient_correlation) < 0.2


def test_a_flat_image_has_no_block_to_measure():
    shape = (40, 48, 48)
    flat = np.full(shape, 0.5, np.float32)
    assert measure_alignment(flat, flat, np.ones(shape, bool), (0.4,) * 3).blocks == 0


def test_unmeasured_parts_do_not_count():
    shape = (40, 64, 64)
    hr = texture(shape, 5, 1.5)
    lr, measured = hr.copy(), np.ones(shape, bool)
    lr[:, :, 40:], measured[:, :, 40:] = texture((40, 64, 24), 6), False
    found = measure_alignment(hr, lr, measured, (0.4,) * 3)
    assert found.matched == found.blocks > 5
    assert found.median_mm < 0.02
    assert found.gradient_correlation > 0.995


@pytest.mark.parametrize("left_handed", [False, True])
def test_a_ramp_lands_where_the_half_voxel_rule_puts_it(left_handed):
    """A B-spline reproduces a ramp, so every voxel must hold the ramp's value at its own centre."""
    lr_grid = make_grid((24, 26, 22), (0.5, 0.45, 0.6), seed=2, left_handed=left_handed, reach=20)
    slope = np.array([3.0, -2.0, 1.5])
    inner = [lr_grid.point((i, 13, 11)) for i in (4, 20)]
    k, j, i = np.indices(lr_grid.shape)
    places = np.stack([i, j, k, np.ones_like(i)], -1) @ lr_grid.index_to_point.T
    ramp = (places[..., :3] @ slope).astype(np.float32)
    matrix = np.eye(4)
    matrix[:3, :3] = make_rotation(5)
    matrix[:3, 3] = np.mean(inner, 0) - matrix[:3, :3] @ np.array([1.0, 2.0, 3.0])
    hr_grid = Grid((12, 16, 6), (0.2, 0.2, 0.3), np.array([1.0, 2.0, 3.0]) - [1.1, 1.5, 0.75])
    target = coarser(hr_grid, (2, 2, 1))
    grey = LowResolution(scan_of(ramp, lr_grid), target, [matrix]).sample(target, rigid(matrix, (0, 0, 0)))
    for index in [(0, 0, 0), (5, 7, 5), (3, 2, 4)]:
        point = (matrix @ np.r_[target.point(index), 1])[:3]
        assert grey[index[::-1]] == pytest.approx(point @ slope, abs=0.02)


def test_an_lr_scan_of_finer_voxels_is_averaged_to_the_pairs():
    """White noise of voxels four times finer keeps only what a wider voxel lets through."""
    values = np.random.default_rng(0).normal(size=(32, 96, 96)).astype(np.float32)
    grid = Grid((96, 96, 32), (0.1, 0.1, 0.4))
    target = Grid((20, 20, 28), (0.4, 0.4, 0.4), (0.8, 0.8, 0.8))
    spread = LowResolution(scan_of(values, grid), target, [np.eye(4)]).sample(target, sitk.Transform()).std()
    assert 0.15 < spread < 0.35, "a box of 4 x 4 voxels would leave 0.25"


def test_an_lr_scan_of_the_pairs_voxels_is_not_blurred():
    values = np.random.default_rng(0).normal(size=(16, 24, 24)).astype(np.float32)
    grid = Grid((24, 24, 16), (0.4, 0.4, 0.4))
    target = grid.cropped((4, 4, 4), (20, 20, 12))
    same = LowResolution(scan_of(values, grid), target, [np.eye(4)]).sample(target, sitk.Transform())
    assert np.allclose(same, values[4:12, 4:20, 4:20], atol=1e-3)


def test_the_voxel_ratio_follows_the_axes_of_the_scans():
    turned = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    lr = Grid((9, 9, 9), (0.5, 0.4, 0.3), direction=turned)  # i along y, j along z, k along x
    assert native_ratio(Grid((9, 9, 9), (0.1, 0.1, 0.2)), lr, np.eye(4)) == pytest.approx((3.0, 5.0, 2.0))


@pytest.mark.parametrize(
    ("ratio", "words"), [((2.0, 2.0, 9.0), None), ((2.2, 2.2, 1.0), None), ((3.1, 3.1, 1.0), "interpolated")]
)
def test_a_ratio_of_voxels_far_from_the_scale_is_told(ratio, words):
    told = warn_of_ratio(ratio, PrepareOptions(), Grid((9, 9, 9), (0.1, 0.1, 0.1)))
    assert (words is None and not told) or words in told[0]


def test_finer_voxels_than_the_scale_are_told():
    assert "averaged" in warn_of_ratio((1.5, 1.5, 1.0), PrepareOptions(), Grid((9, 9, 9)))[0]


def test_the_line_between_grey_scales_survives_blur_noise_and_metal():
    shape = (32, 48, 48)
    hr = 20000 + 20000 * texture(shape, 1, 6)
    lr = 0.1 * gaussian_blur(hr, 1.0, ALL_AXES) - 3000
    lr += np.random.default_rng(2).normal(size=shape) * 40
    lr[:4, :8, :8] = 9000
    line = fit_line(hr, lr.astype(np.float32), np.ones(shape, bool))
    middle = 0.1 * 30000 - 3000
    assert line.gain == pytest.approx(0.1, rel=0.03)
    assert line.gain * 30000 + line.offset == pytest.approx(middle, abs=10)


def test_windows_are_matched_only_where_they_differ():
    from CBCTSuperResLib.prepare.resample import Line

    window = Window(26000, 46000)
    near, far = Line(1.005, -100, 1.0), Line(0.1, -3000, 1.0)
    assert window_of_lr(window, near, PrepareOptions())[0] == window
    assert window_of_lr(window, far, PrepareOptions(intensity="same"))[0] == window
    matched = window_of_lr(window, far, PrepareOptions())[0]
    assert (matched.lo, matched.hi) == pytest.approx((-400, 1600))
    assert window_of_lr(window, near, PrepareOptions(intensity="matched"))[0].lo == pytest.approx(26030)


def test_the_windows_bounds_become_0_and_65535():
    values = np.array([-5.0, 26000, 36000, 46000, 65535])
    assert to_uint16(values, Window(26000, 46000)).tolist() == [0, 0, 32768, 65535, 65535]


def test_the_best_of_all_shifts_finds_a_small_scan_in_a_large_one():
    field = texture((40, 64, 64), 8, 4)
    grid = Grid((64, 64, 40), (1.0,) * 3)
    small = grid.cropped((30, 8, 12), (58, 36, 36))
    part = field[12:36, 8:36, 30:58]
    elsewhere = Grid(small.size, small.spacing, (100.0, 50.0, -70.0))
    hr, lr = (
        Working(to_image(a, g), to_image(np.ones(a.shape, np.uint8), g)) for a, g in ((part, elsewhere), (field, grid))
    )
    found = best_shift(hr, lr)
    assert np.abs(found - (np.array(small.origin) - elsewhere.origin)).max() <= 1.2


def test_a_rigid_matrix_survives_its_file(tmp_path):
    matrix = shift((3, -4, 5))
    matrix[:3, :3] = make_rotation(3)
    sitk.WriteTransform(rigid(matrix, (10, 20, 30)), str(tmp_path / "ä b.tfm"))
    assert np.allclose(read_rigid(tmp_path / "ä b.tfm"), matrix, atol=1e-9)
    assert np.allclose(matrix_of(rigid(matrix, (10, 20, 30))), matrix, atol=1e-9)
    assert angle_deg(shift((1, 2, 3))) == pytest.approx(0)


@pytest.mark.parametrize("kind", ["missing", "text", "bspline", "mirror"])
def test_what_is_no_rigid_transform_is_refused(tmp_path, kind):
    path = tmp_path / "t.tfm"
    if kind == "text":
        path.write_text("no transform")
    elif kind == "bspline":
        sitk.WriteTransform(sitk.BSplineTransform(3), str(path))
    elif kind == "mirror":
        affine = sitk.AffineTransform(3)
        affine.SetMatrix([-1, 0, 0, 0, 1, 0, 0, 0, 1])
        sitk.WriteTransform(affine, str(path))
    with pytest.raises(InputError, match="t.tfm"):
        read_rigid(path)


def test_block_means_drop_what_is_left_over():
    array = np.arange(2 * 5 * 6, dtype=np.uint16).reshape(2, 5, 6)
    means = block_means(array, (2, 2, 1))
    assert means.shape == (2, 2, 3)
    assert means[0, 0, 0] == np.mean([0, 1, 6, 7])
    grid = coarser(Grid((6, 5, 2), (0.1, 0.1, 0.3)), (2, 2, 1))
    assert grid.size == (3, 2, 2)
    assert grid.origin == pytest.approx((0.05, 0.05, 0.0))


def test_a_checkerboard_takes_tiles_by_turns():
    board = checkerboard(np.zeros((6, 8)), np.ones((6, 8)), tiles=3)
    assert board[:2, :4].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
    assert board[2, 0] == 1 and board[5, 7] == 1


def test_scans_are_named_after_their_files(tmp_path):
    (tmp_path / "P 1.nii.gz").touch()
    (tmp_path / "P.2").mkdir()
    assert scan_name(tmp_path / "P 1.nii.gz") == "P 1"
    assert scan_name(tmp_path / "P.2") == "P.2"
    assert safe_name('P 1: "left"?') == "P_1_left"


def test_the_command_line_gives_the_same_defaults_as_the_console():
    parser = argparse.ArgumentParser()
    add_prepare_arguments(parser)
    assert options_from(parser.parse_args(["--lr", "a", "--hr", "b", "--out", "c"])) == PrepareOptions()


def test_the_command_line_reaches_every_option():
    parser = argparse.ArgumentParser()
    add_prepare_arguments(parser)
    text = (
        "--lr a --hr b --out c --scale 4 --planes isotropic --format nrrd --region whole --min-size 64 --min-slices 4 "
        "--window 26000 46000 --intensity same --blank-lr none --blank-hr 0 --initial t.tfm --no-register "
        "--max-rotation 5 --max-shift 6 --min-overlap 0.5 --max-residual 0.5 --min-correlation 0.6 --seed 3 "
        "--val-share 0.3 --patient-pattern ^P --lr-spacing 1 1 2 --hr-spacing 1 1 1 --lr-series 1 --hr-series 2 "
        "--override"
    )
    options, default = options_from(parser.parse_args(text.split())).to_json(), PrepareOptions().to_json()
    assert not [name for name in default if options[name] == default[name]]
    assert PrepareOptions.from_json(options) == options_from(parser.parse_args(text.split()))


def test_a_preset_is_a_window():
    parser = argparse.ArgumentParser()
    add_prepare_arguments(parser)
    assert options_from(parser.parse_args(["--lr", "a", "--hr", "b", "--out", "c", "--preset", "hu"])).window == "hu"
    with pytest.raises(OptionError):
        options_from(parser.parse_args(["--lr", "a", "--hr", "b", "--out", "c", "--scale", "1"]))


def test_options_and_arguments_need_nothing_that_a_bare_slicer_lacks():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'cv2', 'tqdm', 'matplotlib', 'scipy']))\n"
        "import CBCTSuperResLib.prepare, CBCTSuperResLib.cli.prepare\n"
    )
    library = Path(__file__).resolve().parents[2] / "CBCTSuperRes"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=library, timeout=240)


def test_a_real_tooth_is_registered_to_a_moved_and_degraded_copy(shared_data, tmp_path):
    """In units of the fine voxel, as the file records no spacing."""
    tooth = Volume.read(shared_data / "tooth.nrrd")
    hr = Volume(tooth.voxels, Grid(tooth.grid.size, (0.1, 0.1, 0.1)))
    centre = hr.grid.point((np.array(hr.grid.size) - 1) / 2)
    matrix = np.eye(4)
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.07, -0.05, 0.06)
    matrix[:3, :3] = np.reshape(turn.GetMatrix(), (3, 3))
    matrix[:3, 3] = centre + [1.1, -0.8, 0.9] - matrix[:3, :3] @ centre
    blurred = to_image(gaussian_blur(hr.voxels.astype(np.float32), 0.85, ALL_AXES), hr.grid)
    lr_grid = Grid((48, 46, 70), (0.2, 0.2, 0.22))
    middle = (matrix @ np.r_[centre, 1])[:3]
    lr_grid = Grid(lr_grid.size, lr_grid.spacing, middle - lr_grid.point((np.array(lr_grid.size) - 1) / 2))
    reference = to_image(np.zeros(lr_grid.shape, np.uint8), lr_grid)
    back = rigid(np.linalg.inv(matrix), centre)
    image = sitk.GetArrayFromImage(sitk.Resample(blurred, reference, back, sitk.sitkLinear, 100.0))
    noise = np.random.default_rng(0).normal(size=image.shape) * 25
    Volume(np.rint(1.3 * image - 400 + noise).astype(np.int16), lr_grid).write(tmp_path / "lr.nrrd")
    hr.write(tmp_path / "hr.nrrd")
    options = PrepareOptions(min_size=48, min_slices=48)
    report = prepare_pair(tmp_path / "lr.nrrd", tmp_path / "hr.nrrd", tmp_path / "out", options)
    region = report["region"]
    ends = list(zip(region["hr_start"], region["hr_stop"], strict=True))
    points = np.array([[*hr.grid.point((i, j, k)), 1.0] for i in ends[0] for j in ends[1] for k in ends[2]])
    found = np.array(report["registration"]["matrix_hr_to_lr"])
    assert np.linalg.norm((points @ (found - matrix).T)[:, :3], axis=1).max() < 0.25 * 0.2
    assert report["alignment"]["median_mm"] < 0.25 * 0.2
    assert report["grey_line"]["gain"] == pytest.approx(1.3, rel=0.05)


def test_blank_regions_are_found_for_both_scans():
    values = np.zeros((6, 40, 40), np.uint16)
    y, x = np.indices((40, 40)) - 19.5
    values[:, np.hypot(y, x) < 18] = 1000
    values += (np.random.default_rng(0).random(values.shape) * 50).astype(np.uint16) * (values > 0)
    volume = Volume(values, Grid((40, 40, 6)))
    scan = Scan(volume, find_blanks(volume), "HR")
    assert scan.measured(2).sum() == pytest.approx(np.pi * 18**2, rel=0.03)
    assert not scan.measured(2)[0, 0]
