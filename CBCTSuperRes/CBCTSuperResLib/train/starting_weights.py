"""Weights to begin a training with: a model of this program, or a checkpoint of SPSR, UNetSPSR or ESRGAN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.errors import ModelError
from ..importers import arssr, rrdb, spsr
from ..importers.checkpoint import read_checkpoint
from ..models.card import CARD_KEY
from ..models.folder import SUFFIX
from ..models.header import read_header
from ..models.model import Model
from ..models.weights import misfit, refuse_non_finite
from ..networks.blocks import maps_of
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
    path = Path(path).expanduser()
    with undisturbed():
        if path.suffix.lower() == SUFFIX and CARD_KEY in read_header(path).metadata:
            model = Model.load(path)
            wanted, found = network.describe().network, model.spec.network
            if wanted != found:
                raise ModelError(f"The model {path} is of the network {found}, not {wanted}.", "Choose another model.")
            _check_skip(network, model.network.describe().options.get("skip", False), path)
            weights = model.network.state_dict()
            bars = {n: t for n, t in network.state_dict().items() if n.startswith("variance.") and n not in weights}
            weights, notes = _told(network, model, weights)
            if found == "residual":
                weights, more = _widened(network, weights)
                notes += more
            _load(network, {**weights, **bars}, path)
            notes += [f"It tells no log-variance: {', '.join(bars)} begin as they are."] if bars else []
            return StartReport(f"{path} (model {model.name})", len(weights), len(weights), notes)

        checkpoint = read_checkpoint(path, [spsr.detect, arssr.detect, rrdb.recognise])
        tensors, notes = checkpoint.tensors, checkpoint.notes
        refuse_non_finite(tensors, path)
        kind = network.describe().network
        if kind == "arssr" and arssr.detect(tensors):
            _refuse_another_arssr(network, arssr.read_options(tensors), path)
            _load(network, tensors, path)
            return StartReport(f"{path} (ArSSR)", len(tensors), len(tensors), notes)
        if kind != "unetspsr":
            raise ModelError(
                f"{path} is no model file, and no other program's weights fit the network {kind}.",
                "Choose a .safetensors model of that network.",
            )
        if spsr.detect(tensors):
            options = network.options
            # Where the trunk in the file does not reach the network's last tap, the shapes are left to speak.
            reaches = options["taps"][-1] <= spsr.read_options(tensors, options["scale"])["nb"]
            given, seen = spsr.build(tensors, options["scale"], options["taps"] if reaches else None)
            _check_skip(network, False, path)
            _load(network, given.state_dict(), path)
            return StartReport(f"{path} (SPSR generator)", len(tensors), len(tensors), [*notes, *seen])
        if rrdb.recognise(tensors):
            report = rrdb.import_rrdb_trunk(path, network)
            used, left_out = len(report.used), [f"{name}: {why}" for name, why in report.unused.items()]
            source = f"{path} (ESRGAN generator: trunk and enlargement)"
            return StartReport(source, used, used + len(report.unused), left_out)
        _load(network, tensors, path)  # under the names of our own networks
        return StartReport(f"{path} (weights without a card)", len(tensors), len(tensors), notes)


def _told(network: nn.Module, model: Model, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Weights of a model that was told nothing of the acquisition, for a network that is: what it hears changes nothing
    yet. Maps of conditions are the last channels of what a layer takes."""
    spec = network.describe()
    if not spec.conditions or model.spec.conditions:
        return weights, []
    maps, extended = maps_of(spec.conditions, spec.dimensions), []
    for name, wanted in network.state_dict().items():
        given = weights.get(name)
        if given is None or given.ndim < 3 or given.shape == wanted.shape:
            continue
        if wanted.shape == (given.shape[0], given.shape[1] + maps, *given.shape[2:]):
            silence = given.new_zeros(given.shape[0], maps, *given.shape[2:])
            weights, extended = {**weights, name: torch.cat((given, silence), 1)}, [*extended, name]
    told = " and ".join(spec.conditions)
    return weights, [f"It is told no {told}: {', '.join(extended)} begins deaf to it."] if extended else []


def _widened(network: nn.Module, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Weights of a residual network of fewer features, for one of more that gives the same at first.

    The new features are computed with the network's own first weights, and nothing takes them in yet (after Net2Net:
    Chen, Goodfellow and Shlens, ICLR 2016; they copy features instead).
    """
    wide = network.state_dict()
    few, many = len(weights["head.bias"]), len(wide["head.bias"])
    if few >= many or weights.keys() != wide.keys():
        return weights, []
    widened = {}
    for name, given in weights.items():
        wanted = wide[name].clone()
        takes_image, makes_image = name == "head.weight", name.startswith(("tail.", "variance.last."))
        more = (0 if makes_image else many - few, 0 if takes_image else many - few, 0, 0)
        if tuple(wanted.shape) != tuple(map(add, given.shape, more)):
            return weights, []  # they differ in something else, too, of which `_load` tells
        wanted[: len(given)] = given if given.ndim == 1 or takes_image else 0
        if given.ndim > 1 and not takes_image:  # what takes features: behind them the tail also takes the image
            wanted[: len(given), :few] = given[:, :few]
            wanted[: len(given), many:] = given[:, few:]
        widened[name] = wanted
    return widened, [f"It has {few} features: {many - few} more begin unused."]


def _check_skip(network: nn.Module, has_skip: bool, path: Path) -> None:
    """With the same shapes one network gives all of the image, and the other what an interpolation lacks."""
    if network.describe().options.get("skip", False) != has_skip:
        raise ModelError(
            f"The weights in {path} are of a network {'with' if has_skip else 'without'} a skip from input to output, "
            f"and the network of the options is one {'without' if has_skip else 'with'}.",
            f"Set network_G.skip to {str(has_skip).lower()}, or choose another file.",
        )


def _refuse_another_arssr(network: nn.Module, found: dict[str, str | int], path: Path) -> None:
    """A sentence where the tensors' names and shapes would be pages."""
    differ = [name for name, value in found.items() if network.options[name] not in (None, value)]
    if differ:
        theirs, ours = ([f"{name} {options[name]}" for name in differ] for options in (found, network.options))
        raise ModelError(
            f"The weights in {path} do not fit the network of the options: the file is of {', '.join(theirs)}, "
            f"network_G is {', '.join(ours)}.",
            "Make network_G that of the file, or choose another file.",
        )


def _load(network: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    problems = misfit(network.state_dict(), weights)
    if problems:
        raise ModelError(
            f"The weights in {path} do not fit the network of the options:\n{problems}",
            "Make network_G and scale those of the file, or choose another file.",
        )
    network.load_state_dict(weights)
