"""Options, networks and images of known values for tests of UNetSPSR's training."""

from __future__ import annotations

import numpy as np
import torch
from CBCTSuperResLib.importers.spsr import file_names
from CBCTSuperResLib.train.options import TrainingOptions
from CBCTSuperResLib.train.options_file import read_options
from fixtures_spsr import filled, unit
from torch import Tensor, nn

NETWORKS = {
    "network_G": {"nf": 4, "nb": 4, "gc": 4, "in_nc": 1, "out_nc": 1},
    "network_D": {"which_model_D": "discriminator_unet_128", "nf": 4, "in_nc": 1},
}


def training_options(network_G: dict | None = None, network_D: dict | None = None, **changes) -> TrainingOptions:
    """The seed's losses with small networks; keyword arguments are keys of "train", or as named below."""
    top = {key: changes.pop(key) for key in ("scale",) if key in changes}
    paths = {key: str(changes.pop(key)) for key in ("feature_weights",) if key in changes}
    return read_options(
        {
            "name": "test",
            "scale": 2,
            "datasets": {"train": {"mode": "HR", "dataroot_HR": "slices", "HR_size": changes.pop("hr_size", 16)}},
            "path": paths,
            "network_G": {**NETWORKS["network_G"], **(network_G or {})},
            "network_D": {**NETWORKS["network_D"], **(network_D or {})},
            "train": {"feature_weight": 0, **changes},
            **top,
        }
    )


def pairs(count: int, edge: int, seed: int = 31, channels: int = 1) -> dict[str, Tensor]:
    """A batch of LR images of this edge and unrelated HR images of twice it, float64."""
    return {
        "LR": torch.from_numpy(unit((count, channels, edge, edge), seed)),
        "HR": torch.from_numpy(unit((count, channels, 2 * edge, 2 * edge), seed + 1)),
    }


def fill_generator(network: nn.Module, gain: float = 0.7) -> None:
    """Known weights, by the names of SPSR's files."""
    names = file_names(network)
    network.load_state_dict({own: filled(names[own], t.shape, gain) for own, t in network.state_dict().items()})


def fill_discriminator(network: nn.Module, prefix: str = "", gain: float = 1.0) -> None:
    """Known weights for a U-Net, and the leading singular vectors for its spectral norm."""
    state = network.state_dict()
    for name, tensor in state.items():
        if not name.endswith(("weight_u", "weight_v")):
            state[name] = filled(prefix + name, tensor.shape, gain)
    for name in [name for name in state if name.endswith("weight_orig")]:
        u, v = leading_vectors(state[name])
        layer = name.removesuffix("weight_orig")
        state[f"{layer}weight_u"], state[f"{layer}weight_v"] = u, v
    network.load_state_dict(state)


def leading_vectors(weight: Tensor) -> tuple[Tensor, Tensor]:
    u, _, v = np.linalg.svd(weight.double().reshape(len(weight), -1).numpy(), full_matrices=False)
    u, v = u[:, 0], v[0]
    sign = 1 if u.sum() >= 0 else -1
    return tuple(torch.from_numpy((sign * vector).astype(np.float32)) for vector in (u, v))
