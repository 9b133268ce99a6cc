"""From grey values to the network and back: nothing outside the window is lost, nothing else is changed."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib import (
    Grid,
    Options,
    Volume,
    Window,
    super_resolve,
)
from CBCTSuperResLib.apply.finish import OVERSHOOT, Finisher
from CBCTSuperResLib.apply.prepare import Preparation
from CBCTSuperResLib.apply.tiles import Axis, plan_tiles
from CBCTSuperResLib.core.interpolate import cubic, enlarge_slice
from CBCTSuperResLib.scan.blank_filling import BlankFiller
from CBCTSuperResLib.scan.field_of_view import find_blanks
from hypothesis import given
from hypothesis import strategies as st
from stub_networks import Constant, CubicTwice, Unchanged, stub_model

DTYPES = ["uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "float16", "float32", "float64"]


def scan(dtype="uint16", shape=(4, 24, 22), scale=1.0, seed=0) -> np.ndarray:
    """Tissue between 100 and 900, a block of air far below it and one of metal far above, with smooth sides."""
    k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij")
    values = 500 + 300 * np.sin(i / 3) * np.cos(j / 4) + 20 * k
    values += np.random.default_rng(seed).normal(0, 20, shape)
    values -= 900 * np.exp(-((i - 5) ** 2 + (j - 6) ** 2) / 12)
    values += 2500 * np.exp(-((i - 16) ** 2 + (j - 15) ** 2) / 8)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (values * scale).astype(kind)
    limits = np.iinfo(kind)
    return np.rint(np.clip(values * scale, limits.min, limits.max)).astype(kind)


def volume_of(voxels) -> Volume:
    return Volume(voxels, Grid(voxels.shape[::-1], (0.2, 0.2, 0.3)))


def by_cubic(voxels) -> np.ndarray:
    """The interpolated scan, in float64."""
    return np.stack([enlarge_slice(s.astype(np.float64), (2 * s.shape[0], 2 * s.shape[1])) for s in voxels])


def expected_of(voxels, lo, hi) -> np.ndarray:
    """The interpolated scan within the range that a result may have."""
    padded = np.pad(voxels.astype(np.float64), ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    slack = OVERSHOOT * (hi - lo)
    lowest = np.minimum(around.min((3, 4)), lo) - slack
    highest = np.maximum(around.max((3, 4)), hi) + slack
    return np.clip(by_cubic(voxels), *(b.repeat(2, 1).repeat(2, 2) for b in (lowest, highest)))


def run(voxels, network, window, **options):
    return super_resolve(volume_of(voxels), stub_model(network), Options(window=window, blank="none", **options)).voxels


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_identity_network_gives_the_interpolated_scan_of_the_same_type(dtype):
    scale = {"uint8": 0.08, "int8": 0.04}.get(dtype, 1.0)
    voxels = scan(dtype, scale=scale)
    lo, hi = 100 * scale, 900 * scale
    found = run(voxels, CubicTwice(), (lo, hi))
    expected = expected_of(voxels, lo, hi)
    assert found.dtype == dtype
    if voxels.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=2e-3 if dtype == "float16" else 1e-5, atol=2e-3)
        return
    info = np.iinfo(dtype)
    exact = np.clip(expected, info.min, info.max)
    assert np.abs(found - exact).max() <= 0.5 + 2e-3


def test_air_and_metal_outside_the_window_survive():
    voxels = scan("int16")
    found = run(voxels, CubicTwice(), (100, 900))
    assert found.min() < voxels.min() + 60 < 0 and found.max() > voxels.max() - 200 > 2000


@pytest.mark.parametrize(("dtype", "window"), [("uint16", (20000, 40000)), ("int32", (-3, 2**22)), ("float64", (0, 1))])
@pytest.mark.parametrize("value", [0.25, 1.7, -0.4])
def test_a_constant_region_stays_exactly_constant(dtype, window, value):
    lo, hi = window
    grey = np.asarray(lo + value * (hi - lo)).astype(dtype)
    voxels = np.full((3, 20, 20), grey)
    voxels[:, :3, :3] = np.arange(9).reshape(3, 3) + (30000 if dtype == "uint16" else 0)
    found = run(voxels, CubicTwice(), window)
    if voxels.dtype.kind == "f":
        np.testing.assert_allclose(found[:, 20:, 20:], grey, rtol=1e-6)
    else:
        assert (found[:, 20:, 20:] == grey).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 40000), st.integers(200, 65535))
def test_integers_come_back_exactly_from_an_identity_of_the_same_size(seed, lo, width):
    voxels = np.random.default_rng(seed).integers(0, 2**16, (2, 9, 8), dtype=np.uint16)
    found = run(voxels, Unchanged(), (lo, lo + width))
    np.testing.assert_array_equal(found, voxels)


def test_wide_integers_come_back_exactly_too():
    voxels = np.random.default_rng(0).integers(-(2**31), 2**31 - 1, (3, 20, 20)).astype(np.int32)
    voxels[1] = np.random.default_rng(1).integers(0, 2**23, (20, 20))
    np.testing.assert_array_equal(run(voxels, Unchanged(), (0, 2**23)), voxels)


def test_the_type_can_be_chosen_and_values_are_rounded_and_kept_in_its_range():
    voxels = scan("int16")
    exact = run(voxels, CubicTwice(), (100, 900), dtype="float32")
    assert exact.dtype == np.float32 and not np.all(exact == np.rint(exact))
    for dtype in ("uint8", "int32", "uint16"):
        limits = np.iinfo(dtype)
        expected = np.clip(np.rint(exact), limits.min, limits.max)
        assert np.abs(run(voxels, CubicTwice(), (100, 900), dtype=dtype) - expected).max() <= 1


@pytest.mark.parametrize(("value", "bound"), [(7.0, 1000 * (1 + OVERSHOOT)), (-7.0, -1000 * OVERSHOOT)])
def test_what_a_network_overshoots_is_limited(value, bound):
    voxels = np.clip(scan("float32"), 0, 1000)
    found = run(voxels, Constant(value), (0, 1000))
    np.testing.assert_allclose(found, bound, rtol=1e-6)


def test_the_limit_follows_metal_and_air_nearby():
    voxels = scan("float32")
    found = run(voxels, Constant(7.0), (0, 1000))
    assert found[:, 28:34, 30:36].max() > 1500 and found[:, :, :4].max() <= 1020


def test_where_the_window_is_saturated_the_result_is_the_interpolated_scan():
    """Inside metal the network sees a flat 1 and, if it gives it back, only the cubic interpolation remains."""
    voxels = (3000 + 200 * np.random.default_rng(0).random((2, 16, 16))).astype(np.float32)
    found = run(voxels, Constant(1.0), (0, 1000))
    np.testing.assert_allclose(found, by_cubic(voxels), atol=21)
    assert np.abs(found - by_cubic(voxels)).mean() < 1


def prepared(voxels, window, smooth=0.0, read=None, option="auto"):
    volume = volume_of(voxels)
    preparation = Preparation(voxels, Window(*window), BlankFiller(find_blanks(volume, option), voxels.shape), smooth)
    return preparation.box(read or tuple(slice(0, n) for n in voxels.shape))


def test_unit_and_excess_give_the_scan_together():
    voxels = scan("int16")
    box = prepared(voxels, (100, 900), option="none")
    assert box.unit.dtype == np.float32 and box.unit.min() == 0 and box.unit.max() == 1
    np.testing.assert_allclose(100 + 800 * box.unit + box.excess, voxels, atol=1e-3)
    assert prepared(voxels, (-3000, 9000), option="none").excess is None


@pytest.mark.parametrize("smooth", [0.0, 0.5, 1.3])
def test_a_crop_is_prepared_like_the_whole(smooth):
    voxels = scan("uint16", (5, 40, 44))
    voxels[:, np.hypot(*np.ogrid[-20:20, -22:22]) > 19] = 0
    read = (slice(1, 4), slice(3, 30), slice(0, 17))
    whole, crop = prepared(voxels, (100, 900), smooth), prepared(voxels, (100, 900), smooth, read)
    np.testing.assert_allclose(crop.unit, whole.unit[read], atol=1e-6)
    np.testing.assert_array_equal(crop.excess, whole.excess[read])


def test_smoothing_is_a_gaussian_in_the_plane_of_the_slice():
    voxels = np.zeros((3, 21, 21), np.float32)
    voxels[1, 10, 10] = 1
    voxels[0, 0, :] = 0.5
    unit = prepared(voxels, (0, 1), 0.8, option="none").unit
    y, x = np.ogrid[-10:11, -10:11]
    expected = np.exp(-(x**2 + y**2) / (2 * 0.8**2))
    np.testing.assert_allclose(unit[1], expected / expected.sum(), atol=1e-3)
    assert not unit[2].any()


def test_a_slice_without_data_looks_like_its_nearest_neighbour_with_data():
    voxels = scan("uint16", (8, 30, 30)) + np.uint16(500)
    voxels[:3] = 0
    voxels[:, np.hypot(*np.ogrid[-15:15, -15:15]) > 14] = 0
    blanks = find_blanks(volume_of(voxels), 0)
    assert blanks.mask(1).all()
    box = prepared(voxels, (100, 2900), option=0)
    np.testing.assert_array_equal(box.unit[0], box.unit[3])
    assert box.excess is None or not box.excess[:3].min() < -100


@given(st.integers(2, 12), st.sampled_from([2, 2.5, 3.3]))
def test_tiles_of_a_slice_are_finished_like_the_whole(edge, scale):
    voxels = scan("int16", (1, 20, 18))
    axes = [Axis(n, 0, n, round(n * s)) for n, s in zip(voxels.shape, (1, scale, scale), strict=True)]
    window, blanks = Window(100, 900), find_blanks(volume_of(scan()), "none")
    preparation = Preparation(voxels, window, BlankFiller(blanks, voxels.shape), 0.0)
    results = []
    for cut in (None, edge):
        output = np.zeros([axis.outputs for axis in axes], np.float32)
        for tile in plan_tiles(axes, (1, cut, cut), 2):
            box = preparation.box(tile.read)
            at = [axis.positions(w) - r.start for axis, w, r in zip(axes, tile.write, tile.read, strict=True)]
            Finisher(output, axes, window, blanks).write(tile, cubic(box.unit, at), box)
        results.append(output)
    np.testing.assert_allclose(results[1], results[0], atol=5e-3)


def test_a_blank_value_that_the_chosen_type_cannot_hold_becomes_its_nearest_value():
    voxels = scan("int16", (5, 40, 40))
    voxels[:, np.hypot(*np.ogrid[-20:20, -20:20]) > 18] = -2000
    result = super_resolve(volume_of(voxels), stub_model(CubicTwice()), Options(window=(0, 250), dtype="uint8"))
    assert result.report["blank"]["value"] == -2000
    assert (result.voxels[:, :3, :3] == 0).all()
