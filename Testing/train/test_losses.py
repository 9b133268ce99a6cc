"""The adversarial losses have the documented values, and their parts the gradient of the whole."""

from __future__ import annotations

import pytest
import torch
from CBCTSuperResLib.core.errors import OptionError
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.recipes.gan import GAN_LOSSES, Relativistic
from fixtures_spsr import unit

ROUNDING = 2.4e-7  # two units of float32, in which the values were computed
VALUES = {
    "vanilla": (0.003114179, 1.06198859, 1.04927611, 0.73741585, 0.97064346, 0.89668834),
    "lsgan": (0.0067612, 3.20005012, 1.23561645, 1.755126, 2.76900792, 1.0736711),
}


def outputs(seed: int) -> torch.Tensor:
    return torch.from_numpy(unit((2, 1, 4, 4), seed) * 4 - 2).float()


def alone(value: torch.Tensor) -> torch.Tensor:
    return value


@pytest.fixture
def real() -> torch.Tensor:
    return outputs(12)


@pytest.fixture
def fake() -> torch.Tensor:
    return outputs(13)


@pytest.mark.parametrize("name", VALUES)
def test_relativistic_losses_have_the_documented_values(name, real, fake):
    generator, l_d_real, l_d_fake = VALUES[name][:3]
    wish = Relativistic(GAN_LOSSES[name], False, [real], [fake], alone)
    assert (5e-3 * (wish.real + wish.fake) / 2).item() == pytest.approx(generator, rel=ROUNDING)
    judge = Relativistic(GAN_LOSSES[name], True, [real], [fake], alone)
    assert [judge.real.item(), judge.fake.item()] == pytest.approx([l_d_real, l_d_fake], rel=ROUNDING)


@pytest.mark.parametrize("name", VALUES)
def test_plain_losses_have_the_documented_values(name, real, fake):
    loss = GAN_LOSSES[name]
    found = [loss(fake, True).item(), loss(real, True).item(), loss(fake, False).item()]
    assert found == pytest.approx(VALUES[name][3:], rel=ROUNDING)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("honest", [True, False])
def test_the_parts_of_a_relativistic_loss_have_the_gradient_of_the_whole(name, honest, real, fake):
    real, fake = real.double().requires_grad_(), fake.double().requires_grad_()
    verdict = GAN_LOSSES[name]
    whole = verdict(real - fake.mean(), honest) + verdict(fake - real.mean(), not honest)
    expected = torch.autograd.grad(whole, (real, fake))
    parts = [real[:1], real[1:]], [fake[:1], fake[1:]]
    judge = Relativistic(verdict, honest, *parts, alone)
    pieces = sum(judge.of_real(part) for part in parts[0]) + sum(judge.of_fake(part) for part in parts[1])
    found = torch.autograd.grad(pieces / 2, (real, fake))
    assert (judge.real + judge.fake).item() == pytest.approx(whole.item(), rel=1e-14)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", VALUES)
def test_very_large_outputs_have_finite_losses(name):
    large = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = GAN_LOSSES[name](large, True) + GAN_LOSSES[name](large, False)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(large.grad).all()


def test_a_penalty_that_is_not_offered_is_refused_by_name():
    options = {"datasets": {"train": {"mode": "HR", "dataroot_HR": "slices"}}, "train": {"gan_type": "wgan-gp"}}
    with pytest.raises(OptionError, match="wgan-gp"):
        read_options(options)
