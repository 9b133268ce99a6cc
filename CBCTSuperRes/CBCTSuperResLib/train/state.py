"""The running mean of a network's weights (EMA), which is what validation and export use.

Everything that a run consists of at one moment, as a checkpoint keeps it.

Checkpoints: the whole state of a run in one file, complete or not there.

Which checkpoint a run goes on from, and whether its options still are those of the run.
"""

from __future__ import annotations

import copy
import os
import random
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from ..core.atomic import replacing
from ..core.errors import InputError, OptionError, OutputError, ResourceError
from ..io.write import free_disk_bytes
from .options_file import read_options
from .ranks import Processes

if TYPE_CHECKING:
    from .options import TrainingOptions


FIRST, SLOWNESS = 1, 10


class Average:
    """Follows a network with the decay min(decay, (1 + n) / (10 + n)), n the number of updates so far.

    Parameters
    ----------
    network : Module
    decay : float
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def follow(self, network: nn.Module, updates: int) -> None:
        """Move towards the network after its update number `updates`."""
        decay = min(self._decay, (FIRST + updates) / (SLOWNESS + updates))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - decay)
        for kept, current in zip(self.network.buffers(), network.buffers(), strict=True):
            kept.copy_(current)


VERSION = 1


@dataclass
class TrainingState:
    """Networks, their optimisers, and how far the run is.

    The learning rates are a function of the step, and the data's order and draws of the sample's number; so the step
    is the state of the schedule and of the sampler too.

    Attributes
    ----------
    networks, optimizers, scalers : mapping by role
    exported : str
        Role of the network that is exported.
    average : Average or None
        The running mean of its weights.
    options : dict
        JSON of the options.
    batch_size : int
        Images of one step, over all processes.
    micro_batch : int
        Images that a process computes at a time; kept, as sums of other parts round differently.
    step : int
        The last iteration that is done.
    best, latest : dict
        What validation measured, with "step"; empty before the first.
    """

    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, Optimizer]
    scalers: Mapping[str, torch.amp.GradScaler]
    exported: str
    average: Average | None
    options: dict
    batch_size: int
    micro_batch: int
    step: int = 0
    best: dict = field(default_factory=dict)
    latest: dict = field(default_factory=dict)

    def payload(self, processes: Processes) -> dict:
        """What is saved: tensors, numbers and texts only, so that loading executes nothing."""
        return {
            "version": VERSION,
            "step": self.step,
            "samples": self.step * self.batch_size,
            "options": self.options,
            "micro_batch": self.micro_batch,
            "best": self.best,
            "latest": self.latest,
            "networks": {role: network.state_dict() for role, network in self.networks.items()},
            "average": self.average and self.average.network.state_dict(),
            "optimizers": {role: optimizer.state_dict() for role, optimizer in self.optimizers.items()},
            "scalers": {role: scaler.state_dict() for role, scaler in self.scalers.items()},
            "random": processes.gather(random_state()),
        }

    def restore(self, payload: Mapping) -> None:
        """Become what was saved. Settings of the optimisers (rates, decays) stay those of the present options.

        Raises
        ------
        InputError
            If the checkpoint is of other networks.
        """
        try:
            for role, network in self.networks.items():
                network.load_state_dict(payload["networks"][role])
            for role, optimizer in self.optimizers.items():
                _load_moments(optimizer, payload["optimizers"][role])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                f"The checkpoint does not fit the networks of these options: {error}",
                "Resume with the options it was made with.",
            ) from error
        for role, scaler in self.scalers.items():
            if role in payload["scalers"]:
                scaler.load_state_dict(payload["scalers"][role])
        if self.average:
            source = payload["average"] or payload["networks"][self.exported]
            self.average.network.load_state_dict(source)
        self.step, self.best, self.latest = payload["step"], dict(payload["best"]), dict(payload["latest"])


def restore_random(payload: Mapping, rank: int) -> None:
    """Put a process's generators where they were; one that was not there then keeps its own."""
    if rank < len(payload["random"]):
        set_random_state(payload["random"][rank])


