"""Ends of a run that the options or the data must answer for.

In which precision a run computes, and whether it repeats exactly.

One iteration: what the loop hands to a recipe (`recipes.recipe.StepRun`) and what happens around each update.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.atomic import replacing
from ..core.devices import rounding
from ..core.errors import OptionError, OutputError, ResourceError, SuperResError
from .ranks import Processes
from .recipes.recipe import Batch, Recipe

REPORT = "failure.json"


class NonFinite(SuperResError):
    """A loss or a gradient is NaN or infinite.

    Attributes
    ----------
    role : str
        Whose update it was.
    loss, norm : float
        The loss, and the norm of its gradient.
    """

    def __init__(self, role: str, loss: float, norm: float) -> None:
        self.role, self.loss, self.norm = role, loss, norm
        what = "loss" if not math.isfinite(loss) else "gradient"
        super().__init__(f"The {what} of {role} is not finite.")

    def told(self, step: int, folder: Path, checkpoint: Path | None) -> SuperResError:
        """The error for the user, who learns what is left and where the report is."""
        kept = f"The checkpoint {checkpoint.name} is intact. " if checkpoint else ""
        return SuperResError(
            f"{self.what[:-1]} in step {step}; the training was stopped.",
            f"{kept}Look at the images named in {folder / REPORT}, then lower the learning rates, set train.grad_clip, "
            "or use float32, and go on with --resume auto.",
        )


def write_report(folder: Path, step: int, error: NonFinite, names: Sequence[str], last: Mapping[str, float]) -> Path:
    """Write failure.json: the step, the values, the images of the batch, and the losses that were last logged."""
    report = {
        "step": step,
        "network": error.role,
        "loss": str(error.loss),
        "gradient_norm": str(error.norm),
        "images": list(names),
        "last_logged": {name: str(value) for name, value in last.items()},
    }
    path = folder / REPORT
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def unwritten(error: OSError, checkpoint: Path | None) -> OutputError:
    """The error for a file of the run that could not be written, a full disk for instance."""
    kept = f" The checkpoint {checkpoint.name} is intact." if checkpoint else ""
    return OutputError(
        f"The run cannot write its files: {error.strerror or error}.{kept}",
        "Look after the disk and go on with --resume auto.",
    )


def out_of_memory(share: int, tried: int, step: int, may_resume: bool) -> ResourceError:
    """The error for a device whose memory is too small.

    Parameters
    ----------
    share : int
        Images of a step in one process.
    tried : int
        Images at a time that did not fit.
    step : int
    may_resume : bool
        Whether there is a checkpoint to go on from.
    """
    if tried == 1:
        advice = "Choose a smaller datasets.train.HR_size or smaller networks."
    else:
        on = " and go on with --resume auto" if may_resume else ""
        advice = f"Set datasets.train.micro_batch to {next_smaller(share, tried)}{on}: the result is the same."
    return ResourceError(f"The memory is too small for {tried} images at a time (step {step}).", advice)


def next_smaller(share: int, tried: int) -> int:
    """The largest number of images, at most half of what was tried, that divides a process's share of the batch."""
    return next(size for size in range(max(1, tried // 2), 0, -1) if share % size == 0)


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


MOST_OVERFLOWS = 20


class Steps:
    """Makes the iterations of a recipe, one after the other.

    Parameters
    ----------
    recipe : Recipe
    networks, optimizers : mapping of str to Module, Optimizer
        By role.
    precision : Precision
    processes : Processes
    grad_clip : float, optional
        Largest norm of a role's gradient.
    """

    def __init__(
        self,
        recipe: Recipe,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        precision: Precision,
        processes: Processes,
        grad_clip: float | None = None,
    ) -> None:
        self.recipe, self.networks, self.optimizers = recipe, networks, optimizers
        self.precision, self.processes, self.grad_clip = precision, processes, grad_clip
        self.scalers = {role: scaler for role in optimizers if (scaler := precision.scaler())}
        self.stepped: set[str] = set()
        self._overflows = dict.fromkeys(optimizers, 0)

    def make(self, number: int, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Do iteration `number`; returns what the recipe logs and the norm of each role's gradient.

        Raises
        ------
        NonFinite
            If a loss or a gradient is; the role in question was not changed.
        """
        self.stepped = set()
        step = _Step(self, number, batches)
        return {**self.recipe.step(step), **step.norms}

    def overflowed(self, role: str, overflowed: bool) -> bool:
        """Count float16's overflows; True while the scaler may be expected to cure them."""
        self._overflows[role] = self._overflows[role] + 1 if overflowed else 0
        return role in self.scalers and self._overflows[role] <= MOST_OVERFLOWS

    @contextmanager
    def undone_unless_stepped(self) -> Iterator[None]:
        """Put buffers (spectral norms) back if an iteration ends early, so that it can be made again."""
        before = [(b, b.clone()) for network in self.networks.values() for b in network.buffers()]
        try:
            yield
        except BaseException:
            if not self.stepped:
                for buffer, value in before:
                    buffer.copy_(value)
            raise


class _Step:
    """`StepRun` of one iteration."""

    def __init__(self, steps: Steps, number: int, batches: Sequence[Batch]) -> None:
        self._steps = steps
        self.number, self.batches, self.networks = number, batches, steps.networks
        self.norms: dict[str, Tensor] = {}

    def update(self, role: str) -> AbstractContextManager[_Update]:
        return _Update(self._steps, role, self.norms)

    def autocast(self) -> AbstractContextManager[None]:
        return self._steps.precision.autocast()

    def mean_over_processes(self, value: Tensor) -> Tensor:
        return self._steps.processes.mean(value)


class _Update:
    """`Update` of one role: clear, collect gradients, average them, look at them, step."""

    def __init__(self, steps: Steps, role: str, norms: dict[str, Tensor]) -> None:
        self._steps, self._role, self._norms = steps, role, norms
        self._optimizer, self._scaler = steps.optimizers[role], steps.scalers.get(role)
        self._losses: list[Tensor] = []
        self._required: list[tuple[nn.Parameter, bool]] = []
        self._complete = False
        self.network = steps.networks[role]

    def __enter__(self) -> _Update:
        for role, network in self._steps.networks.items():
            for parameter in network.parameters():
                self._required.append((parameter, parameter.requires_grad))
                if role != self._role:
                    parameter.requires_grad_(False)
        self._optimizer.zero_grad(set_to_none=True)
        return self

    def backward(self, loss: Tensor, last: bool = True) -> None:
        if self._complete:
            raise RuntimeError(f"The update of {self._role} was complete when another loss came.")
        self._losses.append(loss.detach())
        (self._scaler.scale(loss) if self._scaler else loss).backward()
        self._complete = last

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        try:
            if kind is None and self._losses:
                self._step()
        finally:
            for parameter, required in self._required:
                parameter.requires_grad_(required)

    def _step(self) -> None:
        parameters = [p for group in self._optimizer.param_groups for p in group["params"] if p.grad is not None]
        self._steps.processes.average_gradients(parameters)
        if self._scaler:
            self._scaler.unscale_(self._optimizer)
        gradients = [parameter.grad for parameter in parameters]
        norm = _norm(gradients)
        self._refuse_non_finite(norm, torch.stack([loss.double() for loss in self._losses]).sum())
        if self._steps.grad_clip:
            torch._foreach_mul_(gradients, (self._steps.grad_clip / (norm + 1e-6)).clamp(max=1.0))
        self._norms[f"grad_norm_{self._role}"] = norm
        self._steps.stepped.add(self._role)
        if not self._scaler:
            self._optimizer.step()
            return
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def _refuse_non_finite(self, norm: Tensor, loss: Tensor) -> None:
        norm_is_bad = not torch.isfinite(norm).item()  # the same in all processes: it is of the averaged gradients
        bad = norm_is_bad or self._steps.processes.any(not torch.isfinite(loss).item())
        if self._steps.overflowed(self._role, norm_is_bad):
            return
        if bad:
            raise NonFinite(self._role, float(loss), float(norm))


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    if not tensors:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))
