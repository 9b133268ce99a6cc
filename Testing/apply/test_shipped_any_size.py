"""The shipped model of any voxel size: no seams, few voxels computed for nothing, and less noise in flat tissue."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib.acquisition.anatomy import STANDARD_LEVELS
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, correlated_noise, gaussian_blur
from CBCTSuperResLib.apply import tile_sizes
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.apply.tiles import Axis, plan_tiles
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.models.folder import find_model
from CBCTSuperResLib.models.model import Model


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(find_model("any-size"))


def enlarged(model: Model, scan: np.ndarray, factors, tile: int = 0) -> np.ndarray:
    axes = [Axis(n, 0, n, round(n * f), blur=0.2) for n, f in zip(scan.shape, factors, strict=True)]
    (whole,) = plan_tiles(axes, None, 0)
    return Engine(model.network, model.spec, "cpu", "fp32", tile=tile, noise=0.02).run(scan, axes, whole)


def test_its_tiles_join_without_seams(model):
    rng = np.random.default_rng(0)
    scan = gaussian_blur(rng.random((10, 44, 16), np.float32), 0.8, ALL_AXES)
    for factors in ((2.0, 1.5, 1.0), (1.0, 1.0, 1.0)):
        whole, tiled = (enlarged(model, scan, factors, tile) for tile in (0, 16))
        assert np.abs(tiled - whole).max() < 1e-5, factors


def test_in_flat_noisy_tissue_little_noise_is_left_and_nothing_moves(model):
    scan = np.full((16, 32, 32), STANDARD_LEVELS.soft, np.float32)
    scan += correlated_noise(scan.shape, 0.02, 0.5, ALL_AXES, 3)
    for factors in ((3.0, 1.0, 1.0), (2.0, 2.0, 2.0), (1.0, 1.0, 1.0)):
        found = enlarged(model, scan, factors)
        assert found.std() < 0.7 * scan.std() and abs(found.mean() - scan.mean()) < 0.002, factors


def test_hardly_more_than_a_large_scan_is_computed(model, monkeypatch):
    monkeypatch.setattr(tile_sizes, "available_memory", lambda: 64e9)
    for size, spacing, options, most in (
        ((400, 400, 400), (0.2, 0.2, 0.2), {"scale": 2.0}, 1.31),
        ((400, 400, 80), (0.3, 0.3, 1.5), {"output_spacing": "cubic"}, 1.0),
        ((200, 200, 60), (0.3, 0.3, 1.0), {"output_spacing": 0.3}, 1.0),
    ):
        plan = make_plan(Grid(size, spacing), np.dtype("int16"), model.card, Options(**options))
        assert plan.network_voxels <= most * np.prod(size)
        assert plan.memory_bytes - plan.output_bytes - 2 * np.prod(size) <= 4e9
