"""Tensors out of files of unknown origin, without executing anything in them."""

from __future__ import annotations

import pickle
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import ModelError
from ..models.card import CARD_KEY
from ..models.header import read_header

WRAPPERS = ("params", "state_dict", "model_state_dict", "model", "net", "net_g", "netG", "generator")
GENERATORS = ("net_g.", "netG.", "generator.")
PREFIXES = ("module.", "_orig_mod.", *GENERATORS)  # of parallel and compiled networks, and of one among several
TRAINING_STATES = ({"optimizers"}, {"schedulers"}, {"state", "param_groups"})
DEEPEST = 5  # tables within tables
MAKE_WEIGHTS = "Where it was made, torch.save(model.state_dict(), FILE) writes the weights alone."


@dataclass
class Checkpoint:
    """Tensors by the names that the network gave them, and what was noticed while reading."""

    tensors: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)


def read_checkpoint(path: str | Path, detectors: Sequence[Callable[[Mapping[str, Tensor]], bool]] = ()) -> Checkpoint:
    """Read all tensors of a PyTorch or safetensors file as float32 on the CPU.

    Wrappers ("params_ema", "state_dict", "net_g", ...) and prefixes ("module.", "_orig_mod.", "net_g.", ...) are taken
    off, and counters left out; of several networks in one file the generator is taken, or its running mean.

    Parameters
    ----------
    path : str or Path
    detectors : sequence of callable
        What knows a network by the names of its tensors; then any other prefix is taken off under which one does.

    Raises
    ------
    ModelError
        If the file is missing, unreadable, or holds anything but tensors and plain values, or weights that are no
        plain floating-point numbers.
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
    notes = _damage(path)
    tensors = _under_a_prefix(_tensors_of(content, path, notes), detectors, notes)
    _refuse_other_numbers(tensors, path)
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
            f"Ask its author for a file with weights only (a state dict). {MAKE_WEIGHTS}",
        ) from None
    except RuntimeError as error:
        if "TorchScript" not in str(error):
            raise _unreadable(path, error) from None
        raise ModelError(
            f"{path} is a TorchScript program, not weights alone. It was not read.",
            f"Ask its author for a file with weights only (a state dict). {MAKE_WEIGHTS}",
        ) from None
    except Exception as error:  # a damaged file makes the unpickler fail in any way
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ModelError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ModelError(f"{path} cannot be read as a PyTorch file: {reason}", "Is the file complete?")


def _damage(path: Path) -> list[str]:
    """A note, if parts of an archive are not what was written into it; PyTorch does not look."""
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        part = archive.testzip()
    return [f"{part} in the file does not fit its checksum: the file may be damaged, copy it again"] if part else []


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
    """The table of tensors in what a file holds, without wrappers, common prefixes and counters."""
    content = _unwrapped(content, notes)
    if isinstance(content, Mapping) and any(state <= set(content) for state in TRAINING_STATES):
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
    counters = [name for name, tensor in content.items() if not tensor.ndim and not tensor.is_floating_point()]
    if counters:
        notes.append(f"left out as counters: {_some(counters)}")
    tensors = {name: tensor for name, tensor in content.items() if name not in counters}
    while prefix := _prefix_of(tensors):
        tensors = _under(prefix, tensors, notes)
    return tensors


def _unwrapped(content: object, notes: list[str]) -> object:
    """The weights beside which a file has a counter, a loss and the like; what there is, if no table holds any.

    Several tables whose names say nothing are joined, each name behind that of its table.
    """
    for _ in range(DEEPEST):
        if not isinstance(content, Mapping):
            break
        own = _weights_in(content, 1)
        names = [*filter(_is_running_mean, content), *WRAPPERS]
        known = [key for key in names if _weights_in(content.get(key), DEEPEST) > own]
        others = [key for key, table in content.items() if isinstance(key, str) and _weights_in(table, 1) > own]
        if len(known) > 1:
            notes.append(f"of the weights {', '.join(known)} the first was taken")
        if known or len(others) == 1:
            content = content[(known or others)[0]]
        elif others:
            pairs = ((key, name, tensor) for key in others for name, tensor in content[key].items())
            content = {f"{key}.{name}": tensor for key, name, tensor in pairs if isinstance(tensor, Tensor)}
        else:
            break
    return content


def _is_running_mean(name: object) -> bool:
    """Whether a table or prefix is called as of weights that were averaged while they were trained."""
    return isinstance(name, str) and "ema" in re.split(r"[._]", name.lower())


def _weights_in(table: object, depth: int) -> int:
    """How many tensors with axes a table holds under names, in tables within it as well."""
    if not isinstance(table, Mapping) or not depth:
        return 0
    values = [value for name, value in table.items() if isinstance(name, str)]
    return sum(value.ndim > 0 if isinstance(value, Tensor) else _weights_in(value, depth - 1) for value in values)


def _prefix_of(tensors: Mapping[str, Tensor]) -> str | None:
    """A prefix that all names have, or that of the generator's running mean or the generator, which only some have."""
    shared = next((p for p in PREFIXES if tensors and all(name.startswith(p) for name in tensors)), None)
    generators = [*(f"{p[:-1]}_ema." for p in GENERATORS), *GENERATORS]
    return shared or next((p for p in generators if any(name.startswith(p) for name in tensors)), None)


def _under(prefix: str, tensors: Mapping[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    chosen = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if len(chosen) < len(tensors):
        notes.append(f"of {len(tensors)} tensors the {len(chosen)} of {prefix[:-1]} were taken")
    return chosen


def _under_a_prefix(
    tensors: dict[str, Tensor], detectors: Sequence[Callable[[Mapping[str, Tensor]], bool]], notes: list[str]
) -> dict[str, Tensor]:
    """Tensors as they are, if a detector knows them or none does; otherwise those under the prefix where one does."""
    if any(detect(tensors) for detect in detectors):
        return tensors
    prefixes = dict.fromkeys(name[: dot.end()] for name in tensors for dot in [*re.finditer(r"\.", name)][:DEEPEST])
    for prefix in sorted(prefixes, key=_is_running_mean, reverse=True):
        under = _under(prefix, tensors, found := [])
        if any(detect(under) for detect in detectors):
            notes.extend(found)
            return under
    return tensors


def _refuse_other_numbers(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise ModelError if weights are quantised, sparse, complex or the like."""
    whole = [name for name, tensor in tensors.items() if not tensor.is_floating_point() and not tensor.is_quantized]
    if whole:
        kinds = ", ".join(sorted({str(tensors[name].dtype).removeprefix("torch.") for name in whole}))
        raise ModelError(
            f"Weights in {path} are no floating-point numbers but {kinds}: {_some(whole)}.",
            "If they were rounded to whole numbers, what these stand for is not in the file: choose the weights as "
            "they were trained.",
        )
    odd = [
        name
        for name, tensor in tensors.items()
        if tensor.is_quantized or tensor.is_meta or tensor.is_nested or tensor.layout != torch.strided
    ]
    if odd:
        raise ModelError(
            f"Weights in {path} are quantised, sparse, or without values: {_some(odd)}.",
            f"Choose the weights as they were trained. {MAKE_WEIGHTS}",
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
