"""The network of the perceptual loss: published layouts to the digits, and what ours promises of itself."""

from __future__ import annotations

import zlib
from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.apply.tiles import Axis, plan_tiles
from CBCTSuperResLib.networks import build_network
from fixtures_spsr import unit
from stub_networks import stub_model
from torch import nn
from torch.nn import functional as F


def fill(network: nn.Module, prefix: str = "") -> nn.Module:
    """Weights that need no random generator, by the name of each tensor, float64."""
    kinds = {name: type(module) for name, module in network.named_modules()}
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            continue
        owner, _, leaf = name.rpartition(".")
        u = unit(tensor.shape, zlib.crc32((prefix + name).encode())) - 0.5
        if tensor.ndim > 1:
            gain = 2 if kinds[owner] is nn.ConvTranspose2d else 1
            values = u * 2 * gain * np.sqrt(3 / prod(tensor.shape[1:]))
        elif leaf == "weight":
            values = 0.25 + 0.1 * u if kinds[owner] is nn.PReLU else 1 + 0.1 * u
        else:
            values = {"bias": 0.1 * u, "running_mean": 0.4 * u, "running_var": 1 + u}[leaf]
        tensor.copy_(torch.from_numpy(values.astype(np.float32)))
    return network.double().eval()


def published(upsampling: str, layout: str = "published", scale: int = 4, prefix: str = "", **options) -> nn.Module:
    network = build_network(
        "perceptual2d", layout=layout, upsampling=upsampling, scale=scale, in_nc=3, out_nc=3, **options
    )
    return fill(network, prefix)


def picture(shape, seed):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(unit(shape, seed), -1, 1)))


