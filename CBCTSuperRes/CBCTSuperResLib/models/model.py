"""A model: a network with trained weights, and the card that describes it.

Loading checks hashes and executes nothing. A model's self check is its network's fingerprint: statistics of its outputs
for an input that is the same everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..core.devices import choose_device
from ..core.errors import ModelError
from ..networks import NETWORKS, build_network
from ..networks.spec import NetworkSpec
from .card import ModelCard, verify_weights
from .folder import find_model
from .header import SIZES, TensorEntry, encode_header, table_digest, write_file

STORED = {torch.float32: "F32", torch.float16: "F16"}
LARGEST_HALF = 65504.0
HALF_TOLERANCE = 2e-3
MOST_LINES = 20
EXTENT = 16
TOLERANCE = 1e-3
MEASURES = ("mean", "std", "first", "middle", "last")


class Model:
    """A network and its card, in one file.

    >>> model = Model.load("light")
    >>> model.network(torch.rand(1, 1, 64, 64))["sr"].shape
    torch.Size([1, 1, 128, 128])

    Parameters
    ----------
    network : torch.nn.Module
        As `networks.build_network` returns it.
    card : ModelCard
        Its description; `card.spec` must be that of the network.
    """

    def __init__(self, network: nn.Module, card: ModelCard) -> None:
        self.network = network.eval().requires_grad_(False)
        self.card = card

    @property
    def spec(self) -> NetworkSpec:
        return self.card.spec

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def __repr__(self) -> str:
        return f"Model({self.card.line})"

    @staticmethod
    def load(path_or_name: str | Path, device: str | torch.device = "cpu") -> Model:
        """Read a model; its hashes are checked, and nothing in the file is executed.

        Parameters
        ----------
        path_or_name : str or Path
            A model file, or the name of a model in one of the model folders (see `models.find_model`).
        device : str or torch.device
            Where the weights go: "auto", "cpu", "cuda" or "cuda:N".

        Raises
        ------
        ModelError
            If there is no such model, or the file is damaged or does not hold what its card says.
        DeviceError
            If the device is absent.
        """
        path = find_model(path_or_name)
        card = verify_weights(path)
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
        return Model(network.to(choose_device(str(device))), described(network, card))

    def save(self, path: str | Path, half: bool = False) -> Path:
        """Write the model; the file appears whole or not at all.

        The card in the file also gets the hash of the weights, this program's version, and the statistics of the
        network's outputs for a fixed input, which `verify` compares.

        Parameters
        ----------
        path : str or Path
            Should end with .safetensors.
        half : bool
            Store the weights as float16: half the size. Refused if that would change the outputs.

        Raises
        ------
        ModelError
            If a weight is not finite, or float16 does not suffice.
        OutputError
            If the file cannot be written.
        """
        from .. import __version__

        path = Path(path)
        weights = self._weights()
        refuse_non_finite(weights, path)
        check = describe_outputs(self._copy(weights), self.spec)
        if half:
            full = check
            weights = {name: tensor.to(torch.float16) for name, tensor in weights.items()}
            large = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
            if large:
                raise ModelError(
                    f"Weights above {LARGEST_HALF:g} do not fit float16: {', '.join(large)}.", "Save as float32."
                )
            check = describe_outputs(self._copy(weights), self.spec)
            problems = compare_outputs(check, full, HALF_TOLERANCE)
            if problems:
                raise ModelError(
                    f"float16 weights would change the outputs: {'; '.join(problems)}.", "Save as float32."
                )
        entries, buffers, position = {}, [], 0
        for name, tensor in sorted(weights.items()):
            dtype, array = STORED[tensor.dtype], tensor.contiguous().numpy()
            array = array.byteswap() if sys.byteorder == "big" else array
            entries[name] = TensorEntry(dtype, tuple(tensor.shape), position, position + array.size * SIZES[dtype])
            buffers.append(memoryview(array.reshape(-1).view("u1")))
            position = entries[name].stop
        digest = table_digest(entries)
        for buffer in buffers:
            digest.update(buffer)
        card = replace(
            described(self.network, self.card),
            weights_sha256=digest.hexdigest(),
            self_check=check,
            created_with=f"CBCT Super-Resolution {__version__}, torch {torch.__version__}",
        )
        return write_file(path, encode_header(entries, card.to_metadata()), buffers)

    def verify(self) -> list[tuple[str, bool, str]]:
        """Check the model's file and the network in memory: (what was checked, whether it is right, details)."""
        report = []
        if self.card.path:
            try:
                verify_weights(self.card.path)
                found = (True, str(self.card.path))
            except ModelError as error:
                found = (False, str(error))
            report.append(("the file is as it was saved", *found))
        bad = [name for name, tensor in self.network.state_dict().items() if not torch.isfinite(tensor).all()]
        report.append(("all weights are finite", not bad, ", ".join(bad) or f"{self.parameters:,} weights"))
        if not self.card.self_check:
            found = (True, "nothing is recorded: the model was not saved yet")
        else:
            try:
                outputs = describe_outputs(self._copy(self._weights()), self.spec)
                problems = compare_outputs(outputs, self.card.self_check)
                found = (not problems, "; ".join(problems) or ", ".join(outputs))
            except ModelError as error:
                found = (False, str(error))
        return [*report, ("the outputs for the test input are as recorded", *found)]

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().to("cpu", torch.float32) for name, tensor in self.network.state_dict().items()}

    def _copy(self, weights: Mapping[str, Tensor]) -> nn.Module:
        network = network_of(self.card)
        network.load_state_dict(weights)
        return network.eval().requires_grad_(False)


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


