"""What a result has that its interpolated input has not."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.apply.difference import difference_to_file
from CBCTSuperResLib.core.errors import Cancelled, InputError
from CBCTSuperResLib.core.interpolate import cubic
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.exchange import read_exchange, write_exchange
from CBCTSuperResLib.io.volume import Volume
from helpers import make_rotation, make_volume


def subtract(folder, scan: Volume, result: Volume, **options) -> tuple[Volume, dict]:
    write_exchange(scan, folder / "in.npy"), write_exchange(result, folder / "out.npy")
    report = difference_to_file(folder / "in.npy", folder / "out.npy", folder / "d.npy", **options)
    return read_exchange(folder / "d.npy"), report


def enlarged(scan: Volume, size) -> Volume:
    """The whole volume, interpolated at once."""
    positions = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(scan.voxels.shape, size[::-1], strict=True)]
    return Volume(cubic(scan.voxels.astype(np.float64), positions), scan.grid.resampled(size))


@pytest.mark.parametrize("size", [(22, 18, 7), (22, 18, 40), (33, 27, 21)])
def test_an_interpolated_input_has_nothing_that_the_input_has_not(tmp_path, size):
    scan = make_volume((7 if size[2] == 7 else 20, 9, 11), "float64")
    difference, report = subtract(tmp_path, scan, enlarged(scan, size))
    assert difference.voxels.dtype == np.float64 and np.abs(difference.voxels).max() < 1e-9
    assert difference.grid.size == size and report["reach"] == 1e-6


def test_what_was_added_comes_out_with_its_sign(tmp_path):
    scan = Volume(np.full((20, 9, 11), 1000, np.uint16), Grid((11, 9, 20), direction=make_rotation(3)))
    result = Volume(np.full((20, 18, 22), 1000, np.uint16), scan.grid.resampled((22, 18, 20)))
    result.voxels[13, 5, 6] += 300
    result.voxels[2, 5, 6] -= 200
    difference, report = subtract(tmp_path, scan, result)
    assert difference.voxels.dtype == np.int16 == np.dtype(report["type"])
    assert difference.voxels[13, 5, 6] == 300 and difference.voxels[2, 5, 6] == -200
    assert np.count_nonzero(difference.voxels) == 2
    assert np.allclose(difference.grid.index_to_point, result.grid.index_to_point)


def test_the_result_of_a_roi_is_compared_with_its_part_of_the_input(tmp_path):
    scan = make_volume((20, 9, 11), "float64")
    part = scan.grid.cropped((2, 3, 5), (9, 8, 17)).resampled((14, 10, 24))
    whole = enlarged(scan, (22, 18, 40)).voxels
    difference, _ = subtract(tmp_path, scan, Volume(whole[10:34, 6:16, 4:18], part))
    assert np.abs(difference.voxels).max() < 1e-9


def test_wide_ranges_take_a_wider_type(tmp_path):
    scan = Volume(np.zeros((4, 5, 6), np.uint16), Grid((6, 5, 4)))
    result = Volume(np.full((4, 10, 12), 65535, np.uint16), scan.grid.resampled((12, 10, 4)))
    difference, _ = subtract(tmp_path, scan, result)
    assert difference.voxels.dtype == np.int32 and np.all(difference.voxels == 65535)


def test_volumes_with_other_axes_are_refused(tmp_path):
    scan = make_volume((4, 5, 6))
    turned = Grid((12, 10, 4), scan.grid.spacing, scan.grid.origin, make_rotation(9))
    with pytest.raises(InputError, match="axes"):
        subtract(tmp_path, scan, Volume(np.zeros((4, 10, 12), np.uint16), turned))


def test_it_can_be_cancelled_and_leaves_nothing(tmp_path):
    scan = make_volume((20, 9, 11))
    asked = iter([False, True])
    with pytest.raises(Cancelled):
        subtract(tmp_path, scan, enlarged(scan, (22, 18, 20)), cancelled=lambda: next(asked))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("d.")) == []


def test_at_the_edge_of_the_field_of_view_nothing_is_added_and_outside_the_difference_is_0(tmp_path):
    from CBCTSuperResLib.scan.field_of_view import find_blanks

    k, j, i = np.meshgrid(np.arange(12), np.arange(64), np.arange(64), indexing="ij")
    measured = np.hypot(j - 31.5, i - 31.5) < 25
    rng = np.random.default_rng(0)
    scan = Volume(np.where(measured, 2000 + rng.integers(-20, 20, k.shape), 0).astype(np.int16), Grid((64, 64, 12)))
    fine = np.where(np.hypot(*np.meshgrid(*[np.arange(128) / 2 - 31.75] * 2)) < 25, 2000, 0)
    result = Volume(np.repeat(fine[None], 12, 0).astype(np.int16), scan.grid.resampled((128, 128, 12)))
    assert find_blanks(scan).kind == "cylinder"
    difference, report = subtract(tmp_path, scan, result)
    assert np.all(difference.voxels[:, :8] == 0)
    ring = np.abs(np.hypot(*np.meshgrid(*[np.arange(128) / 2 - 31.75] * 2)) - 25) < 3
    off = np.abs(difference.voxels[:, ring]) > 100
    assert off.mean() < 0.02 and report["reach"] < 100
