"""Tiles: everything is computed once, and nothing outside the array is read."""

from __future__ import annotations

import numpy as np
from CBCTSuperResLib.apply.tiles import (
    Axis,
    Context,
    Tile,
    plan_tiles,
    seen_from_its_reading,
)
from hypothesis import given
from hypothesis import strategies as st


@st.composite
def axes(draw, longest=60):
    length = draw(st.integers(1, longest))
    start = draw(st.integers(0, length - 1))
    stop = draw(st.integers(start + 1, length))
    scale = draw(st.sampled_from([1, 2, 3, 4, 1.5, 2.5, 3.3, 3.999]))
    return Axis(length, start, stop, max(1, int((stop - start) * scale + 0.5)))


contexts = st.builds(Context, st.integers(0, 12), st.sampled_from([1, 2, 4, 8]), st.integers(1, 20))
edges = st.one_of(st.none(), st.integers(1, 70))


def counts(tiles: list[Tile], all_axes: list[Axis]) -> tuple[np.ndarray, np.ndarray]:
    """How often each input voxel is in a core, and each output voxel is written."""
    cores = np.zeros([axis.length for axis in all_axes], int)
    writes = np.zeros([axis.outputs for axis in all_axes], int)
    for tile in tiles:
        cores[tile.core] += 1
        writes[tile.write] += 1
    return cores, writes


@given(axes(), axes(), edges, contexts)
def test_cores_cover_the_region_once_and_writes_the_output_once(rows, columns, edge, context):
    tiles = plan_tiles([rows, columns], edge, context)
    cores, writes = counts(tiles, [rows, columns])
    region = np.s_[rows.start : rows.stop, columns.start : columns.stop]
    assert (cores[region] == 1).all() and cores.sum() == cores[region].sum()
    assert (writes == 1).all()


@given(axes(), edges, contexts)
def test_readings_hold_the_halo_and_stay_within_the_array(axis, edge, context):
    for tile in plan_tiles([axis], edge, context):
        (core,), (read,) = tile.core, tile.read
        assert 0 <= read.start <= max(0, core.start - context.halo)
        assert min(axis.length, core.stop + context.halo) <= read.stop <= axis.length
        assert read.stop - read.start >= min(context.minimum, axis.length)


@given(axes(), edges, contexts)
def test_readings_are_cut_between_the_cells_of_a_network(axis, edge, context):
    for tile in plan_tiles([axis], edge, context):
        (read,) = tile.read
        assert read.start % context.multiple == 0
        assert read.stop % context.multiple == 0 or read.stop == axis.length


@given(axes(), st.integers(1, 70))
def test_no_core_is_longer_than_the_edge_and_all_are_nearly_equal(axis, edge):
    lengths = [tile.core[0].stop - tile.core[0].start for tile in plan_tiles([axis], edge, 0)]
    assert max(lengths) <= edge and max(lengths) - min(lengths) <= 1


@given(axes(), axes(), st.integers(4, 30), st.integers(1, 9), st.integers(0, 6))
def test_a_tile_can_be_cut_further_without_reading_more_than_it_holds(rows, columns, outer, inner, halo):
    for tile in plan_tiles([rows, columns], outer, 2 * halo):
        parts = plan_tiles([rows, columns], inner, halo, within=tile)
        for part in parts:
            for mine, its in zip(part.read, tile.read, strict=True):
                assert its.start <= mine.start and mine.stop <= its.stop
        together, alone = (counts(tiles, [rows, columns]) for tiles in (parts, [tile]))
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_array_equal(a, b)


@given(axes())
def test_each_output_voxel_is_written_by_the_core_that_holds_its_centre(axis):
    centres = axis.positions(slice(0, axis.outputs))
    for tile in plan_tiles([axis], 3, 0):
        (core,), (write,) = tile.core, tile.write
        inside = centres[write]
        assert np.all(inside >= core.start - 0.5 - 1e-6) and np.all(inside <= core.stop - 0.5 + 1e-6)


def test_positions_place_the_outer_faces_of_the_first_and_last_voxels_together():
    axis = Axis(length=10, start=2, stop=7, outputs=17)
    centres, step = axis.positions(slice(0, 17)), 5 / 17
    np.testing.assert_allclose(centres[[0, -1]], [2 - 0.5 + step / 2, 7 - 0.5 - step / 2])
    np.testing.assert_allclose(np.diff(centres), step)


def test_a_tile_and_its_axis_look_the_same_from_its_own_reading():
    axis = Axis(length=50, start=10, stop=40, outputs=99)
    tile = plan_tiles([axis], 8, 5)[2]
    inner, near = seen_from_its_reading(tile), axis.seen_from(tile.read[0])
    origin = tile.read[0].start
    assert inner.read == (slice(0, tile.read[0].stop - origin),)
    assert near.write(inner.core[0]) == tile.write[0]
    np.testing.assert_allclose(near.positions(tile.write[0]) + origin, axis.positions(tile.write[0]))


def test_real_scales_give_each_voxel_its_share_of_outputs():
    axis = Axis(length=10, start=0, stop=10, outputs=33)
    given_to = [tile.write[0].stop - tile.write[0].start for tile in plan_tiles([axis], 1, 0)]
    assert sum(given_to) == 33 and set(given_to) <= {3, 4}
