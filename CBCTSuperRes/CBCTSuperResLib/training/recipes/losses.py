"""The terms of a generator's and a discriminator's loss, by the names that the options give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

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
