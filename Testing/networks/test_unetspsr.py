"""The generator computes what the public description says, number by number (float64, values of the reference)."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from CBCTSuperResLib.importers.spsr import build
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.networks.blocks import gradient_map
from fixtures_spsr import official_shapes, official_state, unit

GRADIENT_F1 = """
.767913 .757341 .73328 1.133918 .860429 .372928
.685897 .131643 .487224 .414223 .573702 .952189
.529216 .39127 .351769 .138672 .285281 .625796
.377055 .390932 .496445 .650963 .193256 .735177
1.124888 .588164 .568422 .792052 .603465 .988973
"""
SMALL = dict(nf=4, nb=4, gc=4)
DIGITS = 6e-9


@cache
def network_of(nb: int, scale: int = 2):
    network, _ = build(official_state(nf=16, nb=nb, scale=scale))
    return network.double().eval().requires_grad_(False)


@cache
def outputs_of(nb: int) -> dict[str, np.ndarray]:
    outputs = network_of(nb)(torch.from_numpy(unit((1, 1, 12, 10), 14)))
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def small(**options) -> torch.nn.Module:
    torch.manual_seed(3)
    network = build_network("unetspsr", **{**SMALL, **options}).double().requires_grad_(False)
    for parameter in network.parameters():
        parameter.uniform_(-0.2, 0.2)
    return network


def image(*shape: int) -> torch.Tensor:
    return torch.from_numpy(unit(shape, 5))


def summary(values: np.ndarray) -> list[float]:
    flat = values.ravel()
    return [flat.mean(), flat.std(), flat[0], flat[flat.size // 2], flat[-1]]


def test_the_fixture_gives_the_documented_numbers():
    expected = [0.0077651334, 0.6223195912, 0.0297745946, 0.0607230193, 0.4179353185, 0.6526747658]
    assert unit((6,), 1) == pytest.approx(expected, abs=5e-11)
    assert unit((4,), 0) == pytest.approx([0, 0.4083490819, 0.816698164, 0.3279100575], abs=5e-11)


def test_the_gradient_map_has_the_documented_values():
    x = torch.from_numpy(unit((1, 1, 5, 6), 11)).float()
    expected = np.array(GRADIENT_F1.split(), float).reshape(5, 6)
    assert np.allclose(gradient_map(x)[0, 0], expected, atol=6e-7)


def test_the_wide_gradient_map_holds_the_narrow_one():
    x = torch.from_numpy(unit((1, 1, 5, 6), 11)).float()
    wide = gradient_map(x, padding=2)
    assert wide.shape == (1, 1, 7, 8)
    assert wide.sum().item() == pytest.approx(30.767574, abs=1e-5)
    row = [0.001, 0.426206, 0.409333, 0.756658, 0.612423, 0.02946, 0.969654, 0.001]
    assert np.allclose(wide[0, 0, 0], row, atol=6e-7)
    assert torch.equal(wide[..., 1:-1, 1:-1], gradient_map(x))


@pytest.mark.parametrize("channels", [1, 3])
def test_each_channel_has_its_own_gradient_map(channels):
    x = image(2, channels, 9, 7)
    single = torch.cat([gradient_map(x[:, c : c + 1]) for c in range(channels)], 1)
    assert torch.equal(gradient_map(x), single)


@pytest.mark.parametrize(
    ("nb", "output", "expected"),
    [
        (20, "branch", [-0.08610369, 0.26089914, 0.21498101, -0.03525305, -0.25319182]),
        (20, "sr", [-0.20973952, 0.1825227, -0.16523324, -0.19294788, -0.08535742]),
        (23, "branch", [-0.08610369, 0.26089914, 0.21498101, -0.03525305, -0.25319182]),
        (23, "sr", [-0.63988472, 0.36180161, -0.39193805, -0.12957417, -0.21452518]),
        (20, "gradient", [0.55387569, 0.25916382, 0.81591785, 0.93768782, 0.62306107]),
    ],
)
def test_the_outputs_have_the_documented_values(nb, output, expected):
    assert summary(outputs_of(nb)[output]) == pytest.approx(expected, abs=DIGITS)


def test_float32_agrees_with_float64():
    network, _ = build(official_state(nf=16, nb=20))
    with torch.no_grad():
        outputs = network(torch.from_numpy(unit((1, 1, 12, 10), 14)).float())
    for name, reference in outputs_of(20).items():
        assert outputs[name].dtype == torch.float32
        assert np.abs(outputs[name].numpy() - reference).max() < 5e-6


def test_the_branch_ignores_all_blocks_after_its_last_tap():
    assert np.array_equal(outputs_of(20)["branch"], outputs_of(23)["branch"])
    assert not np.allclose(outputs_of(20)["sr"], outputs_of(23)["sr"])


def test_the_branch_ignores_the_way_of_the_trunk_after_its_last_tap():
    network, x = small(nb=6, taps=[1, 2, 3, 4]), image(1, 1, 6, 5)
    before = network(x)
    for module in (network.trunk[4], network.trunk[5], network.trunk_end, network.up, network.hr0, network.hr1):
        for parameter in module.parameters():
            parameter.add_(0.1)
    after = network(x)
    assert torch.equal(before["branch"], after["branch"])
    assert not torch.equal(before["sr"], after["sr"])


@pytest.mark.parametrize("tap", range(4))
def test_each_tap_reaches_the_branch(tap):
    network, x = small(nb=8, taps=[2, 4, 6, 8]), image(1, 1, 6, 5)
    before = network(x)["branch"]
    network.branch_block[tap].rdb1.conv1.weight[:, 4:].add_(0.3)
    assert not torch.equal(before, network(x)["branch"])


def test_the_gradient_output_is_the_gradient_map_of_the_input():
    x = image(1, 3, 8, 9)
    assert torch.equal(small(in_nc=3, out_nc=3)(x)["gradient"], gradient_map(x))


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (dict(nf=64, nb=23), 24_718_804),
        (dict(nf=64, nb=23, scale=4), 24_792_660),
        (dict(nf=64, nb=23, in_nc=3, out_nc=3), 24_722_392),
        (dict(nf=64, nb=23, in_nc=3, out_nc=3, scale=4), 24_796_248),
        (dict(nf=16, nb=23), 8_648_452),
        (dict(nf=16, nb=20), 7_796_980),
    ],
)
def test_the_number_of_weights_is_documented(options, count):
    with torch.device("meta"):
        network = build_network("unetspsr", **options)
    fixed_kernels = 18
    assert sum(parameter.numel() for parameter in network.parameters()) + fixed_kernels == count


def test_each_part_has_its_documented_number_of_weights():
    with torch.device("meta"):
        network = build_network("unetspsr")
    parts = {"trunk": 0, "detail": 0, "branch": 0, "branch tail": 0, "fusion": 0}
    homes = {"head": "trunk", "trunk": "trunk", "trunk_end": "trunk", "up": "detail", "hr0": "detail", "hr1": "detail"}
    homes |= dict.fromkeys(("branch_up", "branch_hr0", "branch_hr1", "branch_out"), "branch tail")
    homes |= dict.fromkeys(("branch_head", "branch_block", "branch_reduce", "branch_end"), "branch")
    homes |= dict.fromkeys(("fusion_block", "fusion_reduce", "fusion_hr", "fusion_out"), "fusion")
    for name, parameter in network.named_parameters():
        parts[homes[name.partition(".")[0]]] += parameter.numel()
    assert parts == {
        "trunk": 16_584_320,
        "detail": 110_784,
        "branch": 6_307_776,
        "branch tail": 110_849,
        "fusion": 1_605_057,
    }


def test_a_full_generator_file_has_880_entries_for_two_and_884_for_four():
    assert len(official_shapes()) == 880
    assert len(official_shapes(scale=4)) == 884


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (5, 4)])
def test_any_size_is_enlarged_by_the_scale(scale, size):
    outputs = small(scale=scale)(image(2, 1, *size))
    assert outputs["sr"].shape == outputs["branch"].shape == (2, 1, size[0] * scale, size[1] * scale)
    assert outputs["gradient"].shape == (2, 1, *size)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 3), (1, 3), (3, 1)])
def test_one_or_three_channels(inputs, outputs):
    result = small(in_nc=inputs, out_nc=outputs)(image(1, inputs, 5, 4))
    assert result["sr"].shape[1] == result["branch"].shape[1] == outputs
    assert result["gradient"].shape[1] == inputs


def test_encoding_and_decoding_are_the_forward_pass():
    network, x = small(scale=4), image(1, 1, 6, 7)
    features = network.encode(x)
    assert features.shape == (1, 2 * SMALL["nf"], 6, 7)
    decoded, whole = network.decode(features), network(x)
    assert torch.equal(decoded["sr"], whole["sr"])
    assert torch.equal(decoded["branch"], whole["branch"])


def test_folded_pixels_take_a_quarter_of_the_work_and_the_published_layout_is_the_unfolded_one():
    plain, folded = small(nf=8), small(nf=8, in_nc=5, slices=2, unshuffle=2)
    assert "unshuffle" not in plain.options and plain.describe().multiple == 1
    assert folded.options["unshuffle"] == folded.describe().multiple == folded.describe().minimum_size == 2
    x = image(1, 5, 8, 12)
    features = folded.encode(x)
    assert features.shape == (1, 2 * 8 // 4, 8, 12)
    decoded, whole = folded.decode(features), folded(x)
    assert torch.equal(decoded["sr"], whole["sr"]) and torch.equal(decoded["branch"], whole["branch"])
    assert whole["sr"].shape == whole["branch"].shape == (1, 1, 16, 24) and whole["gradient"].shape == (1, 1, 8, 12)
    one = small(nf=8, unshuffle=2).describe()
    counted = 2 * sum(  # of the same layers for a place, and of fewer places
        w.numel()
        for n, w in small(nf=8, unshuffle=2).state_dict().items()
        if w.ndim == 4 and n.startswith(("head", "trunk", "branch_head", "branch_block", "branch_reduce", "branch_end"))
    )
    assert one.encode_flops == counted / 4


def test_with_a_skip_the_network_adds_to_the_linear_interpolation_in_full_precision():
    for options, x in (({}, image(1, 1, 6, 8)), ({"in_nc": 5, "slices": 2, "unshuffle": 2}, image(1, 5, 6, 8))):
        network = small(nf=8, skip=True, **options)
        middle = x[:, x.shape[1] // 2 :][:, :1]
        linear = torch.nn.functional.interpolate(middle, scale_factor=2, mode="bilinear")
        features = network.encode(x)
        assert torch.equal(features[:, -1:], middle)
        assert torch.equal(network.decode(features)["sr"], network(x)["sr"])
        assert not torch.allclose(network(x)["sr"], linear, atol=1e-3)
        network.fusion_out.weight.zero_()
        network.fusion_out.bias.zero_()
        assert torch.allclose(network(x)["sr"], linear, atol=1e-12)
        with torch.autocast("cpu", torch.bfloat16):
            found = network.float()(x.float())["sr"]
        assert found.dtype == torch.float32 and torch.allclose(found, linear.float(), atol=1e-6)
    assert "skip" not in small().options


def test_folding_sees_the_same_wherever_the_folds_begin_alike():
    network = small(nf=8, unshuffle=2)
    x = image(1, 1, 100, 100)
    whole = network(x)["sr"]
    moved = network(x[..., 2:, 4:])["sr"]  # by whole folds
    inner = slice(80, -80)
    assert torch.allclose(whole[..., 4:, 8:][..., inner, inner], moved[..., inner, inner], atol=1e-9)


def test_the_gradient_branch_comes_before_the_trunk_in_the_fusion():
    network, x = small(scale=1), image(1, 1, 6, 7)
    features = network.encode(x)
    trunk, branch = features.chunk(2, 1)
    before = network.decode(features)
    assert torch.equal(before["branch"], network.decode(torch.cat((trunk + 1, branch), 1))["branch"])
    assert not torch.equal(before["branch"], network.decode(torch.cat((trunk, branch + 1), 1))["branch"])


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_decoding_reaches_as_far_as_the_description_says(scale):
    network = small(scale=scale)
    halo = network.describe().decode_context
    features = image(1, 2 * SMALL["nf"], 1, 2 * halo + 5) - 0.5
    whole = network.decode(features)["sr"]
    part = network.decode(features[..., halo + 2 - halo : halo + 3 + halo])["sr"]
    own = slice(scale * (halo + 2), scale * (halo + 3))
    assert torch.allclose(part[..., scale * halo : scale * (halo + 1)], whole[..., own], atol=1e-14)


@pytest.mark.parametrize(("scale", "tail"), [(2, 10.5), (4, 5.75)])
def test_the_receptive_field_has_the_documented_radius(scale, tail):
    """The way through all 20 RRDBs, the last tap's RRDB and reduction, and the branch's last convolution is longest."""
    network = build_network("unetspsr", nf=1, nb=20, gc=1, scale=scale).double()
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 0.5)
    centre = 350
    x = image(1, 1, 1, 2 * centre + 1).requires_grad_()
    network(x)["sr"][..., 0, centre * scale].backward()
    reached = torch.nonzero(x.grad[0, 0, 0]).flatten()
    radius = 1 + 15 * 20 + 15 + 1 + 1
    assert radius == 318
    assert centre - reached.min().item() == radius + np.ceil(tail)
    assert reached.max().item() - centre == radius + np.floor(tail)


def test_the_initial_weights_are_small_and_the_biases_zero():
    torch.manual_seed(0)
    network = build_network("unetspsr", nf=16, nb=4)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
            continue
        expected = 0.1 * (2 / parameter[0].numel()) ** 0.5
        assert parameter.std().item() == pytest.approx(expected, rel=6 / parameter.numel() ** 0.5), name


@pytest.mark.parametrize(
    "options",
    [
        dict(nb=19, taps=[5, 10, 15, 20]),
        dict(nb=3),
        dict(nb=8, taps=[2, 2, 4, 6]),
        dict(nb=8, taps=[4, 3, 2, 1]),
        dict(nb=8, taps=[0, 2, 4, 6]),
        dict(nb=8, taps=[2, 4, 6]),
        dict(scale=5),
        dict(in_nc=2),
        dict(nf=0),
        dict(nf=6, unshuffle=2),
        dict(unshuffle=3),
        dict(in_nc=3, out_nc=1, skip=True),
    ],
)
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError):
        build_network("unetspsr", **{**SMALL, **options})


@pytest.mark.parametrize(
    ("nb", "taps"), [(4, (1, 2, 3, 4)), (6, (2, 3, 5, 6)), (19, (5, 10, 15, 19)), (20, (5, 10, 15, 20))]
)
def test_short_trunks_are_tapped_at_their_quarters(nb, taps):
    with torch.device("meta"):
        assert build_network("unetspsr", nf=1, nb=nb, gc=1).taps == taps


@pytest.mark.parametrize(("scale", "per_pixel"), [(2, 60_353_828), (4, 104_753_444)])
def test_the_described_operations_are_those_of_the_layers(scale, per_pixel):
    with torch.device("meta"):
        network = build_network("unetspsr", scale=scale)
    assert network.describe().flops_per_voxel() == pytest.approx(per_pixel, rel=1e-4)


def test_what_it_is_told_of_the_acquisition_changes_the_image_and_the_plain_layout_stays():
    plain, told = small(), small(conditions=("blur", "noise"))
    assert "conditions" not in plain.options and plain.describe().conditions == ()
    assert told.describe().conditions == ("blur", "noise")
    sizes = {name: weight.shape for name, weight in told.state_dict().items()}
    others = {name: weight.shape for name, weight in plain.state_dict().items()}
    assert {name for name in sizes if sizes[name] != others[name]} == {"head.weight"}
    assert sizes["head.weight"][1] == others["head.weight"][1] + 3
    x = torch.from_numpy(unit((2, 1, 8, 8), 3))
    known = {"blur": torch.tensor([[0.4, 0.4], [0.4, 0.9]]), "noise": torch.full((2, 1), 0.02)}
    same = {"blur": torch.full((2, 2), 0.4), "noise": torch.full((2, 1), 0.02)}
    first, second = told(x, known)["sr"], told(x, same)["sr"]
    assert torch.equal(first[0], second[0]) and not torch.equal(first[1], second[1])
    with pytest.raises(ValueError, match="blur, noise"):
        told(x)
