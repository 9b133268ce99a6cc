"""One iteration: what the loop hands to a recipe (`recipes.recipe.StepRun`) and what happens around each update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..recipes.recipe import Batch, Recipe
from .failure import NonFinite
from .precision import Precision
from .processes import Processes

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
