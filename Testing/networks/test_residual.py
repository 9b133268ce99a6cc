"""The plain residual network: it begins as linear interpolation, and its context is what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.apply.tiles import Axis, plan_tiles
from CBCTSuperResLib.core.errors import ModelError, OptionError
from CBCTSuperResLib.importers.spsr import export_checkpoint
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.recipes.recipe import build_recipe
from recipe_harness import start
from stub_networks import stub_model, tiny_network
from torch.nn import functional as F


def network(seed: int = 0, **options) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_network("residual", **{"nf": 6, "nb": 2, **options}).eval()


def without_blocks(net: torch.nn.Module) -> torch.nn.Module:
    """Only the path past the blocks."""
    with torch.no_grad():
        net.tail.weight[:, : net.options["nf"]] = 0
    return net


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("unshuffle", [1, 2])
def test_past_its_blocks_it_begins_as_linear_interpolation(scale, channels, unshuffle):
    x = torch.rand(2, channels, 8, 12)
    found = without_blocks(network(in_nc=channels, out_nc=channels, scale=scale, unshuffle=unshuffle))(x)["sr"]
    expected = F.interpolate(x, scale_factor=float(scale), mode="bilinear")
    inner = (..., slice(scale, -scale), slice(scale, -scale))
    assert found.shape == expected.shape
    torch.testing.assert_close(found[inner], expected[inner], atol=1e-6, rtol=0)


def test_folded_pixels_give_four_times_the_weights_at_the_same_operations():
    plain, folded = (network(nf=nf, nb=10, unshuffle=fold) for nf, fold in ((32, 1), (64, 2)))
    sizes = [sum(p.numel() for p in net.blocks.parameters()) for net in (plain, folded)]
    flops = [net.describe().flops_per_voxel() for net in (plain, folded)]
    assert sizes[1] == pytest.approx(4 * sizes[0], rel=0.01) and flops[1] == pytest.approx(flops[0], rel=0.15)


def test_what_it_is_told_of_the_acquisition_reaches_every_pixel_and_must_be_told():
    net = network(in_nc=5, slices=2, unshuffle=2, conditions=("blur", "noise"))
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.reset_parameters()
    assert net.describe().conditions == ("blur", "noise")
    x, told = torch.rand(2, 5, 8, 8), {"blur": torch.tensor([[0.4, 0.5]] * 2), "noise": torch.full((2, 1), 0.02)}
    usual = net(x, told)["sr"]
    for name, column in (("blur", 0), ("blur", 1), ("noise", 0)):
        other = {key: value.clone() for key, value in told.items()}
        other[name][1, column] += 0.3
        changed = net(x, other)["sr"]
        assert torch.equal(changed[0], usual[0])  # each image has its own
        assert (changed[1] != usual[1]).all()
    with pytest.raises(ValueError, match="noise"):
        net(x, {"blur": told["blur"]})


def test_of_several_slices_the_middle_one_is_interpolated():
    x = torch.rand(1, 7, 8, 8)
    found = without_blocks(network(in_nc=7, slices=3))(x)["sr"]
    expected = without_blocks(network())(x[:, 3:4])["sr"]
    assert found.shape == (1, 1, 16, 16)
    assert torch.equal(found, expected)


def test_forward_is_decode_of_encode_and_its_description_is_true():
    net, x = network(in_nc=5, slices=2), torch.rand(2, 5, 9, 8)
    features = net.encode(x)
    assert features.shape == (2, 4, 9, 8)
    assert torch.equal(net(x)["sr"], net.decode(features)["sr"])
    spec = net.describe()
    assert (spec.channels, spec.slices, spec.scale, spec.outputs) == (1, 2, (2, 2), {"sr": "image"})
    assert spec.flops_per_voxel() == 2 * sum(p.numel() for p in net.parameters() if p.ndim == 4)
    assert build_network(spec.network, **spec.options).options == net.options


def test_its_halo_is_exactly_how_far_it_looks():
    net = network()
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.reset_parameters()
    image = np.random.default_rng(0).random((40, 40), np.float32)
    axes = [Axis(40, 0, 40, 80)] * 2
    spec = net.describe()
    whole, exact, short = (
        Engine(net, replace(spec, context=halo), "cpu", "fp32", tile=tile).run(image, axes, *plan_tiles(axes, None, 0))
        for halo, tile in ((spec.context, 0), (spec.context, 16), (spec.context - 2, 16))
    )
    assert np.abs(whole - exact).max() < 1e-5 < np.abs(whole - short).max()


@pytest.mark.parametrize(
    "options", [dict(nb=0), dict(nf=0), dict(scale=5), dict(in_nc=3), dict(out_nc=2), dict(slices=1), dict(slices=-1)]
)
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError):
        network(**options)


RESIDUAL = {"which_model_G": "residual_net", "nf": 6, "nb": 4, "in_nc": 5}
WEIGHTS = {"pixel_branch_weight": 0, "feature_weight": 0}
TRAIN = {"mode": "HR", "procedural": 1, "HR_size": 16, "batch_size": 2}


def options_of(tmp_path, **train):
    values = {"name": "t", "scale": 2, "path": {"root": str(tmp_path)}, "datasets": {"train": TRAIN}}
    return read_options({**values, "network_G": RESIDUAL, "network_D": {"nf": 4}, "train": {**WEIGHTS, **train}})


def test_the_recipe_trains_it_with_all_losses_but_that_of_the_branch(tmp_path):
    batch = {"LR": torch.rand(2, 5, 8, 8), "HR": torch.rand(2, 1, 16, 16)}
    logs = start(build_recipe(options_of(tmp_path))).step(batch)
    assert {"l_g_pix", "l_g_gan", "l_g_pix_grad", "l_d_real"} <= set(logs) and "l_g_pix_grad_branch" not in logs


def test_a_branch_that_it_does_not_have_cannot_be_trained(tmp_path):
    with pytest.raises(OptionError, match="pixel_branch_weight must be 0 with residual_net"):
        options_of(tmp_path, pixel_branch_weight=0.5)


def test_models_that_no_spsr_file_can_hold_are_not_exported_as_one(tmp_path):
    with pytest.raises(ModelError, match="residual has no SPSR layout"):
        export_checkpoint(stub_model(network()), tmp_path / "a.pth")
    with pytest.raises(ModelError, match="neighbouring slices"):
        export_checkpoint(stub_model(tiny_network(in_nc=5, slices=2)), tmp_path / "a.pth")
