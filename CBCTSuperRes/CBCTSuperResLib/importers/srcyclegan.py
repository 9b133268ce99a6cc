"""The layout of SR-CycleGAN's generators (*_net_G_A.pth, a plain state dict): how wide, how deep, which factor.

The names of the tensors are those of our own network (networks/srcyclegan.py) with pixel rearrangement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.atomic import replacing
from ..core.errors import ModelError
from ..models.model import Model
from ..models.weights import misfit
from ..networks import build_network

FIRST, SIGN, BLOCK = "model.1.weight", "model.3.weight", r"model\.(\d+)\.conv_block\.1\.weight"
FINE_WINDOW = (0.0, 15000.0)  # to which the publication clipped its micro-CT
NOTE = (
    "grey values of the fine scanner are taken from 0 to 15000, as in the publication; the file does not tell, and "
    "nor does it tell those of the coarse scanner: name the window if you know it"
)


def detect(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors come from a generator of SR-CycleGAN, in either direction: one slope, or none, and blocks."""
    return FIRST in tensors and any(re.fullmatch(BLOCK, name) for name in tensors)


def build(tensors: Mapping[str, Tensor]) -> tuple[nn.Module, list[str]]:
    """The enlarging generator with the weights of a file, and notes for the user.

    Raises
    ------
    ModelError
        If it is the generator back, or the tensors are not exactly those of an enlarging one.
    """
    if SIGN not in tensors or tuple(tensors[SIGN].shape) != (1,):
        raise ModelError(
            "The file holds the generator from fine to coarse slices (G_B), or that of a plain CycleGAN.",
            "Import the enlarging one, *_net_G_A.pth.",
        )
    blocks = sum(bool(re.fullmatch(BLOCK, name)) for name in tensors)
    slopes = sum(tuple(tensor.shape) == (1,) and name.endswith(".weight") for name, tensor in tensors.items())
    doublings = slopes - 2
    if not 1 <= doublings <= 3:
        raise ModelError(f"The generator doubles {doublings} times; this program has such of one to three doublings.")
    options = {"nf": int(tensors[FIRST].shape[0]), "nb": blocks, "scale": 2**doublings, "upsampling": "PS"}
    try:
        with torch.device("meta"):
            network = build_network("srcyclegan", **options)
    except ValueError as error:
        raise ModelError(f"The file does not fit the network: {error}") from None
    problems = misfit(network.state_dict(), tensors)
    if problems:
        facts = ", ".join(f"{name} {value}" for name, value in options.items())
        raise ModelError(f"The tensors in the file are not those of an SR-CycleGAN with {facts}:\n{problems}")
    network.load_state_dict(dict(tensors), assign=True)
    return network, [NOTE]


def export_checkpoint(model: Model, path: str | Path) -> Path:
    """Write a model as the state dict that the original reads.

    Raises
    ------
    ModelError
        If its features double otherwise than the original's.
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    if model.spec.options["upsampling"] != "PS":
        raise ModelError(
            f"The features of {model.card.name} double by {model.spec.options['upsampling']}, the original's by PS.",
            "Train with network_G.upsampling PS.",
        )
    with replacing(path) as scratch:
        torch.save({name: tensor.contiguous() for name, tensor in model.network.state_dict().items()}, scratch)
    return path
