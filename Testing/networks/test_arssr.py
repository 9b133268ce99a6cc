"""ArSSR computes what the published one did where that is asked for, and ours is the same in tiles and anywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.apply.run import super_resolve
from CBCTSuperResLib.apply.tiles import Axis, Tile, plan_tiles
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.networks import NetworkSpec, build_network
from CBCTSuperResLib.networks import arssr as module
from CBCTSuperResLib.networks.arssr import RDN, Decoder, SRResNet
from fixtures_arssr import LEGACY, filled, published_shapes, published_state
from fixtures_spsr import unit
from stub_networks import stub_model
from torch import nn
from torch.nn import functional as F

NAMES = ("RDN", "ResCNN", "SRResNet")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def legacy(encoder: str, features: int = 16, depth: int = 4, width: int = 64) -> nn.Module:
    options = {"encoder_name": encoder, "feature_dim": features, "decoder_depth": depth, "decoder_width": width}
    network = build_network("arssr", **options, **LEGACY)
    network.load_state_dict(published_state(encoder, features, depth, width))
    return network.double().eval()


def filled_module(network: nn.Module, prefix: str = "") -> nn.Module:
    state = filled({prefix + name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})
    network.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in state.items()})
    return network.double().eval()


def block(shape=(1, 1, 8, 9, 10), seed: int = 3) -> torch.Tensor:
    return torch.from_numpy(unit(shape, seed))


def positions(lengths, sizes) -> list[torch.Tensor]:
    """Cell centres of a fine grid over the same extent, in voxels of the coarse one."""
    return [(torch.arange(m, dtype=torch.float64) + 0.5) * n / m - 0.5 for n, m in zip(lengths, sizes, strict=True)]


def sum5(tensor: torch.Tensor) -> list[float]:
    flat = tensor.flatten()
    return [float(v) for v in (flat.mean(), flat.std(correction=0), flat[0], flat[flat.numel() // 2], flat[-1])]


@pytest.mark.parametrize(
    ("encoder", "features", "depth", "width", "of_encoder", "of_all", "entries"),
    [
        ("RDN", 128, 8, 256, 5918784, 6283460, 90), ("RDN", 16, 4, 64, 5725136, 5728996, 82),
        ("ResCNN", 128, 8, 256, 2214912, 2579588, 56), ("ResCNN", 16, 4, 64, 2021264, 2025124, 48),
        ("SRResNet", 128, 8, 256, 4317376, 4682052, 94), ("SRResNet", 16, 4, 64, 4123728, 4127588, 86),
    ],
)  # fmt: skip
def test_the_published_networks_have_these_tensors(encoder, features, depth, width, of_encoder, of_all, entries):
    with torch.device("meta"):
        options = {"encoder_name": encoder, "feature_dim": features, "decoder_depth": depth, "decoder_width": width}
        network = build_network("arssr", **options, **LEGACY)
    state = network.state_dict()
    assert {n: tuple(t.shape) for n, t in state.items()} == published_shapes(encoder, features, depth, width)
    assert len(state) == entries
    assert sum(t.numel() for n, t in state.items() if n.startswith("encoder.")) == of_encoder
    assert sum(t.numel() for t in state.values()) == of_all


def test_features_are_sampled_as_published():
    points = torch.tensor(
        [(-1, -1, -1), (1, 1, 1), (0, 0, 0), (-2 / 3, -0.75, -0.8), (0.1, -0.95, 0.9), (0.5, 0.25, -0.5)],
        dtype=torch.float64,
    )
    expected = [
        [0.004399808, 0.11310133], [0.10078438, 0.075306148], [0.52578091, 0.90419318], [0.035198464, 0.90481062],
        [0.24078309, 0.17701455], [0.23566812, 0.57737192],
    ]  # fmt: skip
    features = block((1, 2, 3, 4, 5), 45).permute(0, 2, 3, 4, 1)
    for point, values in zip(points, expected, strict=True):
        found = features
        for axis, (place, n) in enumerate(zip(point, (3, 4, 5), strict=True), start=1):
            found = module._sampled(found, axis, (place[None] + 1) / 2 * n - 0.5, zeros=True)
        assert found.flatten().tolist() == pytest.approx(values, abs=1e-7)


@pytest.mark.parametrize(
    ("depth", "width", "parameters", "expected"),
    [
        (8, 256, 278548, [0.32756549, 0.63434061, 0.38768565, 0.19381764, 0.48761732]),
        (4, 64, 3860, [0.40278583, 0, 0.95882806, 0.1056243, 0.42172348]),
    ],
)
def test_the_decoder_is_the_published_one(depth, width, parameters, expected):
    decoder = filled_module(Decoder(19, depth, width, ends_at_zero=True), "decoder.")
    assert sum(p.numel() for p in decoder.parameters()) == parameters
    found = decoder(torch.from_numpy(unit((5, 19), 44) * 2 - 1))
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("encoder", "parameters", "expected"),
    [
        (
            lambda: RDN(1, 8, 8, blocks=2, layers=2), 16368,
            [0.23500415, 1.0053381, -0.31832346, 0.23533597, 0.20503824],
        ),
        (lambda: SRResNet(1, 8, 8), 66192, [-0.077895568, 2.953941, -0.61428388, 0.58174569, -0.47015542]),
    ],
    ids=["RDN", "SRResNet"],
)  # fmt: skip
def test_small_encoders_are_the_published_ones(encoder, parameters, expected):
    network = filled_module(encoder())
    assert sum(p.numel() for p in network.parameters()) == parameters
    with torch.inference_mode():
        assert sum5(network(block())) == pytest.approx(expected, abs=1e-7)


def test_the_rescnn_adds_the_block_to_all_features():
    encoder = legacy("ResCNN", 128, 8, 256).encoder
    expected = [0.51170694, 0.48466168, -0.14511735, 0.02081487, 0.95033522]
    with torch.inference_mode():
        assert sum5(encoder(block())) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("options", "sizes", "expected", "share"),
    [
        (
            ("ResCNN", 16, 4, 64), (16, 18, 20),
            [0.16664762, 0.19684294, 0.43660166, 0.096591569, 0.45392742], 0.649479,
        ),
        (
            ("ResCNN", 16, 4, 64), (26, 29, 33),
            [0.16854159, 0.19999508, 0.49513851, 0.14499356, 0.41582826], 0.649586,
        ),
        (
            ("ResCNN", 128, 8, 256), (16, 18, 20),
            [0.21502967, 0.069959052, 0.34025712, 0.24693483, 0.3290542], 1.0,
        ),
        (
            ("ResCNN", 128, 4, 64), (26, 29, 33),
            [0.038368298, 0.068253695, 0.13427018, 0.14212115, 0.3299607], 0.382968,
        ),
        (("RDN", 16, 4, 64), (16, 18, 20), [1.3984294, 0.66366668, 0.52025641, 0.66438744, 0.84705145], 0.986458),
    ],
)  # fmt: skip
def test_the_whole_network_gives_the_published_values(options, sizes, expected, share):
    network = legacy(*options)
    with torch.inference_mode():
        found = network(block(), positions=positions((8, 9, 10), sizes))["sr"]
    assert found.shape == (1, 1, *sizes)
    assert sum5(found) == pytest.approx(expected, abs=1e-7)
    assert float((found > 0).double().mean()) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "expected", "slope"),
    [
        (("ResCNN",), [0.35309868, 0.31101237, 0.28201696, 0.2691151], 5.2295056),
        (("ResCNN", 128, 8, 256), [0.29096256, 0.23323854], 3.827255),  # two more took seconds, and agreed
    ],
    ids=["small", "of the published size"],
)
def test_it_learns_as_the_published_one(options, expected, slope):
    """Coordinates of this fixture are no grid, so each is a grid of one voxel."""
    network = legacy(*options).train()
    low, targets = block((2, 1, 6, 7, 8), 41), torch.from_numpy(unit((2, 50, 1), 43))
    coordinates = torch.from_numpy(unit((2, 50, 3), 42)) * 2 - 1
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    losses, slopes = [], []
    for step in range(len(expected)):
        features = network.encode(low)
        found = torch.stack(
            [
                network.decode(
                    features[n : n + 1],
                    [(place[axis : axis + 1] + 1) / 2 * low.shape[2 + axis] - 0.5 for axis in range(3)],
                )["sr"].flatten()
                for n in range(2)
                for place in coordinates[n]
            ]
        ).view(2, 50, 1)
        loss = F.l1_loss(found, targets)
        losses.append(loss.item())
        if step + 1 == len(expected):
            break
        optimizer.zero_grad()
        loss.backward()
        slopes.append(float(network.encoder.conv_start[0].weight.grad.abs().sum()))
        optimizer.step()
    assert losses == pytest.approx(expected, abs=1e-7)
    assert slopes[0] == pytest.approx(slope, rel=1e-7)


def small(encoder: str = "ResCNN", **options) -> nn.Module:
    """A tiny network whose weights let the output depend on everything it is told."""
    torch.manual_seed(1)
    blocks = {"RDN": 2, "ResCNN": 1, "SRResNet": 3}[encoder]
    shape = {"encoder_width": 6, "encoder_blocks": blocks, "feature_dim": 5, "decoder_depth": 4, "decoder_width": 16}
    network = build_network("arssr", encoder_name=encoder, **{**shape, **options})
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d | nn.Linear):
            layer.reset_parameters()
    return network.eval()


def run(network: nn.Module, volume: np.ndarray, sizes, tile: int | None = None, part: Tile | None = None) -> np.ndarray:
    axes = [Axis(n, 0, n, m, blur=0.4) for n, m in zip(volume.shape, sizes, strict=True)]
    (whole,) = plan_tiles(axes, None, 0)
    return Engine(network, network.describe(), "cpu", tile=tile).run(volume, axes, part or whole)


@pytest.mark.parametrize("encoder", NAMES)
@pytest.mark.parametrize("options", [{}, LEGACY], ids=["ours", "legacy"])
def test_tiles_are_the_whole_also_where_places_are_those_of_the_volume(encoder, options):
    network, volume = small(encoder, **options), np.random.default_rng(0).random((18, 13, 15), np.float32)
    sizes = (45, 35, 50)
    whole, tiled = run(network, volume, sizes), run(network, volume, sizes, tile=9)
    assert np.ptp(whole) > 0.01 and np.abs(tiled - whole).max() <= 1e-5


def test_a_legacy_network_sees_where_in_the_volume_a_block_lies():
    """The same block elsewhere, as its own volume, gives something else; as a piece of the volume it does not."""
    network, volume = small(**LEGACY), np.random.default_rng(0).random((24, 20, 20), np.float32)
    whole = run(network, volume, (48, 40, 40))
    alone = run(network, volume[12:], (24, 40, 40))
    assert np.abs(alone[16:] - whole[40:]).max() > 1e-3
    axes = [Axis(24, 0, 24, 48).seen_from(slice(12, 24)), *[Axis(20, 0, 20, 40)] * 2]
    assert (axes[0].before, axes[0].after, axes[0].mirror().after) == (12, 0, 12)
    core = (slice(0, 12), slice(0, 20), slice(0, 20))
    piece = Tile(core, core, tuple(axis.write(part) for axis, part in zip(axes, core, strict=True)))
    found = Engine(network, network.describe(), "cpu").run(volume[12:], axes, piece)
    assert np.abs(found[18:] - whole[42:]).max() <= 1e-5


def test_output_comes_in_pieces_of_bounded_size_and_is_the_same(monkeypatch):
    network, volume = small().double(), np.random.default_rng(0).random((9, 10, 11))
    sizes, seen = (20, 31, 23), []
    network.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numel() // inputs[0].shape[-1]))
    with torch.inference_mode():
        places, found = positions(volume.shape, sizes), []
        for chunk in (1 << 20, 2000, 100):
            monkeypatch.setattr(module, "CHUNK", chunk)
            seen.clear()
            found.append(network(torch.from_numpy(volume)[None, None], positions=places)["sr"])
            assert max(seen) <= chunk and sum(seen) == 20 * 31 * 23
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], atol=1e-12, rtol=0)


def test_ours_is_continuous_and_shifts_with_the_volume():
    """No seam where the nearest voxel changes, and nothing depends on where the volume begins."""
    network = small().double()
    x = block((1, 1, 12, 12, 12), 5)
    still = torch.tensor([6.0], dtype=torch.float64)
    with torch.inference_mode():
        features = network.encode(x)
        step, along = 1e-6, torch.arange(4.0, 7.0, 0.25, dtype=torch.float64)
        before, after = (
            torch.cat([network.decode(features, [p[None], still, still])["sr"].flatten() for p in along + d])
            for d in (-step, step)
        )
        assert (after - before).abs().max() < 1e-3 and before.std() > 1e-3
        moved = network.decode(features[:, :, 2:], [along - 2, still, still])["sr"]
        torch.testing.assert_close(moved, network.decode(features, [along, still, still])["sr"])


def test_an_untrained_network_of_ours_is_almost_linear_interpolation():
    torch.manual_seed(0)
    network = build_network("arssr", encoder_name="ResCNN", encoder_width=8, feature_dim=8).eval()
    x = torch.rand(1, 1, 9, 9, 9)
    with torch.inference_mode():
        found = network(x, positions=[p.float() for p in positions((9, 9, 9), (18, 18, 18))])["sr"]
    linear = F.interpolate(x, scale_factor=2.0, mode="trilinear")
    assert (found - linear).abs().max() < 0.1 * linear.std()


def test_what_it_is_told_of_the_acquisition_matters():
    network, x = small(conditions=("blur", "noise")), torch.rand(2, 1, 6, 6, 6)
    places = [torch.arange(6.0)] * 3
    told = {"blur": torch.tensor([[0.3, 0.3, 0.3]] * 2), "noise": torch.full((2, 1), 0.01)}
    first = network(x, told, places)["sr"]
    other = network(x, {**told, "blur": torch.tensor([[0.9, 0.3, 0.3]] * 2)}, places)["sr"]
    assert first.shape == (2, 1, 6, 6, 6) and (first - other).abs().max() > 1e-4
    with pytest.raises(ValueError, match="not told noise"):
        network(x, {"blur": told["blur"]}, places)


def test_its_facts_are_true():
    for encoder in NAMES:
        for options in ({}, {**LEGACY, "output": "linear"}, {"conditions": ("blur",)}):
            network = small(encoder, **options).double()
            for parameter in network.parameters():  # positive, so that nothing is lost on the way
                parameter.data.abs_().add_(0.05)
            spec = network.describe()
            assert NetworkSpec.from_json(spec.to_json()) == spec and spec.dimensions == 3 and spec.scale is None
            assert spec.absolute is ("coordinates" in options) and spec.scale_range[0] == options.get(
                "factors", (1.0, 4.0)
            )
            x = torch.rand(1, 1, 5, 5, 2 * spec.context + 5, dtype=torch.float64)
            middle = x.shape[-1] // 2
            changed = x.clone()
            changed[..., middle + spec.context + 1 :] += 5
            told = ({"blur": torch.full((1, 3), 0.4, dtype=torch.float64)},) if spec.conditions else ()
            place = [torch.tensor([2.0]), torch.tensor([2.0]), torch.tensor([middle + 0.4])]
            with torch.inference_mode():
                a, b = (network(v, *told, positions=place)["sr"] for v in (x, changed))
            assert torch.equal(a, b), (encoder, options)
            changed[..., middle + spec.context] += 1e4
            with torch.inference_mode():
                b = network(changed, *told, positions=place)["sr"]
            assert not torch.equal(a, b), (encoder, "the context is not wider than it must be")


@pytest.mark.parametrize("encoder", NAMES)
def test_the_encoder_runs_once_for_a_block_and_memory_is_bounded(encoder):
    """The original runs it once for each output slice, over the whole volume."""
    with torch.device("meta"):
        card = ModelCard("m", build_network("arssr", encoder_name=encoder).describe())

    def planned(edge: int):
        grid = Grid((edge,) * 3, (0.1,) * 3)
        return make_plan(grid, np.dtype(np.int16), card, Options(scale=2.0, device="cpu"))

    spec, small, large = card.spec, planned(64), planned(400)
    decoded = spec.decode_flops * 128**3
    original = 128 * 64**3 * spec.encode_flops + decoded
    assert original / (small.network_voxels * spec.encode_flops + decoded) >= 20
    assert large.memory_bytes - 2 * 400**3 - large.output_bytes <= 4e9


def test_a_volume_goes_through_the_encoder_as_often_as_the_plan_says():
    network, seen = small(), []
    model = stub_model(network, window=(0, 1000))
    volume = Volume(
        np.random.default_rng(0).uniform(0, 1000, (12, 13, 14)).astype(np.float32), Grid((14, 13, 12), (1.0,) * 3)
    )
    encode = type(network).encode

    class Counted(type(network)):
        def encode(self, x, conditions=None):
            seen.append(x[0, 0].numel())
            return encode(self, x, conditions)

    network.__class__ = Counted
    options = Options(scale=2.5, window=(0, 1000), blank="none", device="cpu", back_projection="off")
    super_resolve(volume, model, options)
    assert seen == [12 * 13 * 14]
