"""Where a process computes, and how much of the batch is its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from ...errors import DeviceError, OptionError
from ..options.device import training_device

if TYPE_CHECKING:
    from ..options import TrainingOptions


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def processes_wanted(options: TrainingOptions, device: str | None = None, processes: int | None = None) -> int:
    """How many processes a training takes on this machine: one for each GPU, or as many as are asked for on the CPU.

    Raises
    ------
    DeviceError, OptionError
    """
    chosen = training_device(options, device)
    if chosen.type == "cpu":
        if processes is not None and processes < 1:
            raise OptionError(f"{processes} processes make no sense.", "Choose at least one.")
        return processes or 1
    if processes not in (None, len(chosen.ids)):
        raise OptionError(
            f"{processes} processes were asked for, but {len(chosen.ids)} GPU(s), one for each process.",
            "Name the GPUs in gpu_ids, and leave the number of processes to the CPU.",
        )
    return len(chosen.ids)


def own_device(options: TrainingOptions, device: str | None = None) -> torch.device:
    """This process's device; under torchrun, the one of its number on this machine.

    Raises
    ------
    DeviceError
        If there are more processes here than GPUs are named.
    """
    chosen = training_device(options, device)
    if chosen.type == "cpu":
        return torch.device("cpu")
    number = int(os.environ.get("LOCAL_RANK", "0")) if under_torchrun() else 0
    ids = chosen.ids
    if under_torchrun() and options.gpu_ids is None:
        ids = range(torch.cuda.device_count())
    if number >= len(ids):
        raise DeviceError(
            f"torchrun started process {number + 1} on this machine, but there are {len(ids)} GPU(s) for it.",
            "Let --nproc-per-node be the number of gpu_ids.",
        )
    torch.cuda.set_device(ids[number])
    return torch.device("cuda", ids[number])


def share_of(batch_size: int, processes: int) -> int:
    """A process's share of the batch.

    Raises
    ------
    OptionError
        If the batch cannot be shared evenly.
    """
    if batch_size % processes:
        raise OptionError(
            f"datasets.train.batch_size is {batch_size}, which {processes} processes cannot share evenly.",
            f"Choose a multiple of {processes}.",
        )
    return batch_size // processes
