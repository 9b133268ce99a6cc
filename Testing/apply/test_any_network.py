"""Networks that do not exist yet go through `super_resolve` as it is: 3-D ones, and ones of any real scale."""

from __future__ import annotations

import numpy as np
import pytest
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.apply import ways as passes
from CBCTSuperResLib.apply.tiles import Axis
from CBCTSuperResLib.core.errors import OptionError
from CBCTSuperResLib.core.interpolate import cubic
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.networks import build_network
from helpers import make_grid, position_error_mm
from stub_networks import AnyScale, LinearBlocks, register, stub_model

SLOPE = np.array([3.0, -2.0, 1.5])


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    register(monkeypatch)


def ramp(shape=(11, 14, 17), dtype="float64") -> Volume:
    """Grey values that are a linear function of the place in space."""
    grid = make_grid(shape[::-1], (0.25, 0.2, 0.3))
    return Volume(ramp_at(grid, shape).astype(dtype), grid)


def ramp_at(grid, shape) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")[::-1], -1)
    points = index @ (grid.direction * grid.spacing).T + grid.origin
    return 500 + 20 * (points - make_grid((17, 14, 11), (0.25, 0.2, 0.3)).origin) @ SLOPE


def noise(shape=(13, 15, 12)) -> Volume:
    random = np.random.default_rng(0)
    return Volume(random.uniform(-200, 1300, shape).astype(np.float32), make_grid(shape[::-1], (0.25, 0.2, 0.3)))


def model_of(network) -> Model:
    """Rebuilt from the registry, as a model file would be."""
    spec = network.describe()
    return stub_model(build_network(spec.network, **spec.options))


@pytest.mark.parametrize("scale", [1.5, 2, 2.5, 3.3, 4])
def test_a_network_of_any_scale_keeps_physical_values_and_extent(scale):
    volume = ramp()
    result = super_resolve(volume, model_of(AnyScale()), Options(scale=scale, window=(0, 1000), blank="none"))
    size = tuple(int(np.floor(n * scale + 0.5)) for n in volume.grid.size)
    assert result.grid.size == size
    assert position_error_mm(result.grid, volume.grid.resampled(size)) <= 1e-6
    inner = tuple(slice(int(np.ceil(scale)), -int(np.ceil(scale))) for _ in range(3))
    expected = ramp_at(result.grid, result.voxels.shape)
    assert np.abs(result.voxels - expected)[inner].max() <= 1e-3


def test_a_network_of_blocks_keeps_physical_values_and_extent():
    volume = ramp()
    result = super_resolve(volume, model_of(LinearBlocks()), Options(window=(0, 1000), blank="none"))
    assert result.grid.size == (34, 28, 22) and result.report["planes"] == "blocks"
    expected = ramp_at(result.grid, result.voxels.shape)
    assert np.abs(result.voxels - expected)[2:-2, 2:-2, 2:-2].max() <= 1e-3


@pytest.mark.parametrize("scale", [2, 2.5, 3.3])
def test_an_identity_of_any_scale_gives_the_cubic_interpolation_also_outside_the_window(scale):
    volume = noise()
    options = Options(scale=scale, window=(-190, 1290), blank="none")
    result = super_resolve(volume, model_of(AnyScale(linear=False)), options)
    axes = [Axis(n, 0, n, m) for n, m in zip(volume.voxels.shape, result.voxels.shape, strict=True)]
    expected = cubic(volume.voxels.astype(float), [axis.positions(slice(0, axis.outputs)) for axis in axes])
    within = (expected > -190) & (expected < 1290)
    assert within.mean() > 0.9
    np.testing.assert_allclose(result.voxels[within], expected[within], atol=2e-2)


@pytest.mark.parametrize(
    ("network", "scale"), [(LinearBlocks(), None), (AnyScale(), 2.5), (AnyScale(linear=False), 3.3)]
)
def test_blocks_join_without_seams(monkeypatch, network, scale):
    volume, options = noise((40, 19, 37)), Options(scale=scale, window=(0, 1000), blank="none")
    whole = super_resolve(volume, model_of(network), options)
    monkeypatch.setattr(passes, "BLOCK_MEMORY", 1.0)
    cut = super_resolve(volume, model_of(network), options)
    assert whole.report["pieces"] == 1 and cut.report["pieces"] == 3 * 2 * 3
    assert np.abs(cut.voxels - whole.voxels).max() <= 1e-5 * 1000


def test_tiles_within_a_block_join_without_seams():
    volume, options = noise((30, 33, 28)), {"scale": 2.5, "window": (0, 1000), "blank": "none"}
    whole, tiled = (super_resolve(volume, model_of(AnyScale()), Options(tile=t, **options)) for t in (0, 11))
    assert np.abs(tiled.voxels - whole.voxels).max() <= 1e-5 * 1000


@pytest.mark.parametrize("network", [LinearBlocks(), AnyScale()])
def test_a_roi_of_a_block_is_the_crop_of_the_full_result(network):
    volume, options = noise((16, 20, 18)), {"window": (0, 1000), "blank": "none"}
    whole = super_resolve(volume, model_of(network), Options(**options))
    part = super_resolve(volume, model_of(network), Options(roi=((3, 11), (0, 9), (5, 16)), **options))
    assert np.abs(part.voxels - whole.voxels[10:32, 0:18, 6:22]).max() <= 1e-5 * 1000
    assert position_error_mm(part.grid, whole.grid.cropped((6, 0, 10), (22, 18, 32))) <= 1e-6


@pytest.mark.parametrize("scale", [1.2, 5, 0])
def test_a_scale_out_of_range_is_refused_with_the_range(scale):
    with pytest.raises(OptionError, match="1.5 to 4"):
        super_resolve(noise(), model_of(AnyScale()), Options(scale=scale))


def test_without_a_scale_a_network_of_any_scale_enlarges_by_two():
    assert super_resolve(noise(), model_of(AnyScale()), Options(window=(0, 1000))).voxels.shape == (26, 30, 24)