def sum5(tensor: torch.Tensor) -> list[float]:
    flat = tensor.flatten()
    return [float(v) for v in (flat.mean(), flat.std(correction=0), flat[0], flat[flat.numel() // 2], flat[-1])]


def trainable(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("upsampling", "shape", "seed", "expected", "first", "last", "parameters"),
    [
        (
            "NN", (1, 24, 24, 3), 91, [101.32764, 82.046923, 67.795863, 174.84807, 123.88207],
            [67.795863, 174.80583, 76.379909], [134.03338, 143.23879, 123.88207], 688579,
        ),
        (
            "TS", (1, 17, 23, 3), 91, [123.62383, 76.778021, 129.27877, 190.59464, 121.05476],
            [129.27877, 151.00022, 98.787375], [122.22539, 128.11119, 121.05476], 819779,
        ),
    ],
)  # fmt: skip
def test_the_published_network_gives_its_numbers(upsampling, shape, seed, expected, first, last, parameters):
    network = published(upsampling)
    with torch.no_grad():
        found = 255 * network(picture(shape, seed))["sr"]
    assert sum5(found) == pytest.approx(expected, rel=1e-7)
    assert found[0, :, 0, 0].tolist() == pytest.approx(first, rel=1e-7)
    assert found[0, :, -1, -1].tolist() == pytest.approx(last, rel=1e-7)
    assert trainable(network) == parameters


def test_the_published_networks_layers_give_their_numbers():
    x = picture((1, 24, 24, 3), 91)
    expected = {
        "stem": [0.27825988, 0.38784954, 0.18910223, 0, 0],
        "res.0": [0.27536248, 0.58646865, 0.12294708, -0.02019775, 0.052911192],
        "res.3": [0.31031815, 1.2762529, -0.45234843, 0.23426762, -0.52841823],
        "up.1": [0.5144505, 0.89020241, 0, 0.37353874, 0],
        "up.2": [0.40827203, 0.59882038, 0.79091758, 0.19986533, 0],
    }
    with torch.no_grad():
        for upsampling, after_up in (("NN", None), ("TS", [0.55214022, 0.88358937, 0, 0.32402647, 0])):
            network = published(upsampling)
            features = {"stem": F.relu(network.stem(x))}
            for n, block in enumerate(network.res):
                before = features[f"res.{n - 1}" if n else "stem"]
                features[f"res.{n}"] = before + block.second(F.relu(block.first(before)))
            assert torch.equal(features["res.3"], network.encode(x))
            features["up.1"] = F.relu(network.up["1"](features["res.3"]))
            if after_up:
                assert sum5(features["up.1"]) == pytest.approx(after_up, abs=1e-7)
                continue
            features["up.2"] = F.relu(network.up["2"](features["up.1"]))
            for name, values in expected.items():
                assert sum5(features[name]) == pytest.approx(values, abs=1e-7)


def test_the_published_sibling_gives_its_numbers():
    shuffled = published("PS", "srresnet", prefix="SRR.", nb=16)
    with torch.no_grad():
        found = shuffled(picture((1, 24, 24, 3), 97))["sr"]
    assert sum5(found) == pytest.approx([1.1098378, 7.7687437, 1.3213843, -3.1203687, 2.0649174], rel=1e-7)
    assert trainable(shuffled) == 1550659 and found.shape == (1, 3, 96, 96)
    nearest = build_network("perceptual2d", layout="srresnet", upsampling="NN", scale=4, in_nc=3, out_nc=3, nb=16)
    assert trainable(nearest) == 2040067


def own(seed: int = 0, **options) -> nn.Module:
    """Ours with weights that are large enough to see everything."""
    torch.manual_seed(seed)
    network = build_network("perceptual2d", **{"nf": 6, "nb": 2, **options})
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.reset_parameters()
    return network.eval()


def test_ours_begins_as_linear_interpolation_whatever_the_factor_and_the_way_to_double():
    for scale in (2, 4, 8):
        for upsampling in ("NN", "TS", "PS"):
            torch.manual_seed(0)
            network = build_network("perceptual2d", nf=4, nb=1, scale=scale, upsampling=upsampling).eval()
            x = torch.rand(1, 1, 6, 7)
            with torch.no_grad():
                network.head.weight.zero_()
                found = network(x)["sr"]
            assert found.shape == (1, 1, 6 * scale, 7 * scale)
            assert torch.equal(found, F.interpolate(x, scale_factor=float(scale), mode="bilinear"))


def test_a_transposed_convolution_begins_without_a_checkerboard_and_its_layers_phases_alike():
    torch.manual_seed(1)
    network = build_network("perceptual2d", nf=4, nb=1, upsampling="TS")
    flat = torch.full((1, 4, 8, 8), 0.7)
    inner = network.up["1"].deconv(flat)[..., 2:-2, 2:-2]
    assert torch.allclose(inner, inner[..., :1, :1].expand_as(inner), atol=1e-6)


def test_tiles_with_the_stated_context_give_what_the_whole_image_gives():
    image = np.random.default_rng(0).random((58, 52), np.float32)
    axes_of = lambda scale: [Axis(n, 0, n, n * scale) for n in image.shape]  # noqa: E731
    cases = [
        *({"scale": scale, "upsampling": up} for scale, up in ((2, "NN"), (2, "TS"), (4, "TS"), (8, "PS"))),
        {"layout": "published", "upsampling": "TS", "scale": 4},
        {"layout": "srresnet", "upsampling": "PS", "scale": 2},
        {"log_variance": True},
    ]
    for options in cases:
        model = stub_model(own(**options))
        axes = axes_of(options.get("scale", 2))
        (whole,) = plan_tiles(axes, None, 0)
        names = list(model.spec.outputs)
        uncut = Engine(model.network, model.spec, "cpu", tile=0).run_outputs(image, axes, whole, names)
        cut = Engine(model.network, model.spec, "cpu", tile=16).run_outputs(image, axes, whole, names)
        less = replace(model.spec, context=model.spec.context - 4, decode_context=0)
        seams = Engine(model.network, less, "cpu", tile=16).run_outputs(image, axes, whole, names)
        for a, b in zip(uncut, cut, strict=True):
            assert np.abs(a - b).max() <= 2e-6 * max(1, np.abs(a).max()), options
        assert np.abs(seams[0] - uncut[0]).max() > 1e-5, options  # what would be seen of too little


def test_log_variance_and_dropout_are_there_when_asked_for_and_draws_differ():
    network = own(log_variance=True, dropout=0.3, conditions=("blur", "noise"))
    spec = network.describe()
    assert spec.outputs == {"sr": "image", "log_variance": "log_variance"} and spec.stochastic
    assert network.stochastic_layers == ("dropout",)
    model = stub_model(network)
    engine = Engine(model.network, model.spec, "cpu", noise=0.02)
    image = np.random.default_rng(0).random((20, 24), np.float32)
    axes = [Axis(n, 0, n, 2 * n, blur=0.5) for n in image.shape]
    (whole,) = plan_tiles(axes, None, 0)
    draws = []
    for draw in (0, 1, 1, None):
        with engine.one_pass(draw=draw):
            draws.append(engine.run_outputs(image, axes, whole, ["sr", "log_variance"]))
    assert not np.array_equal(draws[0][0], draws[1][0]) and np.array_equal(draws[1][0], draws[2][0])
    assert not np.array_equal(draws[3][0], draws[0][0])
    plain = own().describe()
    assert plain.outputs == {"sr": "image"} and not plain.stochastic


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": 3}, "2, 4 or 8"),
        ({"layout": "published", "upsampling": "PS"}, "NN and TS"),
        ({"layout": "srresnet", "upsampling": "TS"}, "NN and PS"),
        ({"layout": "published", "log_variance": True}, "choose own"),
        ({"dropout": 1.0}, "at most 0.9"),
        ({"in_nc": 5}, "in_nc 5"),
    ],
)
def test_options_that_do_not_fit_are_refused_with_the_reason(options, words):
    with pytest.raises(ValueError, match=words):
        build_network("perceptual2d", **options)


def test_a_residual_network_with_a_log_variance_enlarges_bit_for_bit_as_without_it():
    torch.manual_seed(0)
    plain = build_network("residual", nf=6, nb=2, in_nc=5, slices=2, unshuffle=2, conditions=("blur",)).eval()
    bars = build_network(
        "residual", nf=6, nb=2, in_nc=5, slices=2, unshuffle=2, conditions=("blur",), log_variance=True
    ).eval()
    missing = bars.load_state_dict(plain.state_dict(), strict=False)
    assert {name.partition(".")[0] for name in missing.missing_keys} == {"variance"} and not missing.unexpected_keys
    x, told = torch.rand(1, 5, 12, 14), {"blur": torch.full((1, 2), 0.4)}
    found = bars(x, told)
    assert torch.equal(found["sr"], plain(x, told)["sr"])
    assert found["log_variance"].shape == found["sr"].shape
    assert found["log_variance"].mean().item() == pytest.approx(-7, abs=0.5)
    assert bars.describe().outputs == {"sr": "image", "log_variance": "log_variance"}
