"""Networks that do not exist yet go through everything as it is, on the side of applying.

3-D ones, ones of any real factor along each axis, ones that look at the whole image, that tell their error's variance
and are drawn, that want to be told of the scanner, and that lead into another kind of image.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.apply import tile_sizes
from CBCTSuperResLib.apply.calibration import CORE, calibrate, calibration_picture, smallest_halo
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.apply.factors import result_name
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.apply.tiles import Axis, plan_tiles
from CBCTSuperResLib.core.errors import ModelError, OptionError, ResourceError
from CBCTSuperResLib.core.interpolate import cubic
from CBCTSuperResLib.models.folder import list_models, user_models_folder
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.networks import build_network
from helpers import make_grid, position_error_mm
from stub_networks import AnyScale, CubicTwice, LinearBlocks, Normalised, register, stub_model

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
    monkeypatch.setattr(tile_sizes, "BLOCK_MEMORY", 1.0)
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


ROI = ((3, 9), (4, 12), (2, 7))  # along i, j, k


def crop(voxels: np.ndarray, scale: tuple[int, int, int]) -> np.ndarray:
    """What the ROI becomes, of a whole result; `scale` along (k, j, i)."""
    return voxels[tuple(slice(s * start, s * stop) for s, (start, stop) in zip(scale, ROI[::-1], strict=True))]


@pytest.mark.parametrize("context", ["unknown", "global"])
@pytest.mark.parametrize("ensemble", [1, 4])
@pytest.mark.parametrize(
    ("planes", "dimensions", "scale"), [("axial", 2, (1, 2, 2)), ("isotropic", 2, (2, 2, 2)), ("axial", 3, (2, 2, 2))]
)
def test_a_roi_of_a_network_that_looks_at_everything_is_the_crop_of_the_full_result(
    planes, dimensions, scale, ensemble, context
):
    volume, network = noise((24, 30, 28)), Normalised(dimensions, context)
    volume.voxels[-1:, -9:, -9:] = 3000  # far from the ROI, and yet it matters
    options = {"window": (0, 1000), "blank": "none", "planes": planes, "ensemble": ensemble}
    whole = super_resolve(volume, model_of(network), Options(**options))
    part = super_resolve(volume, model_of(network), Options(roi=ROI, **options))
    assert np.ptp(part.voxels) > 100
    assert np.abs(part.voxels - crop(whole.voxels, scale)).max() <= 1e-5 * 1000


def test_calibrating_computes_no_more_than_can_matter_and_finds_what_all_of_it_would(monkeypatch):
    small = {"encoder_width": 2, "encoder_blocks": 1, "feature_dim": 2, "decoder_depth": 4, "decoder_width": 4}
    model = stub_model(build_network("arssr", encoder_name="SRResNet", **small))
    bound = model.spec.context
    engine = Engine(model.network, replace(model.spec, context="unknown"), device="cpu", precision="fp32")
    picture = calibration_picture(0, 3)
    assert smallest_halo(engine, picture) == smallest_halo(engine, picture, bound=bound)
    run, read = Engine.run_outputs, []

    def recorded(engine, image, axes, tile, names):
        read.append(max(part.stop - part.start for part in tile.read))
        return run(engine, image, axes, tile, names)

    monkeypatch.setattr(Engine, "run_outputs", recorded)
    assert calibrate(model, device="cpu").spec.context == bound
    assert max(read) == CORE + 2 * bound and len(read) <= 4  # the first picture told all


def family(name: str, **options) -> Model:
    """A model of a family as its file gives it, found by its name."""
    torch.manual_seed(5)
    model = stub_model(build_network(name, **options), title=name)
    if model.spec.dimensions == 2:
        model = calibrate(model, device="cpu")
    model.save(user_models_folder() / "stub.safetensors")
    (entry,) = [entry for entry in list_models() if entry.name == "stub"]
    assert entry.card.title == name and entry.card.spec.scale_text in entry.card.line
    return Model.load("stub")


@pytest.mark.parametrize(
    ("name", "options", "scale"),
    [
        ("stub_blocks", {"scale": 2}, (2, 2, 2)),
        ("stub_blocks", {"scale": 4}, (4, 4, 4)),
        ("stub_points", {}, (2, 2, 2)),
        ("stub_uncertain", {}, (1, 4, 4)),
        ("stub_translator", {}, (1, 8, 8)),
    ],
)
def test_a_family_is_applied_whole_in_tiles_in_part_and_in_all_positions(name, options, scale):
    model, volume = family(name, **options), noise((11, 36, 33))
    plain = Options(window=(0, 1000), blank="none", device="cpu")
    whole = super_resolve(volume, model, plain)
    assert whole.voxels.shape == tuple(s * n for s, n in zip(scale, volume.voxels.shape, strict=True))
    assert np.ptp(whole.voxels) > 20
    part = super_resolve(volume, model, replace(plain, roi=ROI))
    assert np.abs(part.voxels - crop(whole.voxels, scale)).max() <= 1e-5 * 1000
    if model.spec.can_be_cut:
        tiled = super_resolve(volume, model, replace(plain, tile=16))
        assert np.abs(tiled.voxels - whole.voxels).max() <= 1e-5 * 1000
    flipped = Volume(np.ascontiguousarray(volume.voxels[:, ::-1]), volume.grid)
    both = [super_resolve(v, model, replace(plain, ensemble=8)).voxels for v in (volume, flipped)]
    assert np.abs(both[0] - both[1][:, ::-1]).max() <= 1e-3 * 1000
    assert np.abs(both[0] - whole.voxels).max() > 1e-3


@pytest.mark.parametrize("scale", [1, 2.5, 3.3])
def test_points_of_any_factor_lie_where_they_are_asked_for(scale):
    """75 voxels by 3.3 are 247.5: the factor that is used is that of the whole numbers of voxels."""
    volume = noise((5, 6, 75))
    result = super_resolve(volume, family("stub_points"), Options(scale=scale, window=(0, 1000), blank="none"))
    assert result.voxels.shape == tuple(int(np.floor(n * scale + 0.5)) for n in (5, 6, 75))
    assert position_error_mm(result.grid, volume.grid.resampled(result.grid.size)) <= 1e-6


def test_each_axis_has_a_factor_of_its_own():
    volume = noise((5, 9, 8))
    options = Options(scale=(1, 1, 2.2), window=(0, 1000), blank="none")  # along i, j, k
    result = super_resolve(volume, family("stub_points"), options)
    assert result.voxels.shape == (11, 9, 8) and result.report["scale"] == [1, 1, 2.2]
    np.testing.assert_allclose(result.grid.spacing, (0.25, 0.2, 0.3 * 5 / 11))


@pytest.mark.parametrize(("dimensions", "needed"), [(2, (15, 12)), (3, (9, 15, 12))])
def test_memory_is_told_for_what_is_read_not_for_what_is_asked_for(dimensions, needed):
    """A network that looks at everything reads a whole slice, or the volume, for any ROI."""
    card, volume = model_of(Normalised(dimensions)).card, noise((9, 15, 12))
    card = replace(card, spec=replace(card.spec, encode_bytes=1e9))
    plan = make_plan(volume.grid, volume.voxels.dtype, card, Options(roi=ROI))
    assert plan.memory_bytes >= 1e9 * np.prod(needed)
    with pytest.raises(ResourceError, match="GB of memory"):
        super_resolve(volume, Model(Normalised(dimensions), card), Options(roi=ROI))


def whole_of(model: Model, picture: np.ndarray, outputs: tuple[int, ...]):
    axes = [Axis(n, 0, n, m, blur=0.4) for n, m in zip(picture.shape, outputs, strict=True)]
    return axes, plan_tiles(axes, None, 0)[0]


def test_the_engine_asks_for_other_positions_along_each_axis():
    model, picture = family("stub_points"), np.random.default_rng(0).random((6, 7, 10), np.float32)
    axes, whole = whole_of(model, picture, (6, 7, 22))
    found = Engine(model.network, model.spec, "cpu").run(picture, axes, whole)
    positions = [torch.from_numpy(axis.positions(slice(0, axis.outputs))).float() for axis in axes]
    expected = model.network(torch.from_numpy(picture)[None, None], positions)["sr"][0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_blur_along_each_axis_is_told_and_turned_with_the_image():
    model, picture = family("stub_blocks"), np.random.default_rng(0).random((6, 7, 8), np.float32)
    axes = [Axis(n, 0, n, 2 * n, blur=blur) for n, blur in zip(picture.shape, (0.2, 0.5, 0.9), strict=True)]
    found = Engine(model.network, model.spec, "cpu").run(picture, axes, plan_tiles(axes, None, 0)[0])
    told = {"blur": torch.tensor([[0.2, 0.5, 0.9]])}
    expected = model.network(torch.from_numpy(picture)[None, None], told)["sr"][0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [axis.mirror().seen_from(slice(1, 5)).blur for axis in axes] == [0.2, 0.5, 0.9]


def test_draws_differ_are_repeatable_and_join_without_seams():
    model, picture = family("stub_uncertain"), np.random.default_rng(0).random((40, 37), np.float32)
    axes, whole = whole_of(model, picture, (160, 148))
    engine = Engine(model.network, model.spec, "cpu")
    tiled = Engine(model.network, model.spec, "cpu", tile=16)
    still, state, draws = engine.run(picture, axes, whole), torch.get_rng_state(), []
    for number in range(8):
        for one in (engine, tiled, engine):
            with one.one_pass(draw=number):
                draws.append(one.run(picture, axes, whole))
        assert np.abs(draws[-2] - draws[-1]).max() <= 1e-5 and np.array_equal(draws[-3], draws[-1])
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(draws[::3], draws[3::3], strict=False))
    assert np.array_equal(engine.run(picture, axes, whole), still)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_logarithm_of_the_variance_comes_with_the_image():
    model, picture = family("stub_uncertain"), np.random.default_rng(0).random((40, 37), np.float32)
    axes, whole = whole_of(model, picture, (160, 148))
    names = ("sr", "log_variance")
    found = Engine(model.network, model.spec, "cpu").run_outputs(picture, axes, whole, names)
    expected = model.network(torch.from_numpy(picture)[None, None])
    tiled = Engine(model.network, model.spec, "cpu", tile=16).run_outputs(picture, axes, whole, names)
    for name, values, cut in zip(names, found, tiled, strict=True):
        np.testing.assert_allclose(values, expected[name][0, 0].numpy(), atol=1e-5)
        np.testing.assert_allclose(cut, values, atol=1e-5)
    _, mean = Engine(model.network, model.spec, "cpu", ensemble=2).run_outputs(picture, axes, whole, names)
    turned = model.network(torch.from_numpy(picture[::-1, ::-1].copy())[None, None])["log_variance"][0, 0].numpy()
    np.testing.assert_allclose(np.exp(mean), (np.exp(found[1]) + np.exp(turned[::-1, ::-1])) / 2, rtol=1e-4)


def test_eight_draws_show_what_the_weights_do_not_know():
    options, scan = Options(window=(0, 1000), uncertainty=8), noise((2, 20, 18))
    result = super_resolve(scan, family("stub_uncertain"), options).error_bars["parameter deviation"]
    still = super_resolve(scan, family("stub_uncertain", dropout=0.0), options).error_bars["parameter deviation"]
    assert result.voxels.mean() > 1 and still.voxels.max() < 1e-2


def test_another_kind_of_image_returns_through_the_output_window_whatever_the_scan_holds():
    model, volume = family("stub_translator"), noise((3, 15, 12))
    window = Options(window=(0, 1000), blank="none")
    result = super_resolve(volume, model, window)
    assert result.voxels.min() >= 0 and result.voxels.max() <= 255  # of a sigmoid; the scan spans -200 to 1300
    image = np.clip(volume.voxels[1] / 1000, 0, 1)
    expected = 255 * model.network(torch.from_numpy(image)[None, None])["sr"][0, 0].numpy()
    np.testing.assert_allclose(result.voxels[1], expected, atol=1e-2)
    blank = volume.voxels.copy()
    blank[:, :, :6] = -500
    found = super_resolve(Volume(blank, volume.grid), model, replace(window, blank=-500.0)).voxels
    assert (found[:, :, :40] == 0).all() and found[:, :, 60:].min() > 0


def test_another_kind_of_image_is_called_so_warned_of_and_compared_by_its_averages():
    """One that inverts contrast, and one that draws stripes besides: a straight line brings the first to the scan."""

    class Inverted(CubicTwice):
        def __init__(self, stripes: float):
            super().__init__()
            self.stripes = stripes

        def describe(self):
            return replace(super().describe(), network="inverted", domain="other")

        def decode(self, features, positions=None):
            image = 1 - super().decode(features)["sr"]
            columns = torch.arange(image.shape[-1]) // 6 % 2
            return {"sr": image + self.stripes * (columns - 0.5)}

    places = np.indices((4, 60, 64))
    smooth = 500 + 250 * np.sin(places[1] / 9) * np.cos(places[2] / 7)
    voxels = smooth + np.random.default_rng(0).normal(0, 10, smooth.shape)
    volume = Volume(voxels.astype(np.float32), make_grid((64, 60, 4), (0.25, 0.25, 0.25)))
    found = {}
    for stripes in (0.0, 0.3):
        model = stub_model(Inverted(stripes), output_window=(2000.0, 52000.0))
        report = super_resolve(volume, model, Options(window=(0, 1000), blank="none", scanner_blur=0.25)).report
        (warning,) = (text for text in report["warnings"] if "can be invented" in text)
        assert "2000 to 52000" in warning and "nonsense" in warning
        assert not any("could not be measured" in text for text in report["warnings"]), report["warnings"]
        figures = {figure["key"]: figure for figure in report["quality"]["figures"]}
        assert figures["noise"]["value"] is None is figures["edge_width"]["value"]
        found[stripes] = figures["consistency"]["value"]
        assert f"{found[stripes]:.2f} x the scan's noise, by averages" in figures["consistency"]["text"]
    assert found[0.0] < 1.5 and found[0.3] > 5 * found[0.0]
    for asked, name in (({}, "x2"), ({"output_spacing": 0.125}, "0.125 mm"), ({"output_spacing": "cubic"}, "cubic")):
        assert result_name("Jaw", model.card, Options(**asked)) == f"Jaw SR {name} other scanner"


def test_another_kind_of_image_is_not_joined_from_three_planes():
    with pytest.raises(OptionError, match="another kind of image"):
        super_resolve(noise((9, 9, 9)), family("stub_translator"), Options(planes="isotropic"))


def test_tiles_are_refused_where_the_network_looks_at_all_of_a_slice():
    model = family("stub_translator")
    assert model.spec.context == "global"  # calibrating found nothing to measure
    with pytest.raises(ModelError, match="looks at all of a slice"):
        super_resolve(noise((2, 15, 12)), model, Options(tile=16))
