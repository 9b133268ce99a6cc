"""ESRGAN's generators (RRDB networks): recognised, and used as a starting point for training only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ..core.errors import ModelError
from .checkpoint import read_checkpoint
from .spsr import file_names


@dataclass(frozen=True)
class TrunkReport:
    """Names of the file's tensors that were taken over, and of those that were not, with the reason."""

    used: list[str]
    unused: dict[str, str]

    def __str__(self) -> str:
        total = len(self.used) + len(self.unused)
        lines = [
            f"{len(self.used)} of {total} tensors used",
            *(f"  {name}: {why}" for name, why in self.unused.items()),
        ]
        return "\n".join(lines)


def recognise(tensors: Mapping[str, Tensor]) -> str:
    """A name for the ESRGAN layout that tensors have; "" for any other."""
    if "model.1.sub.0.RDB1.conv1.0.weight" in tensors:
        return "ESRGAN generator (RRDB network, old layout)"
    if any(name in tensors for name in ("body.0.rdb1.conv1.weight", "RRDB_trunk.0.RDB1.conv1.weight")):
        return "ESRGAN generator (RRDB network, new layout)"
    return ""


def import_rrdb_trunk(path: str | Path, network: nn.Module) -> TrunkReport:
    """Start a UNetSPSR network from an ESRGAN generator of the old layout, such as RRDB_PSNR_x4.pth.

    Trunk, enlargement and the convolution after it are taken over wherever the shapes fit; the gradient branch and the
    fusion keep their weights. The network is changed in place.

    Raises
    ------
    ModelError
        If the file is of another kind, or nothing in it fits.
    """
    tensors = read_checkpoint(path, [recognise]).tensors
    if "model.1.sub.0.RDB1.conv1.0.weight" not in tensors:
        raise ModelError(
            f"{path} is not an ESRGAN generator of the old layout.", "Choose for instance RRDB_PSNR_x4.pth."
        )
    state = network.state_dict()
    own_names = {name: own for own, name in file_names(network).items()}
    used, unused = [], {}
    for name, tensor in tensors.items():
        own = own_names.get(_name_in_network(name, tensors, len(network.up)))
        if own is None:
            unused[name] = "no counterpart"
        elif state[own].shape != tensor.shape:
            unused[name] = f"shape {tuple(tensor.shape)}, the network has {tuple(state[own].shape)}"
        else:
            state[own].copy_(tensor)
            used.append(name)
    if not used:
        raise ModelError(f"Nothing in {path} fits the network:\n{TrunkReport(used, unused)}")
    return TrunkReport(used, unused)


def _name_in_network(name: str, tensors: Mapping[str, Tensor], steps: int) -> str | None:
    """Name of an ESRGAN tensor in an SPSR file for `steps` enlargements: the convolutions after them are renumbered."""
    match = re.fullmatch(r"model\.(\d+)\.(weight|bias)", name)
    if not match or match[1] == "0":
        return name
    number, kind = int(match[1]), match[2]
    last = max(int(found[1]) for found in map(re.compile(r"model\.(\d+)\.weight").fullmatch, tensors) if found)
    if number == last:
        return None
    if number == last - 2:
        return f"model.{2 + 3 * steps}.{kind}"
    return name if number < 3 + 3 * steps and number % 3 == 0 else None