def _load_moments(optimizer: Optimizer, saved: dict) -> None:
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)


def random_state() -> dict:
    """The states of Python's, numpy's and torch's generators, as tensors and numbers."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping) -> None:
    """Put all generators back into a state of `random_state`."""
    random.setstate(tuple(tuple(part) if isinstance(part, list) else part for part in state["python"]))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


SUFFIX = ".state"
DAMAGED, ABANDONED = ".damaged", ".abandoned"
SMALL_DISK = 64 * 2**20

Note = Callable[[str], None]


class Checkpoints:
    """The folder training_state/ of a run, with files named by their step.

    >>> checkpoints = Checkpoints(run / "training_state", keep_last=3)
    >>> checkpoints.write(5000, state.payload(processes), best=5000)
    >>> path, payload = checkpoints.newest()

    Parameters
    ----------
    folder : Path
    keep_last : int
        How many are kept, beside that of the best validation.
    """

    def __init__(self, folder: Path, keep_last: int = 3) -> None:
        self.folder, self._keep_last = Path(folder), keep_last

    def clean(self) -> None:
        """Remove what a process that was killed while saving has left."""
        for path in self.folder.glob(f".*{SUFFIX}.*.tmp"):
            path.unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """The steps whose checkpoints are there, in order."""
        return sorted(int(path.stem) for path in self.folder.glob(f"*{SUFFIX}") if path.stem.isdigit())

    def path(self, step: int) -> Path:
        return self.folder / f"{step}{SUFFIX}"

    def last(self) -> Path | None:
        steps = self.steps()
        return self.path(steps[-1]) if steps else None

    def write(self, step: int, payload: dict, best: int | None = None) -> Path:
        """Save a checkpoint, then remove those that are neither among the last nor the best.

        Raises
        ------
        ResourceError, OutputError
            If it cannot be written; the former ones are intact then.
        """
        path = self.path(step)
        try:
            with replacing(path) as scratch:
                _write(payload, scratch)
        except OutputError as error:
            raise self._told(error) from error
        _settle(self.folder)
        for old in self.steps()[: -self._keep_last]:
            if old not in (best, step):
                self.path(old).unlink(missing_ok=True)
        return path

    def newest(self, note: Note, below: int | None = None) -> tuple[Path, dict] | None:
        """The newest checkpoint that can be read; damaged ones are told of and set aside.

        Parameters
        ----------
        note : callable
            Is told what was wrong, in words.
        below : int, optional
            Only checkpoints of earlier steps.
        """
        for step in reversed(self.steps()):
            if below is not None and step >= below:
                continue
            path = self.path(step)
            try:
                return path, read_checkpoint(path)
            except InputError as error:
                os.replace(path, path.with_name(path.name + DAMAGED))
                note(f"{error.what} It was set aside; the run goes on from the one before.")
        return None

    def abandon_after(self, step: int) -> list[Path]:
        """Set aside the checkpoints of later steps: the run goes another way from here."""
        later = [self.path(number) for number in self.steps() if number > step]
        for path in later:
            os.replace(path, path.with_name(path.name + ABANDONED))
        return later

    def _told(self, error: OutputError) -> OutputError | ResourceError:
        last = self.last()
        kept = f"The checkpoint {last.name} is intact" if last else "There is no earlier checkpoint"
        if free_disk_bytes(self.folder) < SMALL_DISK:
            return ResourceError(
                f"The disk of {self.folder} is full; the checkpoint could not be saved. {kept}.",
                "Free some space and go on with --resume auto.",
            )
        return OutputError(f"{error.what} {kept}.", "Look after the disk and go on with --resume auto.")


def read_checkpoint(path: Path) -> dict:
    """Read a checkpoint; nothing in it is executed.

    Raises
    ------
    InputError
        If it is missing, damaged, or of another version.
    """
    if not path.is_file():
        raise InputError(f"There is no checkpoint {path}.", "Choose a file of training_state/, or --resume auto.")
    try:
        _check_sums(path)
        payload = torch.load(path, map_location="cpu", weights_only=True)
        version = payload["version"]
    except Exception as error:  # whatever a damaged file makes a reader do
        raise InputError(
            f"The checkpoint {path.name} is damaged ({type(error).__name__}).", "Choose another one."
        ) from error
    if version != VERSION:
        raise InputError(f"The checkpoint {path.name} is of version {version}, which this program does not know.")
    return payload


def _check_sums(path: Path) -> None:
    """torch does not compare the checksums that it writes."""
    with zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
    if bad:
        raise ValueError(f"{bad} is damaged")


def _write(payload: dict, path: Path) -> None:
    with path.open("wb") as file:
        torch.save(payload, file)
        file.flush()
        os.fsync(file.fileno())


def _settle(folder: Path) -> None:
    """Have the file system keep the new name too; where folders cannot be opened, it does so by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


