"""The discriminators and the feature network give the documented values, and spectral norm is spectral norm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from CBCTSuperResLib.networks.unet_discriminator import SpectralConv2d, UNetDiscriminator
from CBCTSuperResLib.networks.vgg import VGG19, VGGDiscriminator
from fixtures_spsr import filled, unit
from spsr_training import fill_discriminator

F6 = [0.02354823, 0.04585374, -0.04296611, -0.0254478, -0.0261545]
F10 = [-0.03970519, 1.98170921, 2.20992959, 0.99417933, -0.73731411]


def summary(values: torch.Tensor) -> list[float]:
    flat = values.detach().numpy().ravel()
    return [flat.mean(), flat.std(), flat[0], flat[flat.size // 2], flat[-1]]


def parameters_of(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def small_unet(**options) -> UNetDiscriminator:
    torch.manual_seed(1)
    return UNetDiscriminator(**{"nf": 4, **options}).double()


def test_the_u_net_has_the_documented_output():
    network = UNetDiscriminator(nf=16)
    fill_discriminator(network)
    outputs = network.double().eval()(torch.from_numpy(unit((1, 1, 32, 24), 15)))
    assert outputs.shape == (1, 1, 32, 24)
    assert summary(outputs) == pytest.approx(F6, abs=6e-9)


def test_the_u_net_has_real_esrgans_tensors():
    network = UNetDiscriminator()
    names = {f"conv{i}.weight_{part}" for i in range(1, 9) for part in ("orig", "u", "v")}
    names |= {f"conv{i}.{part}" for i in (0, 9) for part in ("weight", "bias")}
    assert set(network.state_dict()) == names
    assert parameters_of(network) == 4_375_745
    assert sum(buffer.numel() for buffer in network.buffers()) == 17_856
    assert parameters_of(UNetDiscriminator(in_nc=3)) == 4_376_897


def test_spectral_norm_is_torchs():
    torch.manual_seed(2)
    ours = SpectralConv2d(3, 5, 4, stride=2).double()
    theirs = torch.nn.utils.spectral_norm(torch.nn.Conv2d(3, 5, 4, stride=2, padding=1, bias=False)).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    for mode in (True, True, False):
        for layer in (ours.train(mode), theirs.train(mode)):
            layer.zero_grad()
        assert torch.allclose(ours(x), theirs(x), rtol=0, atol=1e-14)
        for layer in (ours, theirs):
            layer(x).square().sum().backward()
        assert torch.allclose(ours.weight_orig.grad, theirs.weight_orig.grad, rtol=0, atol=1e-12)
    assert torch.allclose(ours.weight_u, theirs.weight_u, rtol=0, atol=1e-14)


def test_spectral_norm_finds_the_largest_singular_value():
    torch.manual_seed(2)
    layer = SpectralConv2d(3, 5, 3).double()
    for _ in range(200):
        layer(torch.zeros(1, 3, 4, 4, dtype=torch.float64))
    norm = np.linalg.svd(layer.weight_orig.detach().reshape(5, -1).numpy(), compute_uv=False)[0]
    assert layer._largest_singular_value().item() == pytest.approx(norm, rel=1e-9)


def test_each_training_pass_moves_the_norm_on_and_no_other_does():
    network, x = small_unet(), torch.rand(1, 1, 8, 8, dtype=torch.float64)
    before = network.conv1.weight_u.clone()
    network.eval()(x)
    assert torch.equal(network.conv1.weight_u, before)
    network.train()(x)
    assert not torch.equal(network.conv1.weight_u, before)


def test_gradients_are_those_of_the_pass_they_belong_to():
    network, x = small_unet(), torch.rand(1, 1, 8, 8, dtype=torch.float64)
    outputs = network(x)
    network(x + 1)
    outputs.sum().backward()
    late = network.conv3.weight_orig.grad.clone()
    network = small_unet()
    network(x).sum().backward()
    assert torch.equal(network.conv3.weight_orig.grad, late)


def test_skip_connections_can_be_left_out():
    x = torch.rand(1, 1, 16, 8, dtype=torch.float64)
    with_skips, without = small_unet().eval(), small_unet(skip_connection=False).eval()
    without.load_state_dict(with_skips.state_dict())
    assert not torch.allclose(with_skips(x), without(x))


def test_the_u_net_names_the_size_it_cannot_take():
    with pytest.raises(ValueError, match="multiples of 8, not 12 x 16"):
        small_unet()(torch.zeros(1, 1, 12, 16, dtype=torch.float64))


@pytest.mark.parametrize(("channels", "count"), [(1, 14_501_129), (3, 14_502_281)])
def test_the_vgg_has_spsrs_tensors(channels, count):
    network = VGGDiscriminator(channels)
    convolutions = {name for name, tensor in network.state_dict().items() if tensor.dim() == 4}
    assert convolutions == {f"features.{i}.weight" for i in (0, 2, 5, 8, 11, 14, 17, 20, 23, 26)}
    norms = {name for name in network.state_dict() if name.endswith("running_mean")}
    assert norms == {f"features.{i}.running_mean" for i in (3, 6, 9, 12, 15, 18, 21, 24, 27)}
    assert {"classifier.0.weight", "classifier.2.bias"} < set(network.state_dict())
    assert parameters_of(network) == count


def test_the_vgg_takes_128_to_159_pixels():
    network = VGGDiscriminator(nf=2).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 1, 128, 159)).shape == (2, 1)
    for size in (127, 160):
        with pytest.raises(ValueError, match=f"128 to 159 pixels, not {size}"):
            network(torch.zeros(1, 1, size, size))


def test_the_features_have_the_documented_values():
    network = VGG19()
    names = network.features.state_dict()
    network.features.load_state_dict({name: filled(name, t.shape, np.sqrt(2)) for name, t in names.items()})
    assert parameters_of(network) == 20_024_384
    network.double()
    one, other = (network(torch.from_numpy(unit((1, 1, 64, 64), seed))) for seed in (20, 21))
    assert one.shape == (1, 512, 4, 4)
    assert summary(one) == pytest.approx(F10, abs=6e-9)
    assert (one - other).abs().mean().item() == pytest.approx(0.28368176, abs=6e-9)


def test_grey_images_have_the_features_of_the_same_image_in_three_colours():
    torch.manual_seed(0)
    network, grey = VGG19(), torch.rand(1, 1, 32, 32)
    assert torch.equal(network(grey), network(grey.expand(-1, 3, -1, -1).contiguous()))


def test_the_feature_network_is_never_trained():
    network = VGG19().train()
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())


def test_the_last_layer_stays_in_float32_under_autocast():
    network = small_unet().float()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(torch.rand(1, 1, 16, 16))
    assert outputs.dtype == torch.float32
    assert not torch.equal(outputs, outputs.bfloat16().float())
