"""A model: a network with trained weights, and the card that describes it.

Loading checks hashes and executes nothing. A model's self check is its network's fingerprint: statistics of its outputs
for an input that is the same everywhere. Without PyTorch a model has no network, but its graph may be computed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import ModelError
from ..networks.spec import NetworkSpec
from .card import ModelCard, verify_weights
from .folder import find_model
from .header import SIZES, TensorEntry, encode_header, table_digest, write_file
from .self_check import compare_outputs

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

HALF_TOLERANCE = 2e-3


class Model:
    """A network and its card, in one file.

    >>> model = Model.load("light")
    >>> model.network(torch.rand(1, 1, 64, 64))["sr"].shape
    torch.Size([1, 1, 128, 128])

    Parameters
    ----------
    network : torch.nn.Module or None
        As `networks.build_network` returns it; None where PyTorch is not installed, see `engines`.
    card : ModelCard
        Its description; `card.spec` must be that of the network.
    """

    def __init__(self, network: nn.Module | None, card: ModelCard) -> None:
        self.network = None if network is None else network.eval().requires_grad_(False)
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
            A model file, or the name of a model in one of the model folders (see `folder.find_model`).
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
        if not has_torch():
            return Model(None, card)
        from ..core.devices import choose_device
        from .weights import described, load_network

        network = load_network(path, card)
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
        import torch

        from .. import __version__
        from .weights import LARGEST_HALF, STORED, describe_outputs, described, refuse_non_finite

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
        import torch

        from .weights import describe_outputs

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
        return {name: tensor.detach().to("cpu").float() for name, tensor in self.network.state_dict().items()}

    def _copy(self, weights: Mapping[str, Tensor]) -> nn.Module:
        from .weights import network_of

        network = network_of(self.card)
        network.load_state_dict(weights)
        return network.eval().requires_grad_(False)


def has_torch() -> bool:
    """Whether PyTorch can be imported."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True
