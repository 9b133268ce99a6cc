"""NRRD that is written slab by slab is what the other way of writing it gives, and appears whole or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.core.errors import InputError, OutputError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io import exchange
from CBCTSuperResLib.io.raw_nrrd import map_raw_nrrd, write_raw_nrrd
from CBCTSuperResLib.io.read import read_volume
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.io.write import write_volume


def make(dtype: str = "uint16") -> Volume:
    random = np.random.default_rng(3)
    direction, _ = np.linalg.qr(random.normal(size=(3, 3)))
    voxels = (100 * random.random((5, 7, 6))).astype(dtype)
    return Volume(voxels, Grid((6, 7, 5), (0.1, 0.25, 1 / 3), (10.0, -20.0, 1e3 / 7), direction))


@pytest.fixture
def small_slabs(monkeypatch):
    monkeypatch.setattr(exchange, "SLAB_BYTES", 1)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64"]
)
def test_it_is_read_as_it_was_and_as_simpleitk_writes_it(tmp_path, small_slabs, dtype):
    volume, path = make(dtype), tmp_path / "Zähne 1.nrrd"
    steps = write_raw_nrrd(volume, path)
    assert next(steps) == 0 and not path.exists()
    assert len(list(steps)) == 4
    found, other = read_volume(path), read_volume(write_volume(volume, tmp_path / "other.nrrd"))
    assert found.voxels.dtype == dtype and np.array_equal(found.voxels, volume.voxels)
    assert np.abs(found.grid.index_to_point - volume.grid.index_to_point).max() < 1e-12
    assert np.abs(found.grid.index_to_point - other.grid.index_to_point).max() < 1e-6
    assert sorted(file.name for file in tmp_path.iterdir()) == ["Zähne 1.nrrd", "other.nrrd"]


def test_what_is_left_half_way_leaves_nothing(tmp_path, small_slabs):
    steps = write_raw_nrrd(make(), tmp_path / "scan.nrrd")
    next(steps)
    steps.close()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        next(write_raw_nrrd(make(), tmp_path / "nowhere" / "scan.nrrd"))


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_file_is_mapped_where_that_is_possible_and_read_otherwise(tmp_path, suffix, compress):
    volume = make("int16")
    path = write_volume(volume, tmp_path / f"scan{suffix}", compress=compress)
    found = map_raw_nrrd(path)
    assert isinstance(found.voxels, np.memmap) is (not compress)
    assert np.array_equal(found.voxels, volume.voxels) and found.voxels.dtype == np.int16
    assert np.array_equal(found.grid.index_to_point, read_volume(path).grid.index_to_point)


def test_a_file_that_is_cut_off_is_not_mapped(tmp_path):
    path = write_volume(make(), tmp_path / "scan.nrrd")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError):
        map_raw_nrrd(path)
