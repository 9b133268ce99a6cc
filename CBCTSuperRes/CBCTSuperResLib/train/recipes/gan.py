"""A generator against discriminators, exactly as over the whole batch, however many parts and processes it comes in.

Losses are relativistic (Jolicoeur-Martineau, 2019). Over several parts they need all outputs before the first gradient:
these are computed once without gradients, and then, part by part, with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..step import Steps

GanLoss = Callable[[Tensor, bool], Tensor]  # of outputs that should say "real" (True) or "fake"


def vanilla(outputs: Tensor, real: bool) -> Tensor:
    """Cross-entropy of logits (Goodfellow et al., 2014)."""
    return -F.logsigmoid(outputs if real else -outputs).mean()


def lsgan(outputs: Tensor, real: bool) -> Tensor:
    """Mean squared distance from 1 (real) or 0 (Mao et al., Least squares GAN, 2017)."""
    return ((outputs - 1) if real else outputs).square().mean()


GAN_LOSSES: dict[str, GanLoss] = {"vanilla": vanilla, "lsgan": lsgan}


class DiscriminatorTraining:
    """What one discriminator makes the generator learn, and its own updates.

    Parameters
    ----------
    role : str
        "D" or "D_grad".
    weight : float
        Of the generator's loss against this discriminator.
    loss : callable
        One of `GAN_LOSSES`.
    """

    def __init__(self, role: str, weight: float, loss: GanLoss) -> None:
        self.role, self.weight, self.loss = role, weight, loss

    def update(self, run: Steps, real: Sequence[Tensor], fake: Sequence[Tensor]) -> dict[str, Tensor]:
        """One update with the real and the fake images of all parts, which carry no gradients; returns what to log."""
        parts = len(real)
        with run.update(self.role) as update:
            of_real, of_fake = (DiscriminatorPass(run, self.role, parts) for _ in range(2))
            if parts == 1:
                said_real, said_fake = of_real(real[0]), of_fake(fake[0])
                loss = Relativistic(self.loss, True, [said_real], [said_fake], run.mean_over_processes)
                update.backward((loss.of_real(said_real) + loss.of_fake(said_fake)) / 2)
            else:
                with torch.no_grad():
                    said = [of_real(image) for image in real], [of_fake(image) for image in fake]
                loss = Relativistic(self.loss, True, *said, run.mean_over_processes)
                for image in real:
                    update.backward(loss.of_real(of_real(image)) / (2 * parts), last=False)
                for number, image in enumerate(fake, start=1):
                    update.backward(loss.of_fake(of_fake(image)) / (2 * parts), last=number == parts)
        logs = {"l_d_real": loss.real, "l_d_fake": loss.fake, "D_real": of_real.mean, "D_fake": of_fake.mean}
        return {**logs, "D_gap": logs["D_real"] - logs["D_fake"]}


class GeneratorTerm:
    """The generator's loss against one discriminator in one update.

    It makes the fake images look more real than the real ones do on average, and those less than the fake ones.

    Parameters
    ----------
    run : Steps
    discriminator : DiscriminatorTraining
    real : sequence of Tensor
        Real images of all parts.
    """

    def __init__(self, run: Steps, discriminator: DiscriminatorTraining, real: Sequence[Tensor]) -> None:
        self._run, self._discriminator, self._real = run, discriminator, real
        self._pass = DiscriminatorPass(run, discriminator.role, len(real))
        self._relativistic: Relativistic | None = None

    @torch.no_grad()
    def see_all(self, fake: Sequence[Tensor]) -> None:
        """Take in the fake images of all parts, which carry no gradients; for several parts, before the first loss."""
        self._relate([self._pass(image) for image in fake])

    def loss(self, fake: Tensor) -> Tensor:
        """A value whose gradient is the loss's through a part's fake images; its mean over all parts counts."""
        said = self._pass(fake)
        if self._relativistic is None:
            self._relate([said])
        return self._discriminator.weight / 2 * self._relativistic.of_fake(said)

    @property
    def value(self) -> Tensor:
        """The loss itself, with its weight, after all parts."""
        return self._discriminator.weight / 2 * (self._relativistic.real + self._relativistic.fake)

    @torch.no_grad()
    def _relate(self, said_fake: Sequence[Tensor]) -> None:
        of_real = DiscriminatorPass(self._run, self._discriminator.role, len(self._real))
        said_real = [of_real(image) for image in self._real]
        self._relativistic = Relativistic(
            self._discriminator.loss, False, said_real, said_fake, self._run.mean_over_processes
        )


class Relativistic:
    """Every output is judged by its distance from the mean output for the other kind (Jolicoeur-Martineau, 2019).

    The mean is over the whole batch, of which a caller holds only parts. For x in a part and m the mean for the other
    kind, the loss L depends on x twice: in its own term, and in the mean that the other kind's terms use. What
    `of_real` and `of_fake` return for a part is its own term, with m held, and has besides that term's gradient that of
    (dL/dm) * mean(x) with dL/dm held: averaged over all parts, exactly the gradient of L.

    Parameters
    ----------
    loss : callable
        One of `GAN_LOSSES`.
    honest : bool
        True: real should look real and fake fake, a discriminator's wish. False: the generator's.
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
        self,
        loss: GanLoss,
        honest: bool,
        real: Sequence[Tensor],
        fake: Sequence[Tensor],
        mean_over_processes: Callable[[Tensor], Tensor],
    ) -> None:
        self._loss, self._honest = loss, honest
        real, fake = [part.detach() for part in real], [part.detach() for part in fake]
        means = mean_over_processes(torch.stack((_mean_of(real), _mean_of(fake)))).detach()
        self._mean_real, self._mean_fake = means.unbind()
        self.real, to_fake = self._value_and_slope(real, self._mean_fake, honest)
        self.fake, to_real = self._value_and_slope(fake, self._mean_real, not honest)
        slopes = mean_over_processes(torch.stack((to_real, to_fake))).detach()
        self._slope_real, self._slope_fake = slopes.unbind()

    def of_real(self, outputs: Tensor) -> Tensor:
        """Loss of a part's real images, with all of the gradient that goes through them."""
        return self._loss(outputs - self._mean_fake, self._honest) + _gradient_only(self._slope_real, outputs)

    def of_fake(self, outputs: Tensor) -> Tensor:
        """Likewise of its fake images."""
        return self._loss(outputs - self._mean_real, not self._honest) + _gradient_only(self._slope_fake, outputs)

    @torch.enable_grad()
    def _value_and_slope(self, parts: Sequence[Tensor], mean: Tensor, real: bool) -> tuple[Tensor, Tensor]:
        mean = mean.clone().requires_grad_()
        value = torch.stack([self._loss(part - mean, real) for part in parts]).mean()
        return value.detach(), torch.autograd.grad(value, mean)[0]


