"""Grids: where voxels are, before and after resampling and cropping."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.core.errors import InputError
from CBCTSuperResLib.core.volume import Grid, scaled_size
from CBCTSuperResLib.io.volume import Volume
from helpers import corners, make_grid, make_volume
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.tuples(*[st.integers(1, 700)] * 3)
SPACINGS = st.tuples(*[st.floats(0.02, 3.5)] * 3)
SCALES = st.tuples(*[st.one_of(st.sampled_from([1.0, 2.0, 3.0, 4.0, 3.3, 1.5]), st.floats(1.0, 4.5))] * 3)


@st.composite
def grids(draw) -> Grid:
    return make_grid(
        draw(SIZES),
        draw(SPACINGS),
        seed=draw(st.integers(0, 10**6)),
        oblique=draw(st.booleans()),
        left_handed=draw(st.booleans()),
        reach=draw(st.sampled_from([0.0, 100.0, 2000.0])),
    )


@given(grids(), SCALES)
def test_a_resampled_grid_has_the_same_outer_faces(grid, scale):
    fine = grid.resampled(scaled_size(grid.size, scale))
    assert np.abs(corners(fine, outer=True) - corners(grid, outer=True)).max() <= 1e-6


@given(grids(), SCALES)
def test_resampling_there_and_back_restores_the_grid(grid, scale):
    back = grid.resampled(scaled_size(grid.size, scale)).resampled(grid.size)
    assert np.allclose(back.spacing, grid.spacing, rtol=1e-12)
    assert np.abs(corners(back) - corners(grid)).max() <= 1e-6


@given(grids(), st.data())
def test_a_cropped_voxel_stays_where_it_was(grid, data):
    start = [data.draw(st.integers(0, n - 1)) for n in grid.size]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, grid.size, strict=True)]
    crop = grid.cropped(start, stop)
    last = np.asarray(stop) - 1
    assert crop.size == tuple(np.subtract(stop, start))
    assert np.abs(crop.point((0, 0, 0)) - grid.point(start)).max() <= 1e-6
    assert np.abs(crop.point(last - start) - grid.point(last)).max() <= 1e-6


@given(grids())
def test_cropping_first_or_resampling_first_gives_the_same_place(grid):
    start, stop = [n // 3 for n in grid.size], grid.size
    crop_first = grid.cropped(start, stop).resampled([2 * (b - a) for a, b in zip(start, stop, strict=True)])
    fine_first = grid.resampled([2 * n for n in grid.size]).cropped([2 * a for a in start], [2 * b for b in stop])
    assert np.abs(corners(crop_first) - corners(fine_first)).max() <= 1e-6


@pytest.mark.parametrize(
    ("n", "scale", "expected"), [(5, 2, 10), (5, 3.3, 17), (1, 0.2, 1), (5, 1.5, 8), (7, 1.5, 11), (3, 1, 3)]
)
def test_a_scaled_size_rounds_halves_up_and_is_at_least_one(n, scale, expected):
    assert scaled_size([n], [scale]) == (expected,)


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, float("nan")), (float("inf"), 1, 1)])
def test_a_spacing_that_cannot_be_is_refused(spacing):
    with pytest.raises(InputError, match="spacing"):
        Grid((2, 3, 4), spacing)


def test_axes_in_one_plane_are_refused():
    with pytest.raises(InputError, match="span space"):
        Grid((2, 3, 4), direction=[[1, 0, 1], [0, 1, 1], [0, 0, 0]])


def test_voxels_and_grid_of_different_sizes_are_refused():
    with pytest.raises(InputError, match="differ in size"):
        Volume(np.zeros((2, 3, 4)), Grid((2, 3, 4)))


def test_a_volume_holds_the_memory_it_was_given():
    volume = make_volume()
    assert Volume(volume.voxels, volume.grid).voxels is volume.voxels
