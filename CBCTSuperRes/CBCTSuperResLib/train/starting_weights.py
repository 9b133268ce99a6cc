"""Weights to begin a training with: a model of this program, or a checkpoint of SPSR, UNetSPSR or ESRGAN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ..core.errors import ModelError
from ..importers import rrdb, spsr
from ..importers.checkpoint import read_checkpoint
from ..importers.rrdb import import_rrdb_trunk
from ..models.card import CARD_KEY
from ..models.folder import SUFFIX
from ..models.header import read_header
from ..models.model import (
    Model,
    misfit,
    refuse_non_finite,
)
from .validation import undisturbed


@dataclass(frozen=True)
class StartReport:
    """What a network was given to begin with.

    Attributes
    ----------
    source : str
        The file and what it is.
    used, total : int
        Tensors of the file that were taken over, of how many.
    notes : tuple of str
        What was noticed, and what was left out and why.
    """

    source: str
    used: int
    total: int
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.source}: {self.used} of {self.total} tensors used", *self.notes])


def starting_weights(network: nn.Module, path: str | Path) -> StartReport:
    """Give a network the weights of a file, in place, on any device.

    Parameters
    ----------
    network : torch.nn.Module
        As `networks.build_network` returns it.
    path : str or Path
        A model (.safetensors); the weights of an SPSR or UNetSPSR generator (.pth); or an ESRGAN generator of the old
        layout such as RRDB_PSNR_x4.pth, of which trunk and enlargement are taken.

    Raises
    ------
    ModelError
        If the file is missing, damaged or of another kind, or its tensors do not fit; all that do not are listed.
    """
    with undisturbed():
        return _given(network, Path(path).expanduser())


def _given(network: nn.Module, path: Path) -> StartReport:
    if _is_model(path):
        return _from_model(network, path)
    checkpoint = read_checkpoint(path)
    refuse_non_finite(checkpoint.tensors, path)
    if network.describe().network != "unetspsr":
        raise ModelError(
            f"{path} is no model file, and no other program's weights fit the network {network.describe().network}.",
            "Choose a .safetensors model of that network.",
        )
    if spsr.detect(checkpoint.tensors):
        return _from_spsr(network, path, checkpoint.tensors, checkpoint.notes)
    if rrdb.recognise(checkpoint.tensors):
        return _from_rrdb(network, path)
    return _from_own_names(network, path, checkpoint.tensors, checkpoint.notes)


def _is_model(path: Path) -> bool:
    return path.suffix.lower() == SUFFIX and CARD_KEY in read_header(path).metadata


def _from_model(network: nn.Module, path: Path) -> StartReport:
    model = Model.load(path)
    wanted, found = network.describe().network, model.spec.network
    if wanted != found:
        raise ModelError(f"The model {path} is of the network {found}, not {wanted}.", "Choose another model.")
    weights = model.network.state_dict()
    _load(network, weights, path)
    return StartReport(f"{path} (model {model.name})", len(weights), len(weights))


def _from_spsr(network: nn.Module, path: Path, tensors: dict[str, Tensor], notes: Sequence[str]) -> StartReport:
    options = network.options
    given, seen = spsr.build(tensors, options["scale"], options["taps"] if _deep_enough(tensors, options) else None)
    _load(network, given.state_dict(), path)
    return StartReport(f"{path} (SPSR generator)", len(tensors), len(tensors), [*notes, *seen])


def _deep_enough(tensors: dict[str, Tensor], options: dict) -> bool:
    """Whether the trunk in the file reaches the network's last tap; otherwise the shapes are left to speak."""
    return options["taps"][-1] <= spsr.read_options(tensors, options["scale"])["nb"]


def _from_rrdb(network: nn.Module, path: Path) -> StartReport:
    report = import_rrdb_trunk(path, network)
    left_out = [f"{name}: {why}" for name, why in report.unused.items()]
    return StartReport(
        f"{path} (ESRGAN generator: trunk and enlargement)",
        len(report.used),
        len(report.used) + len(report.unused),
        left_out,
    )


def _from_own_names(network: nn.Module, path: Path, tensors: dict[str, Tensor], notes: Sequence[str]) -> StartReport:
    """Weights without a card, under the names of our own networks."""
    _load(network, tensors, path)
    return StartReport(f"{path} (weights without a card)", len(tensors), len(tensors), notes)


def _load(network: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    problems = misfit(network.state_dict(), weights)
    if problems:
        raise ModelError(
            f"The weights in {path} do not fit the network of the options:\n{problems}",
            "Make network_G and scale those of the file, or choose another file.",
        )
    network.load_state_dict(weights)