def _gradient_only(slope: Tensor, outputs: Tensor) -> Tensor:
    """Zero, with the gradient of slope * mean."""
    mean = outputs.mean()
    return slope * (mean - mean.detach())


def _mean_of(parts: Sequence[Tensor]) -> Tensor:
    """Mean of all elements of parts of equal size."""
    return torch.stack([part.mean() for part in parts]).mean()


class DiscriminatorPass:
    """One forward pass of a discriminator over a whole batch that comes in parts.

    The first part moves the spectral norm on; for all that is computed of this pass later the norm is put back to where
    it was then, and afterwards left where others may have moved it meanwhile.

    Parameters
    ----------
    run : Steps
    role : str
    parts : int
        1 if nothing is computed a second time.

    Attributes
    ----------
    mean : Tensor
        Mean output over everything that was computed.
    """

    def __init__(self, run: Steps, role: str, parts: int) -> None:
        self._run, self._parts, self._network = run, parts, run.networks[role]
        self._norm: list[Tensor] | None = None
        self._means: list[Tensor] = []

    def __call__(self, image: Tensor) -> Tensor:
        """Outputs for one part, in float32 at least."""
        is_first = self._norm is None
        with nullcontext() if is_first else self._as_at_first(), self._run.autocast():
            outputs = self._network(image)
        if is_first and self._parts > 1:
            self._norm = [buffer.clone() for buffer in self._network.buffers()]
        outputs = precise(outputs)
        self._means.append(outputs.detach().mean())
        return outputs

    @property
    def mean(self) -> Tensor:
        return torch.stack(self._means).mean()

    @contextmanager
    def _as_at_first(self) -> Iterator[None]:
        latest = [buffer.clone() for buffer in self._network.buffers()]
        _put(self._network, self._norm)
        self._network.eval()
        try:
            yield
        finally:
            self._network.train()
            _put(self._network, latest)


@torch.no_grad()
def _put(network: nn.Module, buffers: Sequence[Tensor]) -> None:
    for buffer, kept in zip(network.buffers(), buffers, strict=True):
        buffer.copy_(kept)


def precise(x: Tensor) -> Tensor:
    """In float32 at least: losses of half precision would lose small differences."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
