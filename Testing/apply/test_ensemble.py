"""Averages over flips and rotations: exact, the same with tiles, counted by progress and estimate."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.apply.tiles import Axis, Context, plan_tiles, symmetries
from CBCTSuperResLib.cli import make_parser
from CBCTSuperResLib.core.errors import OptionError
from CBCTSuperResLib.core.options import ENSEMBLES
from helpers import make_grid
from stub_networks import AnyScale, Cells, CubicTwice, LinearBlocks, Lopsided, stub_model, tiny_model, tiny_network

WINDOW = (0.0, 1000.0)
PLAIN = Options(window=WINDOW, device="cpu", dtype="float32", blank="none")


def image_of(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.4, 0.6, shape).astype(np.float32)


def enlarged(engine, image, scale=2):
    axes = [Axis(n, 0, n, round(n * scale)) for n in image.shape]
    return engine.run(image, axes, plan_tiles(axes, None, 0)[0])


def scan(shape=(3, 40, 33), seed=0) -> Volume:
    return Volume((1000 * image_of(*shape, seed=seed)).astype(np.float32), make_grid(shape[::-1], (0.25, 0.25, 0.25)))


@pytest.fixture(scope="module")
def network():
    return tiny_network()


def spec_of(network):
    return replace(network.describe(), context=20)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("count", ENSEMBLES)
def test_every_position_is_undone_and_occurs_once(count, dimensions):
    image = image_of(*(4, 5, 6)[-dimensions:])
    axes = [Axis(n, 0, n, n) for n in image.shape]
    whole = plan_tiles(axes, None, 0)[0]
    turned = [symmetry.apply(image, axes, whole)[0] for symmetry in symmetries(count, dimensions)]
    assert len({(t.shape, t.tobytes()) for t in turned}) == count
    for symmetry, position in zip(symmetries(count, dimensions), turned, strict=True):
        assert np.array_equal(symmetry.undo(position), image)


@pytest.mark.parametrize("count", ENSEMBLES)
def test_positions_are_closed_so_that_a_turned_image_gives_the_turned_average(network, count):
    image = image_of(36, 36)
    engine = Engine(network, spec_of(network), "cpu", ensemble=count)
    straight = enlarged(engine, image)
    for symmetry in symmetries(count, 2):
        axes = [Axis(36, 0, 36, 72)] * 2
        turned = symmetry.apply(image, axes, plan_tiles(axes, None, 0)[0])[0]
        assert np.abs(symmetry.undo(enlarged(engine, turned)) - straight).max() <= 1e-6


@pytest.mark.parametrize("count", ENSEMBLES[1:])
def test_a_network_that_treats_all_positions_alike_gives_what_one_pass_gives(count):
    image = image_of(31, 44)
    one = enlarged(Engine(CubicTwice(), CubicTwice().describe(), "cpu"), image)
    assert (
        np.abs(enlarged(Engine(CubicTwice(), CubicTwice().describe(), "cpu", ensemble=count), image) - one).max()
        <= 1e-6
    )
    block = image_of(9, 14, 12)
    one = enlarged(Engine(LinearBlocks(), LinearBlocks().describe(), "cpu"), block)
    many = enlarged(Engine(LinearBlocks(), LinearBlocks().describe(), "cpu", ensemble=count), block)
    assert np.abs(many - one).max() <= 1e-6


TURNS = [
    lambda a: a,
    lambda a: a[..., ::-1, ::-1],
    lambda a: a[..., ::-1, :],
    lambda a: a[..., ::-1],
    lambda a: a.swapaxes(-1, -2),
    lambda a: a[..., ::-1, ::-1].swapaxes(-1, -2),
    lambda a: a[..., ::-1, :].swapaxes(-1, -2),
    lambda a: a[..., ::-1].swapaxes(-1, -2),
]
BACK = [*TURNS[:5], lambda a: a.swapaxes(-1, -2)[..., ::-1, ::-1], None, None]
BACK[6] = lambda a: a.swapaxes(-1, -2)[..., ::-1, :]
BACK[7] = lambda a: a.swapaxes(-1, -2)[..., ::-1]


def test_the_average_is_the_mean_of_separate_runs_of_the_turned_image(network):
    image, one = image_of(41, 58), Engine(network, spec_of(network), "cpu")
    separate = [back(enlarged(one, np.ascontiguousarray(turn(image)))) for turn, back in zip(TURNS, BACK, strict=True)]
    assert np.abs(separate[0] - separate[1]).max() > 1e-3
    for count, tile in itertools.product(ENSEMBLES, [None, 16, 21]):
        many = enlarged(Engine(network, spec_of(network), "cpu", tile=tile, ensemble=count), image)
        error = np.abs(many - np.mean(separate[:count], 0)).max()
        assert error <= 1e-6 * max(1, np.abs(many).max()), (count, tile)


@pytest.mark.parametrize(("planes", "all_flips"), [("axial", [(), (1, 2), (1,), (2,)]), ("isotropic", None)])
def test_a_volume_in_an_ensemble_is_the_mean_of_turned_volumes(planes, all_flips):
    """In three planes, the flips of each plane together are the eight flips of the volume."""
    model, volume, options = stub_model(Lopsided()), scan((12, 20, 17)), replace(PLAIN, planes=planes)
    many = super_resolve(volume, model, replace(options, ensemble=4)).voxels
    turned = []
    for axes in all_flips or [(), (0, 1), (0, 2), (1, 2), (0,), (1,), (2,), (0, 1, 2)]:
        flipped = Volume(np.flip(volume.voxels, axes), volume.grid)
        turned.append(np.flip(super_resolve(flipped, model, options).voxels, axes))
    assert many.min() > 300 and many.max() < 700
    assert np.abs(turned[0] - turned[1]).max() > 1
    assert np.abs(many - np.mean(turned, 0)).max() <= 1e-3


@pytest.mark.parametrize("shape", [(64, 64), (61, 70), (24, 90), (27, 26)])
@pytest.mark.parametrize("tile", [16, 21, 50])
def test_networks_that_work_on_cells_see_tiles_as_they_see_the_whole_in_every_position(shape, tile):
    image = image_of(*shape)
    whole = enlarged(Engine(Cells(), replace(Cells().describe(), context="unknown"), "cpu", ensemble=8), image)
    tiled = enlarged(Engine(Cells(), Cells().describe(), "cpu", tile=tile, ensemble=8), image)
    assert np.abs(tiled - whole).max() <= 1e-6
    axes = [Axis(n, 5, n - 3, 2 * (n - 8)) for n in shape]
    part = Engine(Cells(), Cells().describe(), "cpu", ensemble=8)
    found = part.run(image, axes, plan_tiles(axes, None, Context(4, 4, 24))[0])
    assert np.abs(found - whole[10:-6, 10:-6]).max() <= 1e-6


@pytest.mark.parametrize("factor", [1.5, 2.4, 3.0])
def test_blocks_of_any_scale_join_in_every_position(factor):
    """At 1.5, centres of output voxels lie on edges between blocks; each belongs to one block only, mirrored or not."""
    model = stub_model(AnyScale(linear=False))
    volume, options = scan((24, 30, 26)), replace(PLAIN, scale=factor)
    one = super_resolve(volume, model, options)
    many = super_resolve(volume, model, replace(options, ensemble=8, tile=16))
    assert np.abs(many.voxels - one.voxels).max() <= 2e-3


def test_tiles_and_rois_change_nothing_in_an_ensemble():
    model, volume = tiny_model(), scan((2, 28, 30))
    options = replace(PLAIN, ensemble=8)
    whole = super_resolve(volume, model, options).voxels
    assert np.abs(super_resolve(volume, model, replace(options, tile=16)).voxels - whole).max() <= 1e-2
    part = super_resolve(volume, model, replace(options, roi=((7, 21), (8, 24), (1, 2)))).voxels
    assert np.abs(part - whole[1:2, 16:48, 14:42]).max() <= 1e-2


@pytest.mark.parametrize("planes", ["axial", "isotropic"])
def test_progress_counts_every_position(planes):
    seen = []
    options = replace(PLAIN, planes=planes, ensemble=4)
    super_resolve(
        scan((5, 16, 16)), stub_model(CubicTwice()), options, lambda fraction, text: seen.append((fraction, text))
    )
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    counted = [text for _, text in seen if text.startswith("Network")]
    total = int(counted[-1].rpartition(" ")[2])
    assert total % 4 == 0 and counted[-1] == f"Network: {total} of {total}" and len(counted) == total


def test_estimate_and_report_know_of_it():
    volume, model = scan(), stub_model(CubicTwice())
    one, four = (make_plan(volume.grid, volume.voxels.dtype, model.card, Options(ensemble=count)) for count in (1, 4))
    assert four.seconds == pytest.approx(4 * one.seconds) and four.output_bytes == one.output_bytes
    assert four.memory_bytes >= one.memory_bytes
    report = super_resolve(volume, model, replace(PLAIN, ensemble=2)).report
    assert report["ensemble"] == 2


@pytest.mark.parametrize("count", [0, 3, 16, -1, "2"])
def test_other_numbers_are_refused(count):
    with pytest.raises(OptionError, match="ensemble"):
        Options(ensemble=count)


def test_the_command_line_takes_it():
    from CBCTSuperResLib.cli.apply import options_from_arguments

    parsed = make_parser().parse_args(["apply", "a.nrrd", "b.nrrd", "--ensemble", "8"])
    assert options_from_arguments(parsed).ensemble == 8
    assert options_from_arguments(make_parser().parse_args(["apply", "a.nrrd", "b.nrrd"])).ensemble == 1
