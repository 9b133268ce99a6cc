"""Networks without training, for tests: what they do to an image is known exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from CBCTSuperResLib.core.interpolate import cubic_weights
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.networks import NETWORKS, Registered, build_network
from CBCTSuperResLib.networks.options import NetworkOptions, option
from CBCTSuperResLib.networks.spec import NetworkSpec
from torch import Tensor, nn
from torch.nn import functional as F


class Stub(nn.Module):
    """`encode` keeps the image; `decode` is what a subclass adds."""

    def encode(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.decode(self.encode(x))


class Unchanged(Stub):
    """The image itself, not enlarged."""

    def describe(self) -> NetworkSpec:
        return NetworkSpec("unchanged", scale=1, context=0)

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        return {"sr": features}


class CubicTwice(Stub):
    """Bicubic enlargement by two: the identity of super-resolution."""

    def describe(self) -> NetworkSpec:
        return NetworkSpec("cubic", scale=2, context=2, decode_context=2)

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        return {"sr": F.interpolate(features, scale_factor=2.0, mode="bicubic")}


class Constant(Stub):
    """One value everywhere, whatever the image."""

    def __init__(self, value: float = 0.5) -> None:
        super().__init__()
        self.value = value

    def describe(self) -> NetworkSpec:
        return NetworkSpec("constant", {"value": self.value}, scale=2, context=0)

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        return {"sr": torch.full_like(F.interpolate(features, scale_factor=2.0), self.value)}


class Sharpened(Stub):
    """Bicubic enlargement, then the same short sharpening filter along both axes."""

    TAPS = (0.06, -0.46, 1.8, -0.46, 0.06)

    def describe(self) -> NetworkSpec:
        return NetworkSpec("sharpened", scale=2, context=4, decode_context=4)

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        fine = F.interpolate(features, scale_factor=2.0, mode="bicubic")
        taps = torch.tensor(self.TAPS, dtype=fine.dtype, device=fine.device)
        fine = F.conv2d(F.pad(fine, (2, 2, 0, 0), mode="replicate"), taps.view(1, 1, 1, -1))
        return {"sr": F.conv2d(F.pad(fine, (0, 0, 2, 2), mode="replicate"), taps.view(1, 1, -1, 1))}


class Lopsided(Stub):
    """Bicubic enlargement by two, smeared to the right and, more, downwards; stays within what the image spans."""

    def describe(self) -> NetworkSpec:
        return NetworkSpec("lopsided", scale=2, context=4, decode_context=4)

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        fine = F.interpolate(features, scale_factor=2.0, mode="bicubic")
        right, down = (F.pad(fine, sides, mode="replicate") for sides in ((1, 0, 0, 0), (0, 0, 2, 0)))
        return {"sr": 0.5 * fine + 0.2 * right[..., :-1] + 0.3 * down[..., :-2, :]}


class Cells(Stub):
    """Works on cells of 4 x 4 pixels: the result depends on where an image is cut, unless it is cut between cells."""

    def describe(self) -> NetworkSpec:
        return NetworkSpec("cells", scale=2, context=4, multiple=4, minimum_size=24)

    def encode(self, x: Tensor) -> Tensor:
        return 0.5 * x + 0.5 * F.interpolate(F.avg_pool2d(x, 4), scale_factor=4.0)

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        return {"sr": F.interpolate(features, scale_factor=2.0)}


class LinearBlocks(Stub):
    """Trilinear enlargement of a block by two."""

    def describe(self) -> NetworkSpec:
        return NetworkSpec("linear_blocks", dimensions=3, scale=2, context=2, decode_context=1)

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        return {"sr": F.interpolate(features, scale_factor=2.0, mode="trilinear")}


class AnyScale(Stub):
    """Samples a block at any positions, linearly or cubically: a 3-D network of any real scale."""

    def __init__(self, linear: bool = True) -> None:
        super().__init__()
        self.linear = linear

    def describe(self) -> NetworkSpec:
        return NetworkSpec(
            "any_scale",
            {"linear": self.linear},
            dimensions=3,
            scale=None,
            scale_range=(1.5, 4.0),
            context=3,
            decode_context=2,
        )

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        for axis, places in enumerate(positions, start=2):
            weights = self._weights(features.shape[axis], places).to(features)
            features = torch.movedim(torch.tensordot(features, weights, dims=([axis], [1])), -1, axis)
        return {"sr": features}

    def _weights(self, length: int, places: Tensor) -> Tensor:
        if not self.linear:
            return torch.from_numpy(cubic_weights(length, places.numpy()))
        nodes = torch.arange(length, dtype=places.dtype)
        return (1 - (places.clamp(0, length - 1)[:, None] - nodes).abs()).clamp(min=0)


@dataclass(frozen=True)
class BlockOptions(NetworkOptions):
    """Of `BlockNet`."""

    nf: int = option(4, "Features.", minimum=1)
    scale: int = option(2, "Factor of enlargement.", choices=(2, 4), derived=True)


class BlockNet(nn.Module):
    """(a) A 3-D network of a fixed factor that wants to be told the blur along each axis."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.options = BlockOptions(**options)
        self.options.check()
        nf = self.options.nf
        self.head = nn.Conv3d(1, nf, 3, padding=1)
        self.gain = nn.Linear(3, nf)
        self.tail = nn.Conv3d(nf, 1, 3, padding=1)

    def describe(self) -> NetworkSpec:
        nf, scale = self.options.nf, self.options.scale
        return NetworkSpec(
            "stub_blocks", asdict(self.options), dimensions=3, scale=scale, context=3, decode_context=2,
            conditions=("blur",), encode_flops=54.0 * nf, encode_bytes=8.0 * nf, decode_flops=54.0 * nf,
            decode_bytes=8.0 * nf,
        )  # fmt: skip

    def forward(self, x: Tensor, conditions: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.decode(self.encode(x, conditions))

    def encode(self, x: Tensor, conditions: dict[str, Tensor]) -> Tensor:
        gain = 1 + self.gain(conditions["blur"])
        return F.relu(self.head(x)) * gain[..., None, None, None] + x

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        fine = F.interpolate(features, scale_factor=float(self.options.scale), mode="trilinear")
        return {"sr": self.tail(fine)}


@dataclass(frozen=True)
class PointOptions(NetworkOptions):
    """Of `PointNet`."""

    nf: int = option(4, "Features.", minimum=1)


class PointNet(AnyScale):
    """(b) A 3-D network of any real factor along each axis: features on the input's grid, sampled at positions."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.options = PointOptions(**options)
        self.options.check()
        self.head = nn.Conv3d(1, self.options.nf, 3, padding=1)
        self.tail = nn.Conv3d(self.options.nf, 1, 1)

    def describe(self) -> NetworkSpec:
        nf = self.options.nf
        return NetworkSpec(
            "stub_points", asdict(self.options), dimensions=3, scale=None, scale_range=(1, 4), context=2,
            decode_context=1, encode_flops=54.0 * nf, encode_bytes=8.0 * nf, decode_flops=2.0 * nf,
            decode_bytes=8.0 * nf,
        )  # fmt: skip

    def forward(self, x: Tensor, positions: Sequence[Tensor]) -> dict[str, Tensor]:
        return self.decode(self.encode(x), positions)

    def encode(self, x: Tensor) -> Tensor:
        return F.relu(self.head(x)) + x

    def decode(self, features: Tensor, positions: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"sr": self.tail(super().decode(features, positions)["sr"])}


@dataclass(frozen=True)
class UncertainOptions(NetworkOptions):
    """Of `UncertainNet`."""

    nf: int = option(8, "Features.", minimum=1)
    dropout: float = option(0.5, "Share of the features that a draw leaves out.", minimum=0, maximum=0.9)


class UncertainNet(nn.Module):
    """(c) A 2-D network x4 that also gives the logarithm of its error's variance; its dropout can be drawn."""

    stochastic_layers = ("dropout",)

    def __init__(self, **options) -> None:
        super().__init__()
        self.options = UncertainOptions(**options)
        self.options.check()
        self.head = nn.Conv2d(1, self.options.nf, 3, padding=1)
        self.dropout = nn.Dropout2d(self.options.dropout)
        self.tail = nn.Conv2d(self.options.nf, 2, 3, padding=1)

    def describe(self) -> NetworkSpec:
        nf = self.options.nf
        return NetworkSpec(
            "stub_uncertain", asdict(self.options), scale=4, context=2, decode_context=1, stochastic=True,
            outputs={"sr": "image", "log_variance": "log_variance"}, encode_flops=18.0 * nf, encode_bytes=8.0 * nf,
            decode_flops=36.0 * nf, decode_bytes=8.0 * nf,
        )  # fmt: skip

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        return self.dropout(F.relu(self.head(x))) + x

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        image, spread = self.tail(F.interpolate(features, scale_factor=4.0)).split(1, 1)
        return {"sr": image, "log_variance": spread - 6}


@dataclass(frozen=True)
class TranslatorOptions(NetworkOptions):
    """Of `TranslatorNet`."""

    nf: int = option(4, "Features.", minimum=1)


class TranslatorNet(nn.Module):
    """(d) A 2-D network x8 into another kind of image; instance normalisation makes it look at the whole slice."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.options = TranslatorOptions(**options)
        self.options.check()
        self.head = nn.Conv2d(1, self.options.nf, 3, padding=1)
        self.norm = nn.InstanceNorm2d(self.options.nf, affine=True)
        self.tail = nn.Conv2d(self.options.nf, 1, 3, padding=1)

    def describe(self) -> NetworkSpec:
        nf = self.options.nf
        return NetworkSpec(
            "stub_translator", asdict(self.options), scale=8, context="global", decode_context=1, domain="other",
            encode_flops=18.0 * nf, encode_bytes=12.0 * nf, decode_flops=18.0 * nf, decode_bytes=8.0 * nf,
        )  # fmt: skip

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.head(x)))

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        return {"sr": torch.sigmoid(self.tail(F.interpolate(features, scale_factor=8.0)))}


class Normalised(Stub):
    """Enlargement by two after subtracting the mean of the whole image, or block, and dividing by its deviation."""

    def __init__(self, dimensions: int = 2, context: str = "global") -> None:
        super().__init__()
        self.dimensions, self.context = dimensions, context

    def describe(self) -> NetworkSpec:
        options = {"dimensions": self.dimensions, "context": self.context}
        return NetworkSpec(
            "normalised", options, dimensions=self.dimensions, scale=2, context=self.context, decode_context=2
        )

    def encode(self, x: Tensor) -> Tensor:
        axes = tuple(range(2, x.ndim))
        return 0.5 + 0.2 * (x - x.mean(axes, keepdim=True)) / x.std(axes, keepdim=True)

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        mode = "bicubic" if self.dimensions == 2 else "trilinear"
        return {"sr": F.interpolate(features, scale_factor=2.0, mode=mode)}


STUBS = {
    "unchanged": Unchanged,
    "cubic": CubicTwice,
    "constant": Constant,
    "sharpened": Sharpened,
    "lopsided": Lopsided,
    "cells": Cells,
    "linear_blocks": LinearBlocks,
    "any_scale": AnyScale,
    "normalised": Normalised,
}
FAMILIES = {
    "stub_blocks": (BlockNet, BlockOptions),
    "stub_points": (PointNet, PointOptions),
    "stub_uncertain": (UncertainNet, UncertainOptions),
    "stub_translator": (TranslatorNet, TranslatorOptions),
}


def register(monkeypatch) -> None:
    """Put the stubs into the registry of networks for one test."""
    for name, cls in STUBS.items():
        monkeypatch.setitem(NETWORKS, name, Registered(f"{__name__}:{cls.__name__}"))
    for name, (cls, options) in FAMILIES.items():
        monkeypatch.setitem(NETWORKS, name, Registered(f"{__name__}:{cls.__name__}", options))


def stub_model(network: nn.Module, **card) -> Model:
    """A model around a network; window [0, 1000] unless the card says otherwise."""
    if network.describe().domain == "other":
        card = {"output_window": (0.0, 255.0), **card}
    context = card.pop("context", network.describe().context)
    spec = replace(network.describe(), context=context)
    return Model(network, ModelCard(**{"name": "stub", "spec": spec, "window": (0.0, 1000.0), **card}))


def interpolating_points() -> PointNet:
    """A network of any real factor that gives the linear interpolation of the scan."""
    network = PointNet()
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    nn.init.constant_(network.tail.weight, 1 / network.options.nf)
    return network


def tiny_network(seed: int = 0, **options) -> nn.Module:
    """A small UNetSPSR whose random weights are large enough for its output to depend on the image."""
    torch.manual_seed(seed)
    network = build_network("unetspsr", **{"nf": 4, "gc": 4, "nb": 4, **options})
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()
    return network.eval()


def tiny_model(context: int | str = 20, seed: int = 0, **card) -> Model:
    """A model around `tiny_network`; a context of 20 pixels is enough for it."""
    return stub_model(tiny_network(seed), context=context, **card)
