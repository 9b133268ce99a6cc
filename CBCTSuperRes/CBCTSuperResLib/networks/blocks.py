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


def add_scaled(x: Tensor, residual: Tensor) -> Tensor:
    """x + 0.2 * residual, into the residual's own memory when no gradient is wanted."""
    if torch.is_grad_enabled():
        return torch.add(x, residual, alpha=RESIDUAL_SCALE)
    return torch.add(x, residual, alpha=RESIDUAL_SCALE, out=residual)


class Scratch:
    """Memory that dense blocks take turns in, instead of asking for fresh memory at each of their joins.

    A join needs its own input while it writes, so there are two pieces, used alternately. Only for inference: a
    gradient would need every join to stay.
    """

    def __init__(self) -> None:
        self._pieces: list[Tensor | None] = [None, None]
        self._turn = 0

    def cat(self, tensors: tuple[Tensor, Tensor], dim: int) -> Tensor:
        """`torch.cat` of two tensors (N, C, H, W) along the channels, stored channels last."""
        first, second = tensors
        n, c, h, w = first.shape
        c += second.shape[1]
        self._turn = 1 - self._turn
        piece = self._piece(n * h * w * c, first)
        return torch.cat(tensors, dim, out=piece[: n * h * w * c].view(n, h, w, c).permute(0, 3, 1, 2))

    def _piece(self, elements: int, like: Tensor) -> Tensor:
        piece = self._pieces[self._turn]
        if piece is None or piece.numel() < elements or piece.dtype != like.dtype or piece.device != like.device:
            self._pieces[self._turn] = None
            piece = self._pieces[self._turn] = torch.empty(elements, dtype=like.dtype, device=like.device)
        return piece

    def clear(self) -> None:
        """Give the memory back."""
        self._pieces = [None, None]


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

        self.scratch: Scratch | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, H, W) -> the same shape."""
        join = self.scratch.cat if self.scratch else torch.cat
        dense = x
        for grow in (self.conv1, self.conv2, self.conv3, self.conv4):
            dense = join((dense, lrelu(grow(dense))), 1)
        return add_scaled(x, self.conv5(dense))


class RRDB(nn.Module):
    """Residual in residual dense block: three dense blocks and a scaled residual around them."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(features, growth)
        self.rdb2 = ResidualDenseBlock(features, growth)
        self.rdb3 = ResidualDenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, H, W) -> the same shape."""
        return add_scaled(x, self.rdb3(self.rdb2(self.rdb1(x))))


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