def probe(spec: NetworkSpec) -> Tensor:
    """Fixed input in [0, 1], shape (1, input channels, 16, 16[, 16]) or the next size that the network accepts.

    Waves of two lengths and a sharp corner, without random numbers.
    """
    extent = max(EXTENT, spec.minimum_size)
    extent += -extent % spec.multiple
    shape = (spec.input_channels, *[extent] * spec.dimensions)
    index = np.arange(prod(shape), dtype=np.float64)
    values = 0.5 + 0.3 * np.sin(index / 1.7) + 0.2 * np.sin(index / 29.0)
    values = values.reshape(shape)
    values[(slice(None), *[slice(extent // 2, None)] * spec.dimensions)] *= 0.5
    return torch.from_numpy(values[None]).to(torch.float32)


@torch.no_grad()
def describe_outputs(network: nn.Module, spec: NetworkSpec) -> dict:
    """Statistics of all outputs for `probe`, in float32 on the CPU; JSON.

    Raises
    ------
    ModelError
        If an output is not finite: the weights are useless.
    """
    x = probe(spec)
    told = {}
    if spec.conditions:
        values = {"blur": [0.5] * spec.dimensions, "noise": [0.02]}
        told["conditions"] = {name: torch.tensor([values[name]]) for name in spec.conditions}
    if spec.scale is None:
        factors = [min(max(2.0, smallest), largest) for smallest, largest in spec.scale_range]
        sizes = zip(x.shape[2:], factors, strict=True)
        told["positions"] = [(torch.arange(round(n * factor)) + 0.5) / factor - 0.5 for n, factor in sizes]
    outputs = network(x, **told)
    wrong = [name for name, tensor in outputs.items() if not torch.isfinite(tensor).all()]
    if wrong:
        raise ModelError(f"The network's outputs {', '.join(wrong)} are not finite, although its weights are.")
    found = {}
    for name, tensor in outputs.items():
        flat = tensor.double().flatten()
        numbers = (flat.mean(), flat.std(correction=0), flat[0], flat[flat.numel() // 2], flat[-1])
        values = zip(MEASURES, numbers, strict=True)
        found[name] = {"shape": [*tensor.shape], **{measure: value.item() for measure, value in values}}
    return found


def compare_outputs(found: dict, recorded: dict, tolerance: float = TOLERANCE) -> list[str]:
    """Differences beyond `tolerance` times the output's spread, one sentence each.

    Other machines, threads and versions of torch add in another order; that changes float32 results by about 1e-6.
    """
    problems = [f"no output {name}" for name in recorded if name not in found]
    for name, values in found.items():
        reference = recorded.get(name, {})
        if reference.get("shape") != values["shape"]:
            problems.append(f"{name} has the shape {values['shape']}, not {reference.get('shape')}")
            continue
        bound = tolerance * (abs(reference["mean"]) + reference["std"]) + 1e-6
        problems += [
            f"{name}: {measure} is {values[measure]:.6g}, not {reference[measure]:.6g}"
            for measure in MEASURES
            if not abs(values[measure] - reference[measure]) <= bound
        ]
    return problems
