"""Options, networks and images of known values for tests of UNetSPSR's training."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from CBCTSuperResLib.importers.spsr import file_names
from fixtures_spsr import filled, unit
from torch import Tensor, nn

TRAIN = dict(
    pixel_criterion="l1",
    pixel_weight=0.3,
    feature_criterion="l1",
    feature_weight=0.0,
    gan_type="lsgan",
    gan_weight=5e-3,
    gan_relativistic=True,
    gradient_pixel_weight=1e-2,
    gradient_gan_weight=5e-3,
    gradient_padding=None,
    pixel_branch_criterion="l1",
    pixel_branch_weight=0.5,
    Branch_pretrain=False,
    Branch_init_iters=5000,
    warmup_iters=0,
    D_update_ratio=1,
    D_init_iters=0,
    lr_G=1e-4,
    lr_G_grad=1e-4,
    weight_decay_G=0.0,
    weight_decay_G_grad=0.0,
    beta1_G=0.9,
    beta1_G_grad=0.9,
    lr_D=1e-4,
    weight_decay_D=0.0,
    beta1_D=0.9,
)
GENERATOR = dict(nf=4, nb=4, gc=4, in_nc=1, out_nc=1, branch_taps=None, initial="kaiming")
DISCRIMINATOR = dict(which_model_D="discriminator_unet_128", nf=4, in_nc=1, skip_connection=True)


def training_options(
    network_G: dict | None = None, network_D: dict | None = None, network_D_grad: dict | None = None, **changes
) -> SimpleNamespace:
    """The seed's options with small networks; `hr_size`, `scale` and keys of "train" may be changed."""
    judge = {**DISCRIMINATOR, **(network_D or {})}
    return SimpleNamespace(
        model="unetspsr",
        scale=changes.pop("scale", 2),
        datasets={"train": SimpleNamespace(HR_size=changes.pop("hr_size", 16))},
        path=SimpleNamespace(feature_weights=changes.pop("feature_weights", None)),
        network_G=SimpleNamespace(**{**GENERATOR, **(network_G or {})}),
        network_D=SimpleNamespace(**judge),
        network_D_grad=None if network_D_grad is None else SimpleNamespace(**{**judge, **network_D_grad}),
        train=SimpleNamespace(**{**TRAIN, **changes}),
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
