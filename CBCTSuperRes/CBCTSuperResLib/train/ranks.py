"""The processes of one training: who this one is, where it computes, its share of the batch, and what all agree on.

`torchrun` (torch.distributed.run) starts the processes, on one machine or many, and tells each its place by RANK,
WORLD_SIZE and LOCAL_RANK. Without these there is one process, and nothing here communicates.

Every process holds all networks and computes its share of the batch. Gradients are averaged when an update is complete
(`step.Steps.update`), in buckets: the arithmetic of DistributedDataParallel without its wrapper, which has to know at a
forward pass whether its backward pass will be the update's last, and whether all parameters take part in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..core.errors import DeviceError, OptionError
from .checks import training_device

if TYPE_CHECKING:
    from .options import TrainingOptions

BUCKET_BYTES = 32 * 2**20
PATIENCE = timedelta(hours=6)  # the others wait while the first process validates


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


class Processes:
    """The processes that train together.

    >>> with Processes.join(torch.device("cpu")) as processes:
    ...     processes.mean(loss)

    Attributes
    ----------
    rank, count : int
        Which of how many this one is; number 0 alone writes files and speaks.
    """

    def __init__(self, rank: int = 0, count: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.count = rank, count
        self._device = device or torch.device("cpu")

    @staticmethod
    def join(device: torch.device) -> Processes:
        """Join those that torchrun started; a lone process joins nobody."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return Processes(device=device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        return Processes(dist.get_rank(), count, device)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        if self.count == 1 or not dist.is_initialized():
            return
        if kind is None:
            self.wait_for_all()  # whoever leaves early may pull the connection from under the others
        dist.destroy_process_group()

    @property
    def first(self) -> bool:
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a tensor over all processes; its gradient is that of the mean."""
        return value if self.count == 1 else _Mean.apply(value, self.count)

    def average_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Replace gradients by their means over all processes."""
        if self.count == 1:
            return
        buckets: list[list[Tensor]] = []  # those of one type together, in the same order in every process
        room, dtype = 0, None
        for gradient in gradients:
            size = gradient.numel() * gradient.element_size()
            if not buckets or size > room or gradient.dtype != dtype:
                buckets.append([])
                room, dtype = BUCKET_BYTES, gradient.dtype
            buckets[-1].append(gradient)
            room -= size
        pending = []
        for bucket in buckets:
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            pending.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
        for bucket, flat, work in pending:
            work.wait()
            flat /= self.count
            for gradient, mean in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(mean.view(gradient.shape))

    def share_state(self, networks: Mapping[str, nn.Module]) -> None:
        """Give all processes the weights and buffers of the first."""
        if self.count == 1:
            return
        for network in networks.values():
            for tensor in network.state_dict().values():
                whole = tensor.detach().contiguous()
                dist.broadcast(whole, 0)
                tensor.copy_(whole)

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        if self.count == 1:
            return flag
        told = torch.tensor([int(flag)], device=self._device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told.item())

    def share(self, value):
        """The first process's value (anything that can be pickled), in all of them."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0, device=self._device)
        return box[0]

    def gather(self, value) -> list:
        """The values of all processes, in all of them."""
        if self.count == 1:
            return [value]
        found = [None] * self.count
        dist.all_gather_object(found, value)
        return found

    def wait_for_all(self) -> None:
        if self.count > 1:
            self.any(False)


class _Mean(torch.autograd.Function):
    """Each process's value moves the mean by 1/n, and the mean moves every process's loss."""

    @staticmethod
    def forward(ctx, value: Tensor, count: int) -> Tensor:
        ctx.count = count
        return _sum(value) / count

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return _sum(gradient) / ctx.count, None


def _sum(value: Tensor) -> Tensor:
    total = value.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
