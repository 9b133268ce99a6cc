"""Filled slices have no false edge where the field of view ends."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.scan.blank_region import BlankRegion
from CBCTSuperResLib.scan.field_of_view import find_blanks
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("cv2")
from CBCTSuperResLib.scan.blank_filling import BlankFiller

SHAPE = (12, 70, 80)


def smooth_scan(seed: int = 0) -> np.ndarray:
    """Slowly varying grey values around 1000 with little noise, float32."""
    k, j, i = np.ix_(*(np.arange(n) for n in SHAPE))
    waves = 1000 + 100 * np.sin(j / 15) + 100 * np.cos(i / 12) + k
    return (waves + np.random.default_rng(seed).normal(0, 1, SHAPE)).astype(np.float32)


def disc() -> np.ndarray:
    j, i = np.ix_(np.arange(SHAPE[1]) - 34.5, np.arange(SHAPE[2]) - 39.5)
    return np.hypot(j, i) <= 33


def cylinder() -> tuple[np.ndarray, BlankRegion]:
    voxels = smooth_scan()
    voxels[:, ~disc()] = 0
    region = region_of(voxels)
    assert region.kind == "cylinder"
    return voxels, region


def region_of(voxels: np.ndarray, option: str | float = "auto") -> BlankRegion:
    return find_blanks(Volume(voxels, Grid(voxels.shape[::-1])), option)


def holes() -> tuple[np.ndarray, BlankRegion]:
    """A scan with two small enclosed holes, a large one and a blank side, all of value -1 and none like the next."""
    voxels = smooth_scan()
    for k in range(SHAPE[0]):
        voxels[k, 10 + k : 16 + k, 20:25] = -1
        voxels[k, 50:53, 60 - k : 64 - k] = -1
        voxels[k, 30 : 40 + k, 36:60] = -1
        voxels[k, :, : 2 + k] = -1
    return voxels, region_of(voxels, -1)


CASES = (cylinder(), holes())


def test_measured_pixels_stay_as_they_are():
    for voxels, region in CASES:
        filler = BlankFiller(region, SHAPE)
        for k in (0, 7):
            measured = ~region.mask(k)
            np.testing.assert_array_equal(filler.fill(voxels[k], k)[measured], voxels[k][measured])


def test_blank_pixels_take_the_value_of_the_nearest_measured_pixel():
    voxels, region = cylinder()
    filled = BlankFiller(region, SHAPE).fill(voxels[3], 3)
    measured = np.argwhere(disc())
    for place in np.argwhere(~disc())[::37]:
        distances = np.hypot(*(measured - place).T)
        near = measured[distances <= distances.min() + 1]
        assert filled[tuple(place)] in voxels[3][tuple(near.T)]


def test_no_false_edge_is_left():
    for voxels, region in CASES:
        filled = BlankFiller(region, SHAPE).fill(voxels[5], 5)
        steps = max(np.abs(np.diff(filled, axis=0)).max(), np.abs(np.diff(filled, axis=1)).max())
        assert steps < 150 < np.abs(np.diff(voxels[5], axis=1)).max()


def test_small_holes_are_inpainted_smoothly():
    voxels, region = holes()
    filled = BlankFiller(region, SHAPE).fill(voxels[4], 4)
    truth = smooth_scan()[4]
    hole = np.s_[14:20, 20:25]
    assert np.all(voxels[4][hole] == -1)
    assert np.abs(filled[hole] - truth[hole]).max() < 15


@given(
    top=st.integers(0, 69),
    height=st.integers(1, 70),
    left=st.integers(0, 79),
    width=st.integers(1, 80),
    k=st.integers(0, 11),
)
def test_a_crop_is_filled_as_the_whole_slice_is(top, height, left, width, k):
    rows, columns = slice(top, top + height), slice(left, left + width)
    for voxels, region in CASES:
        filler = BlankFiller(region, SHAPE)
        whole = filler.fill(voxels[k], k)
        np.testing.assert_array_equal(filler.fill(voxels[k], k, rows, columns), whole[rows, columns])


def test_a_crop_outside_the_field_of_view_is_filled_from_beyond_it():
    voxels, region = cylinder()
    corner = BlankFiller(region, SHAPE).fill(voxels[0], 0, slice(0, 6), slice(0, 6))
    assert corner.shape == (6, 6)
    assert corner.min() > 700


def test_the_slice_itself_is_never_changed():
    for voxels, region in (cylinder(), holes()):
        voxels.flags.writeable = False
        filled = BlankFiller(region, SHAPE).fill(voxels[2], 2)
        assert filled is not voxels and not np.shares_memory(filled, voxels)


def test_without_blanks_the_slice_is_returned_without_a_copy():
    voxels = smooth_scan()
    filler = BlankFiller(BlankRegion("none", ""), SHAPE)
    assert np.shares_memory(filler.fill(voxels[0], 0), voxels)
    assert not filler.is_blank(0)
    voxels, region = cylinder()
    assert np.shares_memory(BlankFiller(region, SHAPE).fill(voxels[0], 0, slice(30, 40), slice(35, 45)), voxels)


def test_a_wholly_blank_slice_is_told_and_left_alone():
    voxels = smooth_scan()
    voxels[:2] = 0
    region = region_of(voxels)
    filler = BlankFiller(region, SHAPE)
    assert [k for k in range(SHAPE[0]) if filler.is_blank(k)] == [0, 1]
    np.testing.assert_array_equal(filler.fill(voxels[0], 0), voxels[0])


def test_double_precision_is_kept():
    voxels = smooth_scan().astype(np.float64) + 2**40
    voxels[:, ~disc()] = 0
    filled = BlankFiller(region_of(voxels), SHAPE).fill(voxels[0], 0)
    assert filled.dtype == np.float64
    assert set(np.unique(filled)) <= set(np.unique(voxels[0]))


def test_a_cylinder_along_another_axis_is_filled_too():
    voxels, _ = cylinder()
    turned = np.ascontiguousarray(np.moveaxis(voxels, 0, 1))
    region = region_of(turned)
    assert region.axis == 1
    filled = BlankFiller(region, turned.shape).fill(turned[10], 10)
    assert filled.min() > 700


@pytest.mark.parametrize("scale", [1, 30])
def test_filling_follows_the_grey_values_of_the_scan(scale):
    voxels, region = cylinder()
    filler = BlankFiller(region, SHAPE)
    np.testing.assert_allclose(filler.fill(scale * voxels[1], 1), scale * filler.fill(voxels[1], 1), rtol=1e-6)
