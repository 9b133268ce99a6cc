"""Weights and the network that they belong to: what of a model needs PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.errors import ModelError
from ..networks import NETWORKS, build_network
from ..networks.spec import NetworkSpec
from .card import ModelCard
from .self_check import probe, probe_conditions, statistics

STORED = {torch.float32: "F32", torch.float16: "F16"}
LARGEST_HALF = 65504.0
MOST_LINES = 20


def load_network(path: Path, card: ModelCard) -> nn.Module:
    """The network of a model file whose hash was checked, on the CPU, in float32.

    Raises
    ------
    ModelError
        If the file cannot be read, or does not hold what its card says.
    """
    network = network_of(card)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = {name: tensor.to(torch.float32) for name, tensor in load_file(path, device="cpu").items()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"The weights in {path} cannot be read: {error}.") from error
    problems = misfit(network.state_dict(), tensors)
    if problems:
        raise ModelError(f"The weights in {path} do not fit the network {card.spec.network}:\n{problems}")
    refuse_non_finite(tensors, path)
    network.load_state_dict(tensors)
    return network


def network_of(card: ModelCard) -> nn.Module:
    """The network that a card describes, with its initial weights.

    Raises
    ------
    ModelError
        If this version does not know it, its options make no sense, or the card contradicts it.
    """
    spec = card.spec
    if spec.network not in NETWORKS:
        raise ModelError(
            f"The network {spec.network!r} is not known; known are {', '.join(sorted(NETWORKS))}.",
            "Update the program.",
        )
    try:
        network = build_network(spec.network, **spec.options)
    except (TypeError, ValueError) as error:
        raise ModelError(f"The options of the model's network do not fit: {error}") from None
    true = network.describe()
    facts = ("dimensions", "scale", "scale_range", "channels", "slices")
    wrong = [fact for fact in facts if getattr(true, fact) != getattr(spec, fact)]
    if wrong:
        raise ModelError(f"The card of the model {card.name} contradicts its network in: {', '.join(wrong)}.")
    return network


def described(network: nn.Module, card: ModelCard) -> ModelCard:
    """The card with what this version's network says of itself; only the calibrated context is kept from the card."""
    own = network.describe()
    return replace(card, spec=own if own.context == "global" else replace(own, context=card.spec.context))


def misfit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What keeps tensors from being loaded into a network, a line each; "" if they fit."""
    missing = [f"missing: {name} {tuple(expected[name].shape)}" for name in expected if name not in found]
    unknown = [f"unknown: {name} {tuple(found[name].shape)}" for name in found if name not in expected]
    shapes = [
        f"shape: {name} is {tuple(found[name].shape)}, the network has {tuple(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    return _lines([*missing, *unknown, *shapes])


def refuse_non_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise ModelError, naming them, if tensors hold NaN or infinity."""
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise ModelError(f"The weights for {path} hold NaN or infinity:\n{_lines(bad)}")


def _lines(texts: list[str]) -> str:
    more = [f"... and {len(texts) - MOST_LINES} more"] if len(texts) > MOST_LINES else []
    return "\n".join(f"  {text}" for text in [*texts[:MOST_LINES], *more])


@torch.no_grad()
def describe_outputs(network: nn.Module, spec: NetworkSpec) -> dict:
    """Statistics of all outputs for `probe`, in float32 on the CPU; JSON.

    Raises
    ------
    ModelError
        If an output is not finite: the weights are useless.
    """
    x, told = torch.from_numpy(probe(spec)), {}
    if spec.conditions:
        told["conditions"] = {name: torch.from_numpy(values) for name, values in probe_conditions(spec).items()}
    if spec.scale is None:
        factors = [min(max(2.0, smallest), largest) for smallest, largest in spec.scale_range]
        sizes = zip(x.shape[2:], factors, strict=True)
        told["positions"] = [(torch.arange(round(n * factor)) + 0.5) / factor - 0.5 for n, factor in sizes]
    return statistics({name: tensor.float().numpy() for name, tensor in network(x, **told).items()})
