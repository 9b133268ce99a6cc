"""Blocks of 3-D networks: how few voxels are computed for nothing, in how much memory, and that nothing shows of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.apply import tile_sizes
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.apply.speed import record_speed, relative_cost
from CBCTSuperResLib.apply.tiles import Axis, plan_tiles
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.networks.spec import NetworkSpec
from helpers import make_grid
from stub_networks import PointNet, interpolating_points, register, stub_model
from torch import nn


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    register(monkeypatch)


def typical_card(context: int) -> ModelCard:
    """A network of 32 features, three of which lie side by side in memory."""
    spec = NetworkSpec(
        "n", dimensions=3, scale=None, scale_range=((1, 6), (1, 4), (1, 4)), context=context, decode_context=1,
        encode_bytes=400.0, decode_bytes=300.0,
    )  # fmt: skip
    return ModelCard("m", spec, window=(0.0, 1000.0))


def noise(shape=(20, 17, 34)) -> Volume:
    random = np.random.default_rng(0)
    return Volume(random.uniform(-200, 1300, shape).astype(np.float32), make_grid(shape[::-1], (0.25, 0.2, 0.3)))


@pytest.mark.parametrize("context", [8, 10, 12])
@pytest.mark.parametrize(
    ("size", "spacing", "options"),
    [
        ((400, 400, 400), (0.2, 0.2, 0.2), {"scale": 2.0}),
        ((400, 400, 400), (0.2, 0.2, 0.2), {"scale": 4.0}),
        ((400, 400, 400), (0.2, 0.2, 0.2), {"scale": 2.7}),
        ((200, 200, 60), (0.3, 0.3, 1.0), {"output_spacing": 0.3}),
        ((400, 400, 80), (0.3, 0.3, 1.5), {"output_spacing": "cubic"}),
    ],
)
def test_hardly_more_than_the_scan_is_computed_within_four_gigabytes(context, size, spacing, options, monkeypatch):
    monkeypatch.setattr(tile_sizes, "available_memory", lambda: 64e9)
    plan = make_plan(Grid(size, spacing), np.dtype("int16"), typical_card(context), Options(**options))
    assert plan.network_voxels <= 1.3 * np.prod(size)
    assert plan.memory_bytes - plan.output_bytes - 2 * np.prod(size) <= 4e9
    seen = {str(tile.read): np.prod([part.stop - part.start for part in tile.read]) for tile in plan.tiles}
    assert sum(seen.values()) == plan.network_voxels
    covered = sum(np.prod([part.stop - part.start for part in tile.write]) for tile in plan.tiles)
    assert covered == np.prod(plan.grid.size)


def test_where_memory_is_short_blocks_are_smaller(monkeypatch):
    grid, plans = Grid((400, 400, 400), (0.2, 0.2, 0.2)), []
    for free in (64e9, 3e9, 1e9):
        monkeypatch.setattr(tile_sizes, "available_memory", lambda free=free: free)
        plans.append(make_plan(grid, np.dtype("int16"), typical_card(10), Options(scale=2.0)))
    working = [plan.memory_bytes - plan.output_bytes for plan in plans]
    assert working[0] > working[1] > working[2] and plans[0].network_voxels < plans[2].network_voxels


class Counted(PointNet):
    """Counts the voxels that are encoded."""

    encoded = 0

    def encode(self, x):
        Counted.encoded += x.numel()
        return super().encode(x)


@pytest.mark.parametrize("options", [{}, {"sharpness": 40}, {"scale": (1, 1.5, 3.3)}, {"ensemble": 2}])
def test_the_bands_of_a_block_share_its_features_and_join_without_seams(monkeypatch, options):
    volume, network = noise(), Counted()
    network.load_state_dict(interpolating_points().state_dict())
    options = Options(window=(0, 1000), blank="none", device="cpu", **options)
    whole = super_resolve(volume, stub_model(network), options)
    monkeypatch.setattr(tile_sizes, "BAND_VOXELS", 8_000)
    Counted.encoded = 0
    banded = super_resolve(volume, stub_model(network), options)
    assert np.abs(banded.voxels - whole.voxels).max() <= 1e-5 * 1000
    assert Counted.encoded == volume.voxels.size * options.ensemble
    pieces = banded.report["pieces"]
    assert pieces > 3 if options.ensemble == 1 else pieces == 1
    monkeypatch.setattr(tile_sizes, "BLOCK_MEMORY", 1.0)
    cut = super_resolve(volume, stub_model(network), options)
    assert cut.report["pieces"] > pieces and np.abs(cut.voxels - whole.voxels).max() <= 1e-5 * 1000


class Dropping(PointNet):
    """Draws features anew."""

    stochastic_layers = ("dropout",)

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout3d(0.5)

    def describe(self):
        return replace(super().describe(), stochastic=True)

    def encode(self, x):
        return self.dropout(super().encode(x))


def test_a_draw_does_not_get_the_features_of_the_result():
    network = Dropping()
    network.load_state_dict(interpolating_points().state_dict())
    engine, picture = Engine(network, network.describe(), "cpu"), np.random.default_rng(0).random((6, 7, 8), np.float32)
    axes = [Axis(n, 0, n, 2 * n) for n in picture.shape]
    (whole,) = plan_tiles(axes, None, 0)
    still, again = (engine.run(picture, axes, whole) for _ in range(2))
    with engine.one_pass(draw=3):
        drawn = engine.run(picture, axes, whole)
    assert np.array_equal(still, again) and np.abs(drawn - still).max() > 0.1
    assert np.array_equal(engine.run(picture, axes, whole), still)


def test_the_time_at_other_factors_is_reckoned_from_what_was_measured_at_some():
    card = replace(typical_card(8), weights_sha256="0" * 64)
    card = replace(card, spec=replace(card.spec, encode_flops=1e5, decode_flops=2e4))
    grid, dtype = Grid((60, 60, 60), (0.3, 0.3, 0.3)), np.dtype("int16")
    run = {"model_sha256": card.weights_sha256, "network_voxels": 60**3, "roi": None, "pieces": 1}
    run |= {"device": "cpu", "relative_cost": relative_cost(card, (3, 3, 3)), "seconds": {"computing": 100.0}}
    record_speed({"super_resolution": run})
    for factors, seconds in (((3, 3, 3), 100), ((1, 1, 2), 100 * (1e5 + 2 * 2e4) / (1e5 + 27 * 2e4))):
        plan = make_plan(grid, dtype, card, Options(scale=factors, device="cpu"))
        assert plan.seconds_are_measured and plan.seconds == pytest.approx(seconds, rel=1e-3)
