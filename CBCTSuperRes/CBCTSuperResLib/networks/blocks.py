"""Building blocks that several networks share: the dense blocks of ESRGAN and the gradient map of SPSR."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2
RESIDUAL_SCALE = 0.2


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """Convolution with bias that keeps the size; outside the image is zero."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def lrelu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, in place: its input is always a fresh convolution result."""
    return F.leaky_relu(x, SLOPE, inplace=True)


class ResidualDenseBlock(nn.Module):
    """Five densely connected convolutions with a scaled residual (Wang et al., ESRGAN, 2018, section 3.1).

    Parameters
    ----------
    features : int
        Channels of input and output.
    growth : int
        Channels that each of the first four convolutions adds.
    """

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = conv(features, growth)
        self.conv2 = conv(features + growth, growth)
        self.conv3 = conv(features + 2 * growth, growth)
        self.conv4 = conv(features + 3 * growth, growth)
        self.conv5 = conv(features + 4 * growth, features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, H, W) -> the same shape."""
        dense = x
        for grow in (self.conv1, self.conv2, self.conv3, self.conv4):
            dense = torch.cat((dense, lrelu(grow(dense))), 1)
        return torch.add(x, self.conv5(dense), alpha=RESIDUAL_SCALE)


class RRDB(nn.Module):
    """Residual in residual dense block: three dense blocks and a scaled residual around them."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(features, growth)
        self.rdb2 = ResidualDenseBlock(features, growth)
        self.rdb3 = ResidualDenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, H, W) -> the same shape."""
        return torch.add(x, self.rdb3(self.rdb2(self.rdb1(x))), alpha=RESIDUAL_SCALE)


class Upsample(nn.Module):
    """Nearest enlargement by a whole factor, a convolution and a leaky ReLU."""

    def __init__(self, features: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = conv(features, features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, F, H, W) -> (N, F, factor * H, factor * W)."""
        return lrelu(self.conv(F.interpolate(x, scale_factor=float(self.factor), mode="nearest")))


def gradient_map(x: Tensor, padding: int = 1) -> Tensor:
    """Length of the central difference of each channel (Ma et al., SPSR, 2020, equation 5).

    sqrt((x[i+1, j] - x[i-1, j])^2 + (x[i, j+1] - x[i, j-1])^2 + 1e-6), without the factor 1/2; pixels outside the
    image count as zero, so a flat image gives 0.001 inside and a false edge along its border.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W)
    padding : int
        1 keeps the size; 2 gives (H + 2, W + 2), which SPSR's own losses use.

    Returns
    -------
    Tensor, shape (N, C, H + 2 * padding - 2, W + 2 * padding - 2)
    """
    x = F.pad(x, (padding,) * 4)
    down = x[..., 2:, 1:-1] - x[..., :-2, 1:-1]
    right = x[..., 1:-1, 2:] - x[..., 1:-1, :-2]
    return torch.sqrt(down**2 + right**2 + 1e-6)


@torch.no_grad()
def initialise(module: nn.Module, scale: float = 0.1) -> None:
    """He-normal weights (fan in) times `scale`, zero biases: small weights keep deep residual networks calm."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=0, mode="fan_in")
            layer.weight.mul_(scale)
            nn.init.zeros_(layer.bias)
