"""The light 3-D network of any real factor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.apply.tiles import Axis, Context, plan_tiles
from CBCTSuperResLib.core.interpolate import cubic
from CBCTSuperResLib.networks import build_network
from torch import nn

TOLD = {"blur": torch.tensor([[0.3, 0.4, 0.5]]), "noise": torch.tensor([[0.02]])}
PLACES = [torch.arange(19) / 2.3 - 0.4, torch.arange(10.0), torch.arange(17) / 1.6 - 0.2]


@pytest.fixture(scope="module")
def network():
    """Random weights, also where the network begins as interpolation."""
    torch.manual_seed(14)
    found = build_network("any_size", nf=8, nb=2, decoder_features=6, conditions=("blur", "noise")).eval()
    for layer in (found.tail, *(place.outer for place in found.places)):
        layer.reset_parameters()
    return found


@pytest.fixture(scope="module")
def block():
    return torch.rand(1, 1, 8, 10, 12, generator=torch.Generator().manual_seed(1))


def test_before_training_it_interpolates(block):
    untrained = build_network("any_size", nf=8, nb=1, conditions=("blur",))
    expected = cubic(block[0, 0].numpy(), [places.numpy() for places in PLACES])
    found = untrained(block, TOLD, PLACES)["sr"][0, 0].detach().numpy()
    assert found.shape == expected.shape and np.abs(found - expected).max() < 1e-5


def test_its_parts_are_those_of_the_whole(network, block, monkeypatch):
    with torch.no_grad():
        features = network.encode(block, TOLD)
        whole = network.decode(features, PLACES)["sr"]
        some = network.decode(features, [places[3:8] for places in PLACES])["sr"]
        monkeypatch.setattr("CBCTSuperResLib.networks.any_size.PART", 300)  # a few planes at a time
        in_parts = network.decode(features, PLACES)["sr"]
    assert torch.allclose(in_parts, whole, atol=1e-5)
    assert torch.allclose(some, whole[:, :, 3:8, 3:8, 3:8], atol=1e-5)


def test_tiles_with_its_context_give_the_whole_volume(network):
    image = np.random.default_rng(2).random((12, 34, 38), dtype=np.float32)
    axes = [Axis(n, 0, n, round(n * f), blur=0.4) for n, f in zip(image.shape, (3.3, 1.0, 1.7), strict=True)]
    spec = network.describe()
    less = replace(spec, context=spec.context - 4)
    (all_of_it,) = plan_tiles(axes, None, Context(None))
    whole = Engine(network, spec, tile=0, noise=0.02).run(image, axes, all_of_it)
    tiled = Engine(network, spec, tile=16, noise=0.02).run(image, axes, all_of_it)
    cut = Engine(network, less, tile=16, noise=0.02).run(image, axes, all_of_it)
    assert np.abs(whole - cut).max() > 1e-3  # so that a context that is too small would be seen
    # random weights make much of the last digits of places, which are float32
    assert whole.shape == (40, 34, 65) and np.abs(whole - tiled).max() < 5e-4 * whole.std()


def test_nothing_jumps_between_two_voxels(network, block):
    step = 1e-3
    places = torch.tensor([[n - step, n + step] for n in (2.0, 2.5, 3.0, 3.5, 4.0)]).flatten()
    with torch.no_grad():
        features = network.encode(block, TOLD)
        for axis in range(3):
            one = [torch.tensor([3.2, 3.7])] * 3
            one[axis] = places
            parts = [
                network.decode(features, [p[n : n + 2] if a == axis else p for a, p in enumerate(one)])["sr"]
                for n in range(0, len(places), 2)
            ]
            jumps = [float(torch.diff(part, dim=axis + 2).abs().max()) for part in parts]
            assert max(jumps) < 0.05, (axis, jumps)


def test_in_what_is_constant_no_place_and_no_pixel_of_a_fold_looks_different(network):
    inside = [places + start for places, start in zip(PLACES, (8, 16, 16), strict=True)]  # beyond what borders reach
    for grey in (0.1, 0.7):
        with torch.no_grad():
            found = network(torch.full((1, 1, 26, 44, 44), grey), TOLD, inside)["sr"]
        inner = found[..., 2:-2, 2:-2, 2:-2]
        assert abs(float(inner.mean()) - grey) > 1e-2  # random weights add something, the same everywhere
        assert float(inner.max() - inner.min()) < 1e-4, grey


def test_features_are_the_same_where_memory_is_saved(network, block, monkeypatch):
    kept = network.encode(block, TOLD).detach()
    for piece in (1, 3000, 1 << 20):
        monkeypatch.setattr("CBCTSuperResLib.networks.any_size.PIECE", piece)
        with torch.no_grad():
            saved = network.encode(block, TOLD)
        assert saved.stride() == kept.stride() and torch.allclose(saved, kept, atol=1e-6), piece


def test_it_is_told_blur_and_noise_and_how_fine_the_output_is(network, block):
    with torch.no_grad():
        usual = network(block, TOLD, PLACES)["sr"]
        for name in TOLD:
            other = network(block, {**TOLD, name: TOLD[name] + 0.3}, PLACES)["sr"]
            assert (other - usual).abs().max() > 1e-3, name
        coarser = network(block, TOLD, [places[::2] for places in PLACES])["sr"]
    assert (coarser - usual[:, :, ::2, ::2, ::2]).abs().max() > 1e-3


def test_steps_are_told_where_places_lie_apart(network, block):
    steps = [places[1] - places[0] for places in PLACES]
    with torch.no_grad():
        features = network.encode(block, TOLD)
        usual = network.decode(features, PLACES)["sr"]
        apart = network.decode(features, [places[::3] for places in PLACES], steps=steps)["sr"]
    assert torch.allclose(apart, usual[:, :, ::3, ::3, ::3], atol=1e-5)


def test_it_costs_what_it_says_and_little():
    network = build_network("any_size", conditions=("blur", "noise"))
    spec = network.describe()
    block = torch.rand(1, 1, 6, 16, 16)
    done = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, x, y: done.append(2 * y.numel() * layer.weight[0].numel()))
    with torch.no_grad():
        features = network.encode(block, TOLD)
    assert sum(done) / block.numel() == pytest.approx(spec.encode_flops)
    assert features.shape == (1, 25, 6, 16, 16)
    for scale in ((5, 1, 1), (2, 2, 2), (3.3, 1.5, 1.5)):
        assert spec.flops_per_voxel(scale) / np.prod(scale) < 60e3, scale


def test_options_that_make_no_network_are_refused():
    for options in ({"unshuffle": 3}, {"nf": 0}, {"most_across": 0.5}, {"conditions": ("weather",)}):
        with pytest.raises(ValueError, match=next(iter(options))):
            build_network("any_size", **options)
