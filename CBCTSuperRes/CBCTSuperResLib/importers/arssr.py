"""The layout of ArSSR's files (.pkl, the state dict of the whole network): which encoder, and how large everything is.

The names of the tensors are those of our own network (networks/arssr.py), which is built the way the original computes:
coordinates within the whole volume, zeros beyond it, an output that is cut at 0.
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

SIGN = "decoder.stage_one.0.weight"
COORDINATES = 3
HEADS = {  # of each encoder: its first convolution, its last, what its blocks are called
    "RDN": ("encoder.sfe1", "encoder.output", r"encoder\.rdbs\.(\d+)\."),
    "ResCNN": ("encoder.conv_start.0", "encoder.conv_end.0", r"encoder\.block(\d+)\."),
    "SRResNet": ("encoder.features.0.0", None, r"encoder\.features\.(\d+)\.m\."),
}
ORIGINAL = {
    "coordinates": "absolute",
    "padding": "zeros",
    "output": "relu",
    "residual": False,
    "factors": (2.0, 4.0),  # that the published weights were trained with
}
NOTE = (
    "the training's grey values went from 0 to 1, probably from the smallest to the largest of each volume; the file "
    "does not tell: only a window that is named is sure"
)


def detect(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors come from an ArSSR, or a part of one, whatever its encoder."""
    if any(name.startswith("decoder.stage_one.") for name in tensors):
        return True
    heads = [tensors[f"{head}.weight"] for head, _, _ in HEADS.values() if f"{head}.weight" in tensors]
    return any(head.ndim == 5 for head in heads)


def build(tensors: Mapping[str, Tensor]) -> tuple[nn.Module, list[str]]:
    """The network with the weights of a file, and notes for the user.

    Raises
    ------
    ModelError
        If the encoder is none of the three, or the tensors are not exactly those of an ArSSR.
    """
    options = read_options(tensors)
    try:
        with torch.device("meta"):
            network = build_network("arssr", **options, **ORIGINAL)
    except ValueError as error:
        raise ModelError(f"The file does not fit the network: {error}") from None
    problems = misfit(network.state_dict(), tensors)
    if problems:
        facts = ", ".join(f"{name} {value}" for name, value in options.items())
        raise ModelError(f"The tensors in the file are not those of an ArSSR with {facts}:\n{problems}")
    network.load_state_dict(dict(tensors), assign=True)
    return network, [NOTE]


def read_options(tensors: Mapping[str, Tensor]) -> dict[str, str | int]:
    """Options of the network as the names and shapes of its tensors tell them."""

    def size(name: str, axis: int, axes: int) -> int:
        if name not in tensors:
            raise ModelError(f"The file is incomplete: {name} is missing, from which the network's size is read.")
        shape = tuple(tensors[name].shape)
        if len(shape) != axes:
            raise ModelError(f"{name} in the file has the shape {shape}; it should have {axes} axes.")
        return shape[axis]

    signs = {one: re.compile(rf"{re.escape(head)}\.|{pattern}") for one, (head, _, pattern) in HEADS.items()}
    encoder = next((one for one, sign in signs.items() if any(map(sign.match, tensors))), None)
    if encoder is None:
        if not any(name.startswith("encoder.") for name in tensors):
            raise ModelError(
                "The file is incomplete: it holds the decoder of an ArSSR without its encoder.",
                "Save the state dict of the whole network.",
            )
        parts = list(dict.fromkeys(name.split(".")[1] for name in tensors if name.startswith("encoder.")))
        raise ModelError(
            f"The file is an ArSSR with an encoder of another kind ({', '.join(parts[:6])}).",
            f"Those that can be imported are {', '.join(HEADS)}.",
        )
    head, end, pattern = HEADS[encoder]
    numbers = {int(match[1]) for match in map(re.compile(pattern).match, tensors) if match}
    blocks = len(numbers)
    end = end or f"encoder.features.{blocks + 2}.0"
    features, told = size(f"{end}.weight", 0, 5), size(SIGN, 1, 2)
    if told != features + COORDINATES:
        raise ModelError(
            f"The decoder takes {told} numbers, and the encoder gives {features} features: with the three coordinates "
            f"they should be {features + COORDINATES}.",
            "The file is not of the published ArSSR.",
        )
    layers = sum(bool(re.fullmatch(r"decoder\.stage_one\.\d+\.weight", name)) for name in tensors)
    return {
        "encoder_name": encoder,
        "encoder_width": size(f"{head}.weight", 0, 5),
        "encoder_blocks": blocks,
        "feature_dim": features,
        "decoder_depth": 2 * layers,
        "decoder_width": size(SIGN, 0, 2),
    }


def export_checkpoint(model: Model, path: str | Path) -> Path:
    """Write a model that computes as the original does as the state dict that the original reads, bit by bit.

    Raises
    ------
    ModelError
        If the model computes otherwise.
    OutputError
        If the file cannot be written.
    """
    path, options = Path(path), model.spec.options
    other = [name for name, value in ORIGINAL.items() if name != "factors" and options.get(name) != value]
    if options.get("conditions"):
        other.append("conditions")
    if model.spec.network != "arssr" or other:
        raise ModelError(
            f"The model {model.name} has no ArSSR layout: "
            + (f"its {', '.join(other)} are ours." if other else f"it is of the network {model.spec.network}."),
            "Only models that compute as the original does can be written for it.",
        )
    with replacing(path) as scratch:
        torch.save(
            {name: tensor.detach().cpu().clone() for name, tensor in model.network.state_dict().items()}, scratch
        )
    return path
