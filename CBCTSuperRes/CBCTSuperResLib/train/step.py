"""One iteration: what a recipe's step gets to see, and what happens around each of its updates."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.devices import cpu_has_bfloat16, rounding
from ..core.errors import OptionError, SuperResError
from .data.batches import Batch
from .ranks import Processes

MOST_OVERFLOWS = 20
DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


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


class Steps:
    """The iterations of a recipe, one after the other, and what the recipe sees of the present one.

    Parameters
    ----------
    do : callable
        A recipe's `step`: given this object, it does an iteration and returns what to log.
    networks, optimizers : mapping of str to Module, Optimizer
        By role.
    precision : Precision
    processes : Processes
    grad_clip : float, optional
        Largest norm of a role's gradient.

    Attributes
    ----------
    number : int
        Of the iteration, from 1.
    batches : sequence of Batch
        The micro-batches of this process, on its device, of equal size; usually one.
    networks : mapping of str to Module
    stepped : set of str
        Roles that were updated in this iteration.
    scalers : dict of str to GradScaler
        By role; only float16 needs them.
    """

    def __init__(
        self,
        do: Callable[[Steps], dict[str, Tensor]],
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        precision: Precision,
        processes: Processes,
        grad_clip: float | None = None,
    ) -> None:
        self._do, self.networks, self.optimizers = do, networks, optimizers
        self.autocast = precision.autocast
        self.scalers = {role: scaler for role in optimizers if (scaler := precision.scaler())}
        self.number = 0
        self.batches: Sequence[Batch] = ()
        self.stepped: set[str] = set()
        self._processes, self._grad_clip = processes, grad_clip
        self._norms: dict[str, Tensor] = {}
        self._overflows = dict.fromkeys(optimizers, 0)

    def make(self, number: int, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Do iteration `number`; returns what the recipe logs and the norm of each role's gradient.

        Where it ends early, buffers (spectral norms) are put back unless a role was updated, so that it can be made
        again.

        Raises
        ------
        NonFinite
            If a loss or a gradient is; the roles of that update were not changed.
        """
        self.number, self.batches = number, batches
        self.stepped, self._norms = set(), {}
        before = [(buffer, buffer.clone()) for network in self.networks.values() for buffer in network.buffers()]
        try:
            return {**self._do(self), **self._norms}
        except BaseException:
            if not self.stepped:
                for buffer, value in before:
                    buffer.copy_(value)
            raise

    def mean_over_processes(self, value: Tensor) -> Tensor:
        """Mean of a small tensor over all processes, element by element; differentiable."""
        return self._processes.mean(value)

    @contextmanager
    def update(self, *roles: str) -> Iterator[Update]:
        """One step of the optimisers of one or several roles.

        Entering clears their gradients and leaves only what these roles train requiring gradients; leaving averages
        the gradients over the processes, refuses non-finite ones, and steps all optimisers, or none.

        >>> with run.update("G") as update:
        ...     update.backward(loss(run.networks["G"](batch["LR"]), batch["HR"]))
        """
        required = [(p, p.requires_grad) for network in self.networks.values() for p in network.parameters()]
        for role, network in self.networks.items():
            if role not in roles:
                network.requires_grad_(False)
        for role in roles:
            self.optimizers[role].zero_grad(set_to_none=True)
        update = Update(roles, self.scalers.get(roles[0]))
        try:
            yield update
            if update.losses:
                self._step(update)
        finally:
            for parameter, was_required in required:
                parameter.requires_grad_(was_required)

    def _step(self, update: Update) -> None:
        gradients = {}
        for role in update.roles:
            groups = self.optimizers[role].param_groups
            gradients[role] = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        self._processes.average_gradients([gradient for found in gradients.values() for gradient in found])
        if update.scaler:
            for role in update.roles:
                update.scaler.unscale_(self.optimizers[role])
        norms = {role: _norm(found) for role, found in gradients.items()}
        self._refuse_non_finite(norms, torch.stack([loss.double() for loss in update.losses]).sum(), update)
        for role, norm in norms.items():
            if self._grad_clip:
                torch._foreach_mul_(gradients[role], (self._grad_clip / (norm + 1e-6)).clamp(max=1.0))
            self._norms[f"grad_norm_{role}"] = norm
        self.stepped.update(update.roles)
        for role in update.roles:
            if update.scaler:
                update.scaler.step(self.optimizers[role])
            else:
                self.optimizers[role].step()
        if update.scaler:
            update.scaler.update()

    def _refuse_non_finite(self, norms: Mapping[str, Tensor], loss: Tensor, update: Update) -> None:
        # The norms are the same in all processes, being of the averaged gradients; the losses are not.
        bad = [role for role, norm in norms.items() if not torch.isfinite(norm).item()]
        bad_loss = not bad and self._processes.any(not torch.isfinite(loss).item())
        first = update.roles[0]
        self._overflows[first] = self._overflows[first] + 1 if bad else 0
        if update.scaler and self._overflows[first] <= MOST_OVERFLOWS:
            return  # the scaler may be expected to cure it
        if bad or bad_loss:
            raise NonFinite(" and ".join(bad or update.roles), float(loss), float(norms[bad[0] if bad else first]))


class Update:
    """An update that is under way, see `Steps.update`."""

    def __init__(self, roles: tuple[str, ...], scaler: torch.amp.GradScaler | None) -> None:
        self.roles, self.scaler = roles, scaler
        self.losses: list[Tensor] = []
        self._is_complete = False

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """Add the gradients of a loss.

        `loss` is this micro-batch's share: the sum over the micro-batches of all processes, divided by the number of
        processes, is the loss of the global batch. It is computed outside `autocast`, in float32 or float64. `last`
        ends the update.
        """
        if self._is_complete:
            raise RuntimeError(f"The update of {' and '.join(self.roles)} was complete when another loss came.")
        self.losses.append(loss.detach())
        (self.scaler.scale(loss) if self.scaler else loss).backward()
        self._is_complete = last


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    if not tensors:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


class Precision:
    """Mixed precision: forwards in a small type, weights, losses and optimisers in float32.

    Parameters
    ----------
    name : str
        "float32", "bfloat16" or "float16".
    device : torch.device

    Raises
    ------
    OptionError
        If a small type is asked of a processor or GPU that lacks it.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self._dtype, self._device = DTYPES[name], device
        if device.type == "cpu" and name == "float16":
            raise OptionError("train.precision is 'float16', which only a CUDA device offers.", "Set it to float32.")
        if device.type == "cpu" and name == "bfloat16" and not cpu_has_bfloat16():
            raise OptionError(
                "train.precision is 'bfloat16', and this processor has no arithmetic of that type.",
                "Set it to float32.",
            )
        if device.type == "cuda" and name == "bfloat16" and not torch.cuda.is_bf16_supported():
            raise OptionError("This GPU has no bfloat16.", "Set train.precision to float16 or float32.")

    def autocast(self) -> AbstractContextManager[None]:
        """For forwards; losses are computed outside of it."""
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
    cudnn, utils = torch.backends.cudnn, torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    before_cudnn, before_fill = (cudnn.deterministic, cudnn.benchmark), utils.fill_uninitialized_memory
    with rounding("fp32" if precision == "float32" else "tf32"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
        warnings.filterwarnings("ignore", message=".*CuBLAS.*CUBLAS_WORKSPACE_CONFIG.*")
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        utils.fill_uninitialized_memory = False
        cudnn.deterministic, cudnn.benchmark = deterministic, not deterministic
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            cudnn.deterministic, cudnn.benchmark = before_cudnn
            utils.fill_uninitialized_memory = before_fill
