"""Tensors out of files of unknown origin, without executing anything in them."""

from __future__ import annotations

import pickle
import re
import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import ModelError
from ..models.card import CARD_KEY
from ..models.header import read_header

WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "net", "net_g", "netG", "generator")
GENERATORS = ("net_g.", "netG.", "generator.")
PREFIXES = ("module.", "_orig_mod.", *GENERATORS)  # of parallel and compiled networks, and of one among several
TRAINING_STATE = {"optimizers", "schedulers"}


@dataclass
class Checkpoint:
    """Tensors by the names that the network gave them, and what was noticed while reading."""

    tensors: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read all tensors of a PyTorch or safetensors file as float32 on the CPU.

    Wrappers ("params_ema", "state_dict", "net_g", ...) and prefixes ("module.", "_orig_mod.", "net_g.", ...) are taken
    off; of several networks in one file the generator is taken.

    Raises
    ------
    ModelError
        If the file is missing, unreadable, or holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(
            f"{path} is a folder." if path.is_dir() else f"The file {path} does not exist.",
            "Give the path of a .pth, .pt, .ckpt, .pkl or .safetensors file.",
        )
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise ModelError(f"The file {path} is empty.", "Copy or download it again.")
    if start[8:] == b"{":
        from safetensors.torch import load_file

        if CARD_KEY in read_header(path).metadata:
            raise ModelError(f"{path} is a model file already.", "Use it as it is: it needs no import.")
        content: object = load_file(path, device="cpu")
    else:
        content = _read_pytorch(path, start)
    notes: list[str] = []
    tensors = _tensors_of(content, path, notes)
    types = {tensor.dtype for tensor in tensors.values()} - {torch.float32}
    if types:
        notes.append(f"stored as {', '.join(sorted(str(t).removeprefix('torch.') for t in types))}, now float32")
    return Checkpoint({name: tensor.detach().to(torch.float32) for name, tensor in tensors.items()}, notes)


def _read_pytorch(path: Path, start: bytes) -> object:
    # Before torch 2.6, weights_only did not protect the tar format of the first PyTorch versions (CVE-2025-32434).
    if tarfile.is_tarfile(path):
        raise ModelError(
            f"{path} has the tar format of PyTorch before 0.2, which is not safe to read.", "Save it anew."
        )
    if not start.startswith((b"PK\x03\x04", b"\x80")) or _is_other_archive(path):
        raise ModelError(f"{path} is neither a PyTorch nor a safetensors file.", "Choose another file.")
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error):
            raise ModelError(
                f"{path} was written by pickle, not by torch.save: reading it could run program code. It was not read.",
                "Load it where it was made, and write its state dict by torch.save.",
            ) from None
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" (it calls {named[1]})" if named else ""
        raise ModelError(
            f"{path} holds more than weights: reading it could run program code{what}. It was not read.",
            "Ask its author for a file with weights only (a state dict).",
        ) from None
    except RuntimeError as error:
        if "TorchScript" not in str(error):
            raise _unreadable(path, error) from None
        raise ModelError(
            f"{path} is a TorchScript program, not weights alone. It was not read.",
            "Ask its author for a file with weights only (a state dict).",
        ) from None
    except Exception as error:  # a damaged file makes the unpickler fail in any way
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ModelError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ModelError(f"{path} cannot be read as a PyTorch file: {reason}", "Is the file complete?")


def _is_other_archive(path: Path) -> bool:
    """Whether a file is a complete zip archive, but none of PyTorch, such as arrays of NumPy."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return not any(name.endswith("/data.pkl") for name in archive.namelist())
    except Exception:  # damaged: PyTorch says how
        return False


def _tensors_of(content: object, path: Path, notes: list[str]) -> dict[str, Tensor]:
    """The table of tensors in what a file holds, without wrappers and prefixes."""
    while isinstance(content, Mapping) and (tables := _tables_in(content)):
        if len(tables) > 1:
            notes.append(f"of the weights {', '.join(tables)} the first was taken")
        content = content[tables[0]]
    if isinstance(content, Mapping) and TRAINING_STATE & set(content):
        raise ModelError(
            f"{path} is a training state (optimisers), not a network.", "Choose the file ending with _G.pth."
        )
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{path} holds no table of named tensors.", "Choose a file with a network's state dict.")
    strangers = [
        str(name) for name, value in content.items() if not isinstance(value, Tensor) or not isinstance(name, str)
    ]
    if strangers:
        raise ModelError(
            f"{path} has entries that are no tensors: {', '.join(strangers[:10])}.", "Save the state dict alone."
        )
    tensors = dict(content)
    while prefix := _prefix_of(tensors):
        chosen = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if len(chosen) < len(tensors):
            notes.append(f"of {len(tensors)} tensors the {len(chosen)} of {prefix[:-1]} were taken")
        tensors = chosen
    return tensors


def _tables_in(content: Mapping) -> list[str]:
    """What a file calls the weights beside which it has a counter, a loss and the like; [] if it is the weights."""

    def has_weights(table: object) -> bool:
        return isinstance(table, Mapping) and any(
            isinstance(name, str) and isinstance(value, Tensor) and value.ndim > 0 for name, value in table.items()
        )

    if has_weights(content):
        return []
    known = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    others = [key for key, value in content.items() if isinstance(key, str) and has_weights(value)]
    return known or (others if len(others) == 1 else [])


def _prefix_of(tensors: Mapping[str, Tensor]) -> str | None:
    """A prefix that all names have, or the generator's, which only some have."""
    shared = next((p for p in PREFIXES if tensors and all(name.startswith(p) for name in tensors)), None)
    return shared or next((p for p in GENERATORS if any(name.startswith(p) for name in tensors)), None)
