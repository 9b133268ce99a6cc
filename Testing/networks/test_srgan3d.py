"""The 3-D SRGAN's networks compute what the published ones did, and say of themselves what is true."""

from __future__ import annotations

import zlib
from math import prod

import numpy as np
import pytest
import torch
from CBCTSuperResLib.networks import NETWORKS, build_network
from CBCTSuperResLib.networks.discriminator_options import SRGAN3DDiscriminatorOptions
from CBCTSuperResLib.networks.spec import NetworkSpec
from CBCTSuperResLib.networks.srgan3d import SRGAN3D, SRGAN3DDiscriminator, voxel_shuffle
from fixtures_spsr import unit
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

DIGITS = 1e-7
PUBLISHED = {"skip": False}
WAYS = {"shuffle": {}, "nn": {"nn": True}, "deconv": {"subpixel_NN": True}}
SMALL = {**PUBLISHED, "feature_size": 8, "residual_blocks": 2}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def filled(network: nn.Module, prefix: str, gains: dict[str, float] | None = None) -> nn.Module:
    """The reference's weights: hashed numbers that depend on a tensor's key and shape alone."""
    gains = gains or {}
    state = {}
    for key, tensor in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        shape = tuple(tensor.shape)
        u = unit(shape, zlib.crc32(f"{prefix}{key}".encode())) - 0.5
        gain = next((value for name, value in gains.items() if name in key), 1.0)
        if len(shape) > 1:
            values = u * 2 * gain * np.sqrt(3 / prod(shape[1:]))
        elif key.endswith("running_mean"):
            values = 0.4 * u
        else:
            values = {"weight": 1, "running_var": 1, "bias": 0}[key.rpartition(".")[2]] + u * (
                1.0 if key.endswith("running_var") else 0.1
            )
        state[key] = torch.from_numpy(values.astype(np.float32))
    network.load_state_dict(state, strict=False)
    return network.double().eval().requires_grad_(False)


def generator(way: str, factor: int, **options) -> nn.Module:
    return filled(SRGAN3D(**{**SMALL, **WAYS[way], "scale": factor, **options}), "G.", {"deconv.weight": 4.0})


