"""The terms of a generator's and a discriminator's loss, by the names that the options give them.

Generator against discriminator, exactly as over the whole batch, however many parts and processes it comes in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..step import Steps

Distance = Callable[[Tensor, Tensor], Tensor]
Verdict = Callable[[Tensor, bool], Tensor]  # loss of outputs that should say "real" (True) or "fake"
Mean = Callable[[Tensor], Tensor]


def vanilla(outputs: Tensor, real: bool) -> Tensor:
    """Cross-entropy of logits (Goodfellow et al., 2014)."""
    return -F.logsigmoid(outputs if real else -outputs).mean()


def lsgan(outputs: Tensor, real: bool) -> Tensor:
    """Mean squared distance from 1 (real) or 0 (Mao et al., Least squares GAN, 2017)."""
    return ((outputs - 1) if real else outputs).square().mean()


DISTANCES: dict[str, Distance] = {"l1": F.l1_loss, "l2": F.mse_loss}
VERDICTS: dict[str, Verdict] = {"vanilla": vanilla, "lsgan": lsgan}


class Plain:
    """Every output is judged alone: the real ones by `of_real`, the fake ones by `of_fake`.

    Parameters
    ----------
    verdict : callable
        "vanilla" or "lsgan".
    honest : bool
        True: real should look real and fake fake, a discriminator's wish. False: the generator's.
    """

    def __init__(self, verdict: Verdict, honest: bool) -> None:
        self._verdict, self._honest = verdict, honest
        self._real: list[Tensor] = []
        self._fake: list[Tensor] = []

    def of_real(self, outputs: Tensor) -> Tensor:
        """Loss of a part's real images."""
        loss = self._verdict(outputs, self._honest)
        self._real.append(loss.detach())
        return loss

    def of_fake(self, outputs: Tensor) -> Tensor:
        """Loss of a part's fake images."""
        loss = self._verdict(outputs, not self._honest)
        self._fake.append(loss.detach())
        return loss

    @property
    def real(self) -> Tensor | float:
        """Mean of the losses of the real images that were judged; 0 if none were."""
        return torch.stack(self._real).mean() if self._real else 0.0

    @property
    def fake(self) -> Tensor | float:
        """Likewise of the fake images."""
        return torch.stack(self._fake).mean() if self._fake else 0.0


class Relativistic:
    """Every output is judged by its distance from the mean output for the other kind (Jolicoeur-Martineau, 2019).

    The mean is over the whole batch, of which a caller holds only parts. For x in a part and m the mean for the other
    kind, the loss L depends on x twice: in its own term, and in the mean that the other kind's terms use. What
    `of_real` and `of_fake` return for a part is its own term, with m held, and has besides that term's gradient that of
    (dL/dm) * mean(x) with dL/dm held: averaged over all parts, exactly the gradient of L.

    Parameters
    ----------
    verdict : callable
    honest : bool
        As for `Plain`.
    real, fake : sequence of Tensor
        Outputs for all parts of this process, of equal size. Their gradients are not needed.
    mean_over_processes : callable
        Mean of a small tensor over all processes.

    Attributes
    ----------
    real, fake : Tensor
        Loss of this process's real and fake outputs.
    """

    def __init__(
        self, verdict: Verdict, honest: bool, real: Sequence[Tensor], fake: Sequence[Tensor], mean_over_processes: Mean
    ) -> None:
        self._verdict, self._honest = verdict, honest
        real, fake = [part.detach() for part in real], [part.detach() for part in fake]
        means = mean_over_processes(torch.stack((mean_of(real), mean_of(fake)))).detach()
        self._mean_real, self._mean_fake = means.unbind()
        self.real, to_fake = self._loss_and_slope(real, self._mean_fake, honest)
        self.fake, to_real = self._loss_and_slope(fake, self._mean_real, not honest)
        slopes = mean_over_processes(torch.stack((to_real, to_fake))).detach()
        self._slope_real, self._slope_fake = slopes.unbind()

    def of_real(self, outputs: Tensor) -> Tensor:
        """Loss of a part's real images, with all of the gradient that goes through them."""
        return self._verdict(outputs - self._mean_fake, self._honest) + _gradient_only(self._slope_real, outputs)

    def of_fake(self, outputs: Tensor) -> Tensor:
        """Likewise of its fake images."""
        return self._verdict(outputs - self._mean_real, not self._honest) + _gradient_only(self._slope_fake, outputs)

    @torch.enable_grad()
    def _loss_and_slope(self, parts: Sequence[Tensor], mean: Tensor, real: bool) -> tuple[Tensor, Tensor]:
        mean = mean.clone().requires_grad_()
        loss = torch.stack([self._verdict(part - mean, real) for part in parts]).mean()
        return loss.detach(), torch.autograd.grad(loss, mean)[0]


def _gradient_only(slope: Tensor, outputs: Tensor) -> Tensor:
    """Zero, with the gradient of slope * mean."""
    mean = outputs.mean()
    return slope * (mean - mean.detach())


def mean_of(parts: Sequence[Tensor]) -> Tensor:
    """Mean of all elements of parts of equal size."""
    return torch.stack([part.mean() for part in parts]).mean()


def precise(x: Tensor) -> Tensor:
    """In float32 at least: losses of half precision would lose small differences."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


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

    def persuade(self, run: Steps, real: Sequence[Tensor]) -> Persuasion:
        """The generator's loss against this discriminator, given the real images of all parts."""
        return Persuasion(run, self, real)

    def train(self, run: Steps, real: Sequence[Tensor], fake: Sequence[Tensor]) -> dict[str, Tensor]:
        """One update with the real and the fake images of all parts, which carry no gradients; returns what to log."""
        parts = len(real)
        with run.update(self.role) as update:
            look_at_real, look_at_fake = (Look(run, self.role, parts) for _ in range(2))
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

    def judge(self, run: Steps, honest: bool, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Plain | Relativistic:
        """The loss of the discriminator (honest) or the generator; plain losses need no outputs beforehand."""
        if self.relativistic:
            return Relativistic(self._verdict, honest, real, fake, run.mean_over_processes)
        return Plain(self._verdict, honest)

    def _judge_of_many(
        self, run: Steps, look_at_real: Look, real: Sequence[Tensor], look_at_fake: Look, fake: Sequence[Tensor]
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
    run : Steps
    adversary : Adversary
    real : sequence of Tensor
        Real images of all parts.
    """

    def __init__(self, run: Steps, adversary: Adversary, real: Sequence[Tensor]) -> None:
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
    run : Steps
    role : str
    parts : int
        1 if nothing is looked at a second time.
    """

    def __init__(self, run: Steps, role: str, parts: int) -> None:
        self._run, self._parts = run, parts
        self._network = run.networks[role]
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
            outputs = self._network(image)
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
