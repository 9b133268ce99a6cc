"""Generator against discriminator, exactly as over the whole batch, however many parts and processes it comes in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .losses import Plain, Relativistic, Verdict, precise
from .recipe import StepRun


class Adversary:
    """One discriminator: its own training, and what it makes the generator learn.

    A relativistic loss over several parts needs all outputs before the first gradient: they are computed once without
    gradients, and then, part by part, with them.

    Parameters
    ----------
    role : str
        "D" or "D_grad".
    weight : float
        Of the generator's loss against this discriminator.
    verdict : callable
    relativistic : bool
        Whether outputs are compared with the mean output for the other kind of images.
    """

    def __init__(self, role: str, weight: float, verdict: Verdict, relativistic: bool) -> None:
        self.role, self.weight, self.relativistic = role, weight, relativistic
        self._verdict = verdict

    def persuade(self, run: StepRun, real: Sequence[Tensor]) -> Persuasion:
        """The generator's loss against this discriminator, given the real images of all parts."""
        return Persuasion(run, self, real)

    def train(self, run: StepRun, real: Sequence[Tensor], fake: Sequence[Tensor]) -> dict[str, Tensor]:
        """One update with the real and the fake images of all parts, which carry no gradients; returns what to log."""
        parts = len(real)
        with run.update(self.role) as update:
            look_at_real, look_at_fake = (Look(run, self.role, parts, update.network) for _ in range(2))
            if parts == 1:
                said_real, said_fake = look_at_real(real[0]), look_at_fake(fake[0])
                judge = self.judge(run, True, [said_real], [said_fake])
                update.backward((judge.of_real(said_real) + judge.of_fake(said_fake)) / 2)
            else:
                judge = self._judge_of_many(run, look_at_real, real, look_at_fake, fake)
                for image in real:
                    update.backward(judge.of_real(look_at_real(image)) / (2 * parts), last=False)
                for number, image in enumerate(fake, start=1):
                    update.backward(judge.of_fake(look_at_fake(image)) / (2 * parts), last=number == parts)
        logs = {"l_d_real": judge.real, "l_d_fake": judge.fake}
        logs |= {"D_real": look_at_real.mean, "D_fake": look_at_fake.mean}
        return {**logs, "D_gap": logs["D_real"] - logs["D_fake"]}

    def judge(self, run: StepRun, honest: bool, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Plain | Relativistic:
        """The loss of the discriminator (honest) or the generator; plain losses need no outputs beforehand."""
        if self.relativistic:
            return Relativistic(self._verdict, honest, real, fake, run.mean_over_processes)
        return Plain(self._verdict, honest)

    def _judge_of_many(
        self, run: StepRun, look_at_real: Look, real: Sequence[Tensor], look_at_fake: Look, fake: Sequence[Tensor]
    ) -> Plain | Relativistic:
        if not self.relativistic:
            return self.judge(run, True, [], [])
        with torch.no_grad():
            said = [look_at_real(image) for image in real], [look_at_fake(image) for image in fake]
        return self.judge(run, True, *said)


class Persuasion:
    """What the generator has to do to a discriminator in one update: make fake images look real.

    Relativistic, it makes them look more real than the real ones do on average, and those less than the fake ones.

    Parameters
    ----------
    run : StepRun
    adversary : Adversary
    real : sequence of Tensor
        Real images of all parts.
    """

    def __init__(self, run: StepRun, adversary: Adversary, real: Sequence[Tensor]) -> None:
        self._run, self._adversary, self._real = run, adversary, real
        self._look = Look(run, adversary.role, len(real))
        self._judge: Plain | Relativistic | None = None

    @property
    def needs_all_fakes(self) -> bool:
        """Whether `look_ahead` has to see the fake images of all parts first."""
        return self._adversary.relativistic and len(self._real) > 1

    @torch.no_grad()
    def look_ahead(self, fake: Sequence[Tensor]) -> None:
        """Take in the fake images of all parts, which carry no gradients."""
        self._judge = self._new_judge([self._look(image) for image in fake])

    def loss(self, fake: Tensor) -> Tensor:
        """A value whose gradient is the loss's through a part's fake images; its mean over all parts counts."""
        said = self._look(fake)
        if self._judge is None:
            self._judge = self._new_judge([said])
        return self._factor * self._judge.of_fake(said)

    @property
    def value(self) -> Tensor:
        """The loss itself, with its weight, after all parts."""
        return self._factor * (self._judge.real + self._judge.fake)

    @property
    def _factor(self) -> float:
        return self._adversary.weight / (2 if self._adversary.relativistic else 1)

    @torch.no_grad()
    def _new_judge(self, said_fake: Sequence[Tensor]) -> Plain | Relativistic:
        said_real = []
        if self._adversary.relativistic:
            look = Look(self._run, self._adversary.role, len(self._real))
            said_real = [look(image) for image in self._real]
        return self._adversary.judge(self._run, False, said_real, said_fake)


class Look:
    """One forward pass of a discriminator over a whole batch that comes in parts.

    The first part's pass moves the spectral norm on; for every other pass of this look the norm is put back to where
    it was then, and afterwards left where others may have moved it meanwhile.

    Parameters
    ----------
    run : StepRun
    role : str
    parts : int
        1 if nothing is looked at a second time.
    forward : Module, optional
        What to call in place of the network itself.
    """

    def __init__(self, run: StepRun, role: str, parts: int, forward: nn.Module | None = None) -> None:
        self._run, self._parts = run, parts
        self._network = run.networks[role]
        self._forward = forward or self._network
        self._norm: list[Tensor] | None = None
        self._means: list[Tensor] = []

    def __call__(self, image: Tensor) -> Tensor:
        """Outputs for one part."""
        if self._norm is not None:
            with self._as_at_first():
                outputs = self._outputs(image)
        else:
            outputs = self._outputs(image)
            if self._parts > 1:
                self._norm = _copies(self._network)
        self._means.append(outputs.detach().mean())
        return outputs

    @property
    def mean(self) -> Tensor:
        """Mean output over everything that was looked at."""
        return torch.stack(self._means).mean()

    def _outputs(self, image: Tensor) -> Tensor:
        with self._run.autocast():
            outputs = self._forward(image)
        return precise(outputs)

    @contextmanager
    def _as_at_first(self) -> Iterator[None]:
        latest = _copies(self._network)
        _put(self._network, self._norm)
        self._network.eval()
        try:
            yield
        finally:
            self._network.train()
            _put(self._network, latest)


def _copies(network: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in network.buffers()]


@torch.no_grad()
def _put(network: nn.Module, buffers: Sequence[Tensor]) -> None:
    for buffer, kept in zip(network.buffers(), buffers, strict=True):
        buffer.copy_(kept)