AUTO = "auto"

Accept = bool | Callable[[list[str]], bool]


class ChangedOptions(OptionError):
    """The options differ from those of the checkpoint.

    Attributes
    ----------
    changes : list of str
        Such as "train.lr_G: 0.0001 -> 0.0002".
    """

    def __init__(self, what: str, advice: str, changes: list[str]) -> None:
        super().__init__(what, advice)
        self.changes = changes


@dataclass(frozen=True)
class Resumed:
    """A checkpoint to go on from: its file and what it holds."""

    path: Path
    payload: Mapping


def begins_anew(resume: str | Path | None, run: Path) -> bool:
    """Whether the run begins a course of its own, even if from the checkpoint of another."""
    if resume is None or str(resume) == AUTO:
        return resume is None
    return not Path(resume).expanduser().resolve().is_relative_to(run.resolve())


def find_checkpoint(resume: str | Path | None, states: Path, note: Note) -> Resumed | None:
    """The checkpoint that is meant; None begins from the beginning.

    Parameters
    ----------
    resume : str, Path or None
        "auto": the newest of the run's own, if it has any; a file; or the folder of a run.
    states : Path
        The run's own folder of checkpoints.
    note : callable
        Is told of damaged ones: these are set aside, and the one before is taken.

    Raises
    ------
    InputError
        If a checkpoint was named and there is none, or all are damaged.
    """
    if resume is None:
        return None
    if str(resume) == AUTO:
        return _newest(states, note) if Checkpoints(states).steps() else None
    path = Path(resume).expanduser()
    if path.is_dir():
        inner = path / "training_state"
        return _newest(inner if inner.is_dir() else path, note)
    try:
        return Resumed(path, read_checkpoint(path))
    except InputError as error:
        return _one_before(path, error, note)


def refuse_changes(resumed: Resumed, options: TrainingOptions, accept: Accept) -> list[str]:
    """Compare the options with the checkpoint's; returns the changes that were accepted, a sentence each.

    Raises
    ------
    ChangedOptions
        With all differences, if they are not accepted.
    """
    changes = read_options(resumed.payload["options"]).differences(options)
    if not changes or (accept(changes) if callable(accept) else accept):
        return [f"Changed since the checkpoint: {change}." for change in changes]
    listed = "\n".join(f"  {change}" for change in changes)
    raise ChangedOptions(
        f"The options differ from those of the checkpoint {resumed.path.name}:\n{listed}\n",
        "Go on with the old ones, accept the new ones with --accept-changes, or begin a run of another name.",
        changes,
    )


def _newest(folder: Path, note: Note) -> Resumed:
    found = Checkpoints(folder).newest(note)
    if found is None:
        raise InputError(f"No checkpoint in {folder} can be read.", "Begin anew, without --resume.")
    return Resumed(*found)


def _one_before(path: Path, error: InputError, note: Note) -> Resumed:
    """In place of a checkpoint that is missing or damaged."""
    if path.suffix == SUFFIX and path.stem.isdigit() and path.parent.is_dir():
        found = Checkpoints(path.parent).newest(note, below=int(path.stem))
        if found:
            note(f"{error.what} The run goes on from {found[0].name}.")
            return Resumed(*found)
    raise error
