"""Where a training computes: what gpu_ids, device and the command line say together."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import DependencyError, DeviceError, OptionError
from .training_options import TrainingOptions

INSTEAD = "Choose --device cpu, or set gpu_ids to [] in the options."


@dataclass(frozen=True)
class TrainingDevice:
    """A kind of device, and which ones.

    >>> str(TrainingDevice("cuda", (0, 1)))
    'cuda:0, cuda:1'
    """

    type: str
    ids: tuple[int, ...] = ()

    def __str__(self) -> str:
        return ", ".join(f"cuda:{number}" for number in self.ids) or self.type


def training_device(options: TrainingOptions, device: str | None = None) -> TrainingDevice:
    """Decide where to compute; nothing falls back silently.

    Parameters
    ----------
    device : None, "auto", "cpu", "cuda" or "cuda:N"
        None and "auto" leave it to the options: first to their device, then to their gpu_ids.

    Raises
    ------
    DeviceError
        If CUDA devices are asked for that are not there.
    OptionError
        If the device is none of these, the precision is not for it, or the GPUs cannot share the batch evenly.
    DependencyError
        If the answer needs torch, which is missing.
    """
    wanted = options.device if device in (None, "auto") else device
    chosen = _choose(options.gpu_ids, wanted)
    if chosen.type == "cpu" and options.is_train and options.train.precision != "float32":
        raise OptionError(
            f"train.precision {options.train.precision} is for CUDA devices, and this training runs on the CPU.",
            "Set train.precision=float32.",
        )
    if "train" in options.datasets and options.datasets["train"].batch_size % max(1, len(chosen.ids)):
        raise OptionError(
            f"datasets.train.batch_size {options.datasets['train'].batch_size} cannot be shared evenly by "
            f"{len(chosen.ids)} GPUs.",
            f"Choose a multiple of {len(chosen.ids)}.",
        )
    return chosen


def _choose(ids: tuple[int, ...] | None, wanted: str) -> TrainingDevice:
    if wanted == "cpu" or (wanted == "auto" and ids == ()):
        return TrainingDevice("cpu")
    kind, _, number = wanted.partition(":")
    if wanted != "auto" and (kind != "cuda" or (number and not number.isdecimal()) or (":" in wanted and not number)):
        raise OptionError(f"There is no device {wanted!r}.", "Choose auto, cpu, cuda or cuda:N.")
    count = _cuda_devices()
    if wanted == "auto" and ids is None:
        return TrainingDevice("cuda", (0,)) if count else TrainingDevice("cpu")
    ids = (int(number),) if number else ids or (0,)
    absent = [one for one in ids if one >= count]
    if absent:
        there = f"only {count} CUDA device(s)" if count else "no CUDA device"
        asked = f"gpu_ids {list(ids)}" if wanted == "auto" else f"The device {wanted!r}"
        raise DeviceError(f"{asked} cannot be used: there is {there} here.", INSTEAD)
    return TrainingDevice("cuda", tuple(ids))


def _cuda_devices() -> int:
    try:
        import torch
    except ImportError:
        raise DependencyError("torch, which trains networks, is not installed.", "Install PyTorch.") from None
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
