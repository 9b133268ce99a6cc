"""A training step of UNetSPSR as one would write it down: every network and every loss as the papers give them."""

from __future__ import annotations

import torch
from CBCTSuperResLib.networks import build_network
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

PIXEL, BRANCH, GRADIENT, GAN, GRADIENT_GAN = 0.3, 0.5, 1e-2, 5e-3, 5e-3


class PlainUNet(nn.Module):
    """Real-ESRGAN's discriminator with torch's spectral norm."""

    def __init__(self, nf: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(1, nf, 3, 1, 1)
        self.conv1 = spectral_norm(nn.Conv2d(nf, nf * 2, 4, 2, 1, bias=False))
        self.conv2 = spectral_norm(nn.Conv2d(nf * 2, nf * 4, 4, 2, 1, bias=False))
        self.conv3 = spectral_norm(nn.Conv2d(nf * 4, nf * 8, 4, 2, 1, bias=False))
        self.conv4 = spectral_norm(nn.Conv2d(nf * 8, nf * 4, 3, 1, 1, bias=False))
        self.conv5 = spectral_norm(nn.Conv2d(nf * 4, nf * 2, 3, 1, 1, bias=False))
        self.conv6 = spectral_norm(nn.Conv2d(nf * 2, nf, 3, 1, 1, bias=False))
        self.conv7 = spectral_norm(nn.Conv2d(nf, nf, 3, 1, 1, bias=False))
        self.conv8 = spectral_norm(nn.Conv2d(nf, nf, 3, 1, 1, bias=False))
        self.conv9 = nn.Conv2d(nf, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        def act(y: Tensor) -> Tensor:
            return F.leaky_relu(y, 0.2, inplace=True)

        def up(y: Tensor) -> Tensor:
            return F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)

        x0 = act(self.conv0(x))
        x1 = act(self.conv1(x0))
        x2 = act(self.conv2(x1))
        x3 = act(self.conv3(x2))
        x4 = act(self.conv4(up(x3))) + x2
        x5 = act(self.conv5(up(x4))) + x1
        x6 = act(self.conv6(up(x5))) + x0
        return self.conv9(act(self.conv8(act(self.conv7(x6)))))


class PlainTraining:
    """Three networks, three optimisers, one batch after the other.

    Parameters
    ----------
    states : dict
        Weights of "G", "D" and "D_grad".
    generator_options, nf : dict, int
        Of the generator, and the discriminators' features.
    device : str
    """

    def __init__(self, states: dict, generator_options: dict, nf: int, device: str) -> None:
        self.G = build_network("unetspsr", **generator_options)
        self.D, self.D_grad = PlainUNet(nf), PlainUNet(nf)
        for name, state in states.items():
            network = getattr(self, name)
            network.load_state_dict(state)
            network.to(device).train()
        networks = (self.G, self.D, self.D_grad)
        self.optimizers = [torch.optim.Adam(network.parameters(), lr=1e-4) for network in networks]
        kernels = [[[0, -1, 0], [0, 0, 0], [0, 1, 0]], [[0, 0, 0], [-1, 0, 1], [0, 0, 0]]]
        self.kernels = torch.tensor(kernels, dtype=torch.float32, device=device)[:, None]

    def gradient(self, x: Tensor) -> Tensor:
        down, right = (F.conv2d(x, kernel[None], padding=1) for kernel in self.kernels)
        return torch.sqrt(down**2 + right**2 + 1e-6)

    def step(self, low: Tensor, high: Tensor) -> dict[str, float]:
        adam_g, adam_d, adam_d_grad = self.optimizers
        for discriminator in (self.D, self.D_grad):
            discriminator.requires_grad_(False)
        adam_g.zero_grad()
        output = self.G(low)
        sr, branch = output["sr"], output["branch"]
        sr_gradient, high_gradient = self.gradient(sr), self.gradient(high)
        logs = {
            "l_g_pix": PIXEL * F.l1_loss(sr, high),
            "l_g_pix_grad_branch": BRANCH * F.l1_loss(branch, high_gradient),
            "l_g_pix_grad": GRADIENT * F.mse_loss(sr_gradient, high_gradient),
            "l_g_gan": GAN * self._persuasion(self.D, high, sr),
            "l_g_gan_grad": GRADIENT_GAN * self._persuasion(self.D_grad, high_gradient, sr_gradient),
        }
        logs["l_g_total"] = sum(logs.values())
        logs["l_g_total"].backward()
        adam_g.step()
        judges = (self.D, adam_d, high, sr, ""), (self.D_grad, adam_d_grad, high_gradient, sr_gradient, "_grad")
        for discriminator, optimizer, real, fake, suffix in judges:
            discriminator.requires_grad_(True)
            optimizer.zero_grad()
            said_real, said_fake = discriminator(real), discriminator(fake.detach())
            logs["l_d_real" + suffix] = _least_squares(said_real - said_fake.mean(), 1.0)
            logs["l_d_fake" + suffix] = _least_squares(said_fake - said_real.mean(), 0.0)
            ((logs["l_d_real" + suffix] + logs["l_d_fake" + suffix]) / 2).backward()
            optimizer.step()
        return {name: value.item() for name, value in logs.items()}

    @staticmethod
    def _persuasion(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        said_fake, said_real = discriminator(fake), discriminator(real).detach()
        down = _least_squares(said_real - said_fake.mean(), 0.0)
        up = _least_squares(said_fake - said_real.mean(), 1.0)
        return (down + up) / 2


def _least_squares(outputs: Tensor, label: float) -> Tensor:
    return F.mse_loss(outputs, torch.full_like(outputs, label))