def signed(x: torch.Tensor) -> list[float]:
    """Mean, deviation, first, middle and last value of a tensor."""
    flat = x.flatten()
    return [flat.mean(), flat.std(correction=0), flat[0], flat[len(flat) // 2], flat[-1]]


def volume(*size: int, seed: int = 61) -> torch.Tensor:
    """(1, 1, k, j, i) from 0 to 1, which a network sees as -1 to 1."""
    return torch.from_numpy(unit((1, *size, 1), seed)).movedim(-1, 1)


@pytest.mark.parametrize(
    ("way", "factor", "expected"),
    [
        ("shuffle", 2, [-0.12009405, 0.4222577, -0.097497838, -0.32544439, -0.1479704]),
        ("shuffle", 4, [-0.14386166, 0.32464999, -0.012984958, 0.01283876, 0.0011357821]),
        ("nn", 2, [0.13187103, 0.24860102, -0.14046289, 0.01104316, -0.1009278]),
        ("deconv", 4, [0.050157196, 0.22450448, 0.015541494, 0.017354056, -0.056960427]),
    ],
)
def test_the_published_generator_gives_the_published_numbers(way, factor, expected):
    found = generator(way, factor)(volume(6, 7, 8))["sr"]
    assert found.shape == (1, 1, 6 * factor, 7 * factor, 8 * factor)
    assert signed(2 * found - 1) == pytest.approx(expected, abs=DIGITS)


def test_the_layers_inside_give_the_published_numbers():
    network, seen = generator("shuffle", 4), {}
    network.rb[0].register_forward_pre_hook(lambda m, inputs: seen.update(first=inputs[0].clone()))
    network.rb[0].register_forward_hook(lambda m, inputs, output: seen.update(block=output.clone()))
    step = network.up["1"]
    step.conv1.register_forward_hook(
        lambda m, inputs, output: seen.update(wide=torch.nn.functional.leaky_relu(output, 0.25))
    )
    step.register_forward_hook(lambda m, inputs, output: seen.update(shuffled=output))
    features = network.encode(volume(6, 7, 8))
    network.decode(features)
    expected = {
        "first": [0.15024419, 0.40109823, -0.088559327, 0.00064812173, -0.08450636],
        "block": [0.12550548, 0.48991819, -0.02081669, 0.24052868, -0.18143532],
        "trunk": [0.25742985, 0.750239, -0.087175533, 0.089790347, 0.18495423],
        "wide": [0.24540382, 0.49888876, 1.2212142, -0.13072645, 0.12906639],
        "shuffled": [0.24540382, 0.49888876, 1.2212142, 0.25657894, 0.12906639],
    }
    for name, numbers in expected.items():
        assert signed({**seen, "trunk": features}[name]) == pytest.approx(numbers, abs=2 * DIGITS), name


def test_the_shuffle_puts_each_channel_where_the_published_one_does():
    x = torch.arange(2 * 64 * 12.0).view(2, 64, 2, 3, 2)
    found = voxel_shuffle(x)
    for s, t, u, c in np.ndindex(2, 2, 2, 8):
        assert torch.equal(found[:, c, s::2, t::2, u::2], x[:, 32 * t + 16 * s + 8 * u + c])


@pytest.mark.parametrize("judge", ["patch", "pooled", "dense"])
def test_every_discriminator_gives_the_published_numbers_where_one_place_is_left(judge):
    judge = filled(SRGAN3DDiscriminator(judge=judge, size=(12, 16, 16)), "D.", {"weight": 1.4})
    for module in judge.modules():  # the gain is that of convolutions and full layers alone
        assert not isinstance(module, nn.BatchNorm3d) or module.weight.max() < 1.06
    x = torch.from_numpy(unit((2, 16, 16, 12, 1), 62)).movedim(-1, 1)
    assert judge(x).flatten().tolist() == pytest.approx([-0.39114108, -0.15054714], abs=DIGITS)
    assert trainable(judge) == 3779169


def trainable(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_there_are_as_many_weights_as_in_the_published_networks():
    sizes = {
        (32, 6): {"shuffle": (417209, 431097), "nn": (529377, 750689), "deconv": (805793, 1690593)},
        (8, 2): {"shuffle": (23105, 36993), "nn": (135273, 356585), "deconv": (121385, 1006185)},
    }
    with torch.device("meta"):
        for (features, blocks), counts in sizes.items():
            for way, expected in counts.items():
                found = [
                    trainable(SRGAN3D(feature_size=features, residual_blocks=blocks, scale=factor, **WAYS[way]))
                    for factor in (2, 4)
                ]
                assert tuple(found) == expected, (features, way)
        example = SRGAN3D(feature_size=64, residual_blocks=8, scale=2, subpixel_NN=True)  # of the published page
        assert trainable(example) == 2771777
        dense = SRGAN3DDiscriminator(judge="dense", size=(128, 128, 92))
        assert trainable(dense) == 104180321
        assert trainable(SRGAN3DDiscriminator()) == trainable(SRGAN3DDiscriminator(judge="pooled")) == 3779169


def test_the_checkerboard_free_way_begins_with_eight_equal_sub_lattices():
    torch.manual_seed(0)
    step = SRGAN3D(**SMALL, subpixel_NN=True).double().up["1"].requires_grad_(False)
    found = step(torch.rand(1, 8, 4, 5, 3, dtype=torch.float64))
    first = found[:, :, ::2, ::2, ::2]
    assert first.std() > 1e-3
    for s, t, u in np.ndindex(2, 2, 2):
        assert torch.allclose(found[:, :, s::2, t::2, u::2], first, atol=1e-15)
    shuffle = SRGAN3D(**SMALL).double().up["1"].requires_grad_(False)
    found = shuffle(torch.rand(1, 8, 4, 5, 3, dtype=torch.float64))
    assert not torch.allclose(found[:, :, ::2, ::2, ::2], found[:, :, 1::2, ::2, ::2], atol=1e-3)


def test_a_network_with_the_skip_corrects_the_linear_enlargement():
    x = torch.rand(1, 1, 5, 4, 3, dtype=torch.float64)
    for one in ALL:
        network, linear = small(**one), torch.nn.functional.interpolate(x, scale_factor=one["factor"], mode="trilinear")
        difference = (network(x)["sr"] - linear).abs().max()
        assert (difference > 0.2) == (one.get("skip") is False) and difference > 0, (one, difference)
        network.convlast.weight.zero_()
        assert torch.equal(network(x)["sr"], linear) is one.get("skip", True), one


ALL = [
    {"way": "shuffle", "factor": 2},
    {"way": "nn", "factor": 2},
    {"way": "deconv", "factor": 2, "batch_norm": False},
    {"way": "shuffle", "factor": 4, "skip": False},
    {"way": "nn", "factor": 4},
    {"way": "deconv", "factor": 4},
]


def small(way: str, factor: int, **options) -> nn.Module:
    torch.manual_seed(2)
    chosen = {**WAYS[way], "scale": factor, "feature_size": 4, "residual_blocks": 1, **options}
    return build_network("srgan3d", **chosen).double().eval().requires_grad_(False)


def test_what_a_network_says_of_itself_rebuilds_it_and_is_true():
    for one in ALL:
        network = small(**one)
        spec = NetworkSpec.from_json(network.describe().to_json())
        assert build_network(spec.network, **spec.options).options == network.options
        n = 17
        base = torch.rand(1, 1, n, 1, 2, dtype=torch.float64)
        other = base.clone()
        other[0, 0, n // 2] += 1
        changed = (network(other)["sr"] - network(base)["sr"]).abs()[0, 0].amax((1, 2)) > 0
        seen = changed.view(n, one["factor"]).any(1).nonzero().flatten()
        reach = int(max(n // 2 - seen.min(), seen.max() - n // 2))
        assert reach == spec.context, one  # the bound is reached, and nothing lies beyond it
        with FlopCounterMode(display=False) as counter:
            network(base)
        assert counter.get_total_flops() == pytest.approx(spec.flops_per_voxel() * n * 2, rel=1e-9), one


def test_decoding_looks_as_far_as_it_says():
    for one in ALL:
        network, factor = small(**one), one["factor"]
        features = network.encode(torch.rand(1, 1, 13, 2, 2, dtype=torch.float64))
        reach = network.describe().decode_context
        whole = network.decode(features)["sr"]
        part = network.decode(features[:, :, 6 - reach : 7 + reach])["sr"]
        inside = slice(reach * factor, (reach + 1) * factor)
        assert torch.allclose(part[:, :, inside], whole[:, :, 6 * factor : 7 * factor], atol=1e-12), one


def test_fixed_statistics_make_a_volume_independent_of_its_neighbours():
    torch.manual_seed(4)
    network = SRGAN3D(**SMALL).requires_grad_(False)
    x = torch.rand(2, 1, 6, 6, 6)
    assert not torch.allclose(network(x)["sr"][:1], network(x[:1])["sr"], atol=1e-6)
    network.eval()
    assert torch.allclose(network(x)["sr"][:1], network(x[:1])["sr"], atol=1e-6)


def test_a_patch_judge_speaks_of_every_place_and_a_pooled_one_of_the_volume():
    x = torch.rand(2, 1, 33, 48, 20)
    options = {"feature_size": 2, "batch_norm": False}
    assert SRGAN3DDiscriminator(**options)(x).shape == (2, 3 * 3 * 2)
    assert SRGAN3DDiscriminator(**options, judge="pooled")(x).shape == (2, 1)
    dense = SRGAN3DDiscriminator(**options, judge="dense", size=(20, 48, 33))
    assert dense(x).shape == (2, 1)
    with pytest.raises(ValueError, match=r"\(20, 48, 33\) voxels, not \(32, 32, 32\)"):
        dense(torch.rand(1, 1, 32, 32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subpixel_NN": True, "nn": True}, "two ways of enlarging"),
        ({"scale": 3}, "2 or 4"),
        ({"residual_blocks": 0}, "at least 1"),
        ({"feature_size": 0}, "at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_network("srgan3d", **options)


def test_a_judge_with_batch_norm_needs_more_than_one_place():
    assert 16 not in SRGAN3DDiscriminatorOptions().sizes and 17 in SRGAN3DDiscriminatorOptions().sizes
    assert 16 in SRGAN3DDiscriminatorOptions(batch_norm=False).sizes
    judge = SRGAN3DDiscriminator(feature_size=2)
    with pytest.raises(ValueError, match="more than 1 value"):
        judge(torch.rand(1, 1, 16, 16, 16))
    judge(torch.rand(1, 1, 17, 16, 16))
    assert "srgan3d" in NETWORKS
