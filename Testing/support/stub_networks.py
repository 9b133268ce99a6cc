"""Networks without training, for tests: what they do to an image is known exactly."""

from __future__ import annotations

from dataclasses import replace

import torch
from CBCTSuperResLib.core.interpolate import cubic_weights
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.networks import NETWORKS, Registered, build_network
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


STUBS = {
    "unchanged": Unchanged,
    "cubic": CubicTwice,
    "constant": Constant,
    "sharpened": Sharpened,
    "lopsided": Lopsided,
    "cells": Cells,
    "linear_blocks": LinearBlocks,
    "any_scale": AnyScale,
}


def register(monkeypatch) -> None:
    """Put the stubs into the registry of networks for one test."""
    for name, cls in STUBS.items():
        monkeypatch.setitem(NETWORKS, name, Registered(f"{__name__}:{cls.__name__}"))


def stub_model(network: nn.Module, **card) -> Model:
    """A model around a network; window [0, 1000] unless the card says otherwise."""
    context = card.pop("context", network.describe().context)
    spec = replace(network.describe(), context=context)
    return Model(network, ModelCard(**{"name": "stub", "spec": spec, "window": (0.0, 1000.0), **card}))


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
