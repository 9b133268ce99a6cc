"""Networks and pictures that the benchmarks share."""

from __future__ import annotations

import numpy as np
import torch
from CBCTSuperResLib.acquisition.phantom import jaw_phantom
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.apply.tiles import Axis, plan_tiles
from CBCTSuperResLib.networks import build_network

FULL_SIZE: dict = {}
SMALL: dict = {"nf": 8, "nb": 4, "gc": 8}


def network_with_random_weights(**options) -> torch.nn.Module:
    """Torch's usual initial weights: unlike the network's own, they give pictures with a range."""
    torch.manual_seed(0)
    network = build_network("unetspsr", **options)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.reset_parameters()
    return network.eval().requires_grad_(False)


def phantom_slice(size: int, slices: int = 0) -> np.ndarray:
    """A slice of a jaw with noise, float32 in [0, 1]; with so many neighbours on either side (2 slices + 1, ...)."""
    picture = jaw_phantom((2 * slices + 1, size, size), 0.16, seed=0)
    picture = picture if slices else picture[0]
    noise = np.random.default_rng(0).normal(0, 0.02, picture.shape)
    return np.clip(picture + noise, 0, 1).astype(np.float32)


def enlarge(engine: Engine, picture: np.ndarray) -> np.ndarray:
    """A whole picture through an engine."""
    axes = [Axis(n, 0, n, n * int(s)) for n, s in zip(picture.shape[-2:], engine.spec.scale, strict=True)]
    (whole,) = plan_tiles(axes, None, 0)
    return engine.run(picture, axes, whole)


def as_tensor(picture: np.ndarray) -> torch.Tensor:
    """(1, channels, rows, columns) of a slice or of a slice with neighbours."""
    return torch.from_numpy(picture).reshape(1, -1, *picture.shape[-2:])
