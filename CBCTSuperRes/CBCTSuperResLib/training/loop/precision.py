"""In which precision a run computes, and whether it repeats exactly."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from ...devices import rounding
from ...errors import OptionError

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """Mixed precision on CUDA: forwards in a small type, weights, losses and optimisers in float32.

    Parameters
    ----------
    name : str
        "float32", "bfloat16" or "float16".
    device : torch.device

    Raises
    ------
    OptionError
        If a small type is asked for on the CPU, where it would be slower, or by a GPU that lacks it.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self._dtype, self._device = DTYPES[name], device
        if self._dtype is not None and device.type != "cuda":
            raise OptionError(f"train.precision is {name!r}, which only a CUDA device offers.", "Set it to float32.")
        if self._dtype is torch.bfloat16 and not torch.cuda.is_bf16_supported():
            raise OptionError("This GPU has no bfloat16.", "Set train.precision to float16 or float32.")

    def autocast(self) -> AbstractContextManager[None]:
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device.type, self._dtype)

    def scaler(self) -> torch.amp.GradScaler | None:
        """Keeps small gradients above zero in float16; the other types need none."""
        return torch.amp.GradScaler(self._device.type) if self._dtype is torch.float16 else None


@contextmanager
def repeatable(deterministic: bool, precision: str, device: torch.device) -> Iterator[None]:
    """Deterministic algorithms where the option says so and there are any; the former settings come back afterwards.

    The CPU's always are. On CUDA, float32 is full float32; TensorFloat-32 takes part only where a smaller type was
    chosen anyway.
    """
    if device.type == "cpu":
        yield
        return
    with rounding("fp32" if precision == "float32" else "tf32"), _algorithms(deterministic), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
        warnings.filterwarnings("ignore", message=".*CuBLAS.*CUBLAS_WORKSPACE_CONFIG.*")
        yield


@contextmanager
def _algorithms(deterministic: bool) -> Iterator[None]:
    cudnn, utils = torch.backends.cudnn, torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    before_cudnn, before_fill = (cudnn.deterministic, cudnn.benchmark), utils.fill_uninitialized_memory
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    utils.fill_uninitialized_memory = False
    cudnn.deterministic, cudnn.benchmark = deterministic, not deterministic
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = before_cudnn
        utils.fill_uninitialized_memory = before_fill
