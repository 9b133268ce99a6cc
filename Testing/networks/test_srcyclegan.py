"""The networks of SR-CycleGAN: the published numbers to the digits, and what ours promise of themselves."""

from __future__ import annotations

import pytest
import torch
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.networks.srcyclegan import SRCycleGANBack
from fixtures_spsr import unit
from fixtures_srcyclegan import fill
from torch import nn
from torch.nn import functional as F

NAMES = {"G": "G_A.", "F": "G_B.", "D": "D_A."}


def published(kind: str, scale: int = 8, nf: int = 8) -> nn.Module:
    if kind == "D":
        return fill(build_network("discriminator_patch", nf=nf), NAMES[kind])
    if kind == "F":
        return fill(SRCycleGANBack(nf=nf, scale=scale), NAMES[kind])
    return fill(build_network("srcyclegan", nf=nf, scale=scale, upsampling="PS"), NAMES[kind])


def sum5(tensor: torch.Tensor) -> list[float]:
    flat = tensor.flatten()
    return [float(v) for v in (flat.mean(), flat.std(correction=0), flat[0], flat[flat.numel() // 2], flat[-1])]


@pytest.mark.parametrize(
    ("kind", "scale", "of_64", "entries", "of_8"),
    [
        ("G", 8, 802222, 53, 13091),
        ("G", 4, 797973, 50, 13063),
        ("F", 8, 12936769, 54, 205897),
        ("F", 4, 11744065, 52, 185833),
        ("D", 1, 2762689, 10, 44281),
    ],
)
def test_the_published_layout_has_as_many_parameters_under_the_same_names(kind, scale, of_64, entries, of_8):
    for nf, count in ((64, of_64), (8, of_8)):
        network = {
            "G": lambda nf=nf: build_network("srcyclegan", nf=nf, scale=scale, upsampling="PS"),
            "F": lambda nf=nf: SRCycleGANBack(nf=nf, scale=scale),
            "D": lambda nf=nf: build_network("discriminator_patch", nf=nf),
        }[kind]()
        assert sum(p.numel() for p in network.parameters()) == count and len(network.state_dict()) == entries
    last = {
        ("G", 8): "model.30",
        ("G", 4): "model.26",
        ("F", 8): "model.35",
        ("F", 4): "model.32",
        ("D", 1): "model.11",
    }
    assert f"{last[kind, scale]}.weight" in network.state_dict()


@pytest.mark.parametrize(
    ("kind", "scale", "size", "expected_size", "expected"),
    [
        ("G", 8, (64, 64), (512, 512), (0.24238326, 0.43322981, 0.5086259, -0.1267374, 0.031858921)),
        ("G", 8, (11, 13), (88, 104), (0.24764206, 0.43479482, 0.51655376, 0.21509641, 0.3335692)),
        ("G", 4, (5, 4), (20, 16), (-0.047744272, 0.49708009, -0.10734823, -0.37996227, -0.12118836)),
        ("F", 8, (64, 64), (8, 8), (0.25372033, 0.42162892, 0.67102674, 0.78543437, 0.47565419)),
        ("F", 8, (65, 71), (9, 9), (0.11297222, 0.4653728, 0.29076172, -0.73402421, -0.43140687)),
        ("F", 8, (29, 29), (4, 4), (0.044254509, 0.46326853, -0.37288092, -0.024672089, 0.40906148)),
        ("F", 4, (40, 48), (10, 12), (0.7617055, 0.22794538, 0.8084387, 0.5412193, 0.66685071)),
        ("D", 1, (64, 64), (6, 6), (-0.001140214, 0.65207455, -0.2281652, -1.0045487, -0.089420029)),
        ("D", 1, (65, 71), (6, 6), (0.011057084, 0.55181496, 0.040459655, 0.075181377, 0.11392803)),
    ],
)
def test_the_published_networks_give_the_published_numbers(kind, scale, size, expected_size, expected):
    x = torch.from_numpy(unit((1, 1, *size), 72 if kind == "D" else 71))
    with torch.no_grad():
        found = published(kind, scale)(x)
    found = found["sr"] if kind == "G" else found
    found = found if kind == "D" else 2 * found - 1
    assert found.shape[2:] == expected_size
    assert sum5(found) == pytest.approx(expected, rel=1e-7, abs=1e-7)


def test_the_layers_within_give_the_published_numbers():
    seen = {}
    g, f = published("G"), published("F")
    for network, numbers in ((g, (3, 4, 12, 16, 20)), (f, (9, 18, 21, 27))):
        for number in numbers:
            key = id(network), number
            network.model[number].register_forward_hook(lambda m, i, output, key=key: seen.__setitem__(key, output))
    with torch.no_grad():
        g(torch.from_numpy(unit((1, 1, 11, 13), 71)))
        f(torch.from_numpy(unit((1, 1, 64, 64), 71)))
    for key, expected in {
        (id(g), 3): (0.31388513, 0.65984852, 0.14815702, -0.24572393, -0.20269605),
        (id(g), 4): (0.31388513, 1.2233128, -2.6795982, 0.34368859, -0.64763093),
        (id(g), 12): (0.31388513, 2.9498528, -2.6871491, -1.1422281, 0.60762753),
        (id(g), 16): (0.29722888, 0.66614907, 0.43104688, -0.042324046, -0.15191171),
        (id(g), 20): (0.28855202, 0.67131596, 0.79578189, -0.037921832, 0.84735865),
        (id(f), 9): (0.39769151, 0.58330075, 0, 0.57284383, 0),
        (id(f), 18): (0.39769151, 2.9557271, 0.2650657, 0.56432963, -0.87354043),
        (id(f), 21): (0.38358466, 0.59575081, 1.3430584, 0.13966663, 0.1345197),
        (id(f), 27): (0.39292883, 0.59298084, 0.081350991, 0, 0),
    }.items():
        assert sum5(seen[key]) == pytest.approx(expected, rel=1e-7, abs=1e-7), key


@pytest.mark.parametrize(("scale", "upsampling"), [(2, "NN"), (4, "NN"), (8, "PS"), (2, "PS")])
def test_it_says_of_itself_what_is_true(scale, upsampling):
    network = build_network("srcyclegan", nf=8, nb=2, scale=scale, upsampling=upsampling)
    spec = network.describe()
    assert spec.context == "global" and spec.domain == "other" and not spec.can_be_cut and spec.scale == (scale, scale)
    x = torch.rand(2, 1, 7, 9)
    image = network(x)["sr"]
    assert image.shape == (2, 1, 7 * scale, 9 * scale)
    assert network.options["residual"] is (upsampling == "NN")
    assert image.min() >= -0.5 and image.max() <= 1.5 if upsampling == "NN" else 0 <= image.min() <= image.max() <= 1
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        network(x[:1])
    assert counter.get_total_flops() == pytest.approx(spec.flops_per_voxel() * 63, rel=0.02)


def test_unless_as_published_a_new_network_enlarges_like_cubic_interpolation_and_its_way_back_averages():
    torch.manual_seed(0)
    network = build_network("srcyclegan", nf=8, nb=2, scale=4)
    back = SRCycleGANBack(**network.options)
    y = F.interpolate(torch.rand(2, 1, 8, 9), scale_factor=8, mode="bicubic").clip(0.2, 0.8)
    x = F.avg_pool2d(y, 4)
    with torch.no_grad():
        enlarged, averaged = network(x)["sr"], back(y)
    cubic = F.interpolate(x, scale_factor=4, mode="bicubic")
    assert (enlarged - cubic).abs().mean() < 0.02 and (averaged - x).abs().mean() < 0.02
    assert (enlarged - cubic).abs().max() > 1e-4  # there is something to learn with
    assert back(y[..., :63, :70]).shape == (2, 1, 16, 18)
    published = build_network("srcyclegan", nf=8, nb=2, scale=4, residual=False)
    assert (published(x)["sr"] - cubic).abs().mean() > 0.1 and not published.options["residual"]


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_without_norm_a_part_of_a_slice_gives_what_the_whole_gives(scale):
    torch.manual_seed(0)
    network = build_network("srcyclegan", nf=8, nb=1, scale=scale, norm="none")
    for layer in network.modules():  # of weights with which all that is far would be seen
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    context = network.describe().context
    assert context == 9 and network.describe().can_be_cut
    x = torch.rand(1, 1, 40, 40)
    with torch.no_grad():
        whole, part = network(x)["sr"], network(x[..., 10 : 20 + 2 * context, 10 : 20 + 2 * context])["sr"]
    inner = slice(context * scale, (10 + context) * scale)
    place = slice((10 + context) * scale, (20 + context) * scale)
    assert torch.allclose(part[..., inner, inner], whole[..., place, place], atol=1e-5)
    assert not torch.allclose(part[..., : 4 * scale, inner], whole[..., 10 * scale : 14 * scale, place], atol=1e-5)
    untrained = build_network("srcyclegan", nf=8, nb=1, scale=scale, norm="none")(x)["sr"]
    cubic = F.interpolate(x, scale_factor=scale, mode="bicubic")
    assert 1e-6 < (untrained - cubic).abs().mean() < 0.05


def test_options_that_make_no_sense_are_refused_by_name():
    for options, word in (
        ({"scale": 3}, "scale"),
        ({"nf": 12}, "nf"),
        ({"nb": 0}, "nb"),
        ({"upsampling": "TS"}, "upsampling"),
    ):
        with pytest.raises(ValueError, match=word):
            build_network("srcyclegan", **{"nf": 8, "nb": 1, **options})
