"""Building blocks that several networks share.

Convolutions (one of them in full precision whatever surrounds it), the dense blocks of ESRGAN, enlargement, SPSR's
gradient map, and first weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2
RESIDUAL_SCALE = 0.2
LEAST, MOST = -18.0, 2.0  # of a log-variance in units of the window squared: deviations from 0.0001 to 2.7
USUAL = -7.0  # log-variance to begin with: a deviation of 3 % of the window
NOISE_UNIT = 0.1  # of the window: brings the map of the noise into the range of the others


def full_precision(x: Tensor) -> AbstractContextManager[None]:
    """Mixed precision is off inside; on the meta device, where operations are only counted, there is none."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


class FullPrecisionConv2d(nn.Conv2d):
    """A convolution in the precision of its weights.

    For last layers: an image rounded to eight bits has a texture that a discriminator would learn to see.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) of any precision -> (N, C', H', W')."""
        with full_precision(x):
            return super().forward(x.to(self.weight.dtype))


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


def maps_of(conditions: Sequence[str], dimensions: int) -> int:
    """Channels that `with_conditions` adds: one map of the blur for each axis, one of the noise."""
    return sum(dimensions if name == "blur" else 1 for name in conditions)


def with_conditions(x: Tensor, names: Sequence[str], conditions: Mapping[str, Tensor] | None) -> Tensor:
    """An image (N, C, *spatial) and what is known of its acquisition as constant maps behind it.

    Parameters
    ----------
    x : Tensor
    names : sequence of str
        Of the conditions, in the order of their maps.
    conditions : mapping of str to Tensor
        "blur" (N, spatial axes), in input voxels; "noise" (N, 1), in units of the window.

    Raises
    ------
    ValueError
        If a condition was not given.
    """
    if not names:
        return x
    missing = [name for name in names if name not in (conditions or {})]
    if missing:
        raise ValueError(f"the network was not told {', '.join(missing)}")
    values = [conditions[name] / NOISE_UNIT if name == "noise" else conditions[name] for name in names]
    maps = torch.cat(values, 1).to(x)
    return torch.cat((x, maps[(..., *[None] * (x.ndim - 2))].expand(-1, -1, *x.shape[2:])), 1)


class Scratch:
    """Memory that dense blocks take turns in, so that joining channels copies nothing. Only for inference on the CPU.

    Groups of `depth` channels lie one behind the other, (group, row, column, channel): a join is a longer view. To a
    convolution the groups are the depth of a 3-D image, over all of which it sums.
    """

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    @staticmethod
    def serves(x: Tensor, depth: int) -> bool:
        """Whether channels of this tensor (N, C, H, W) may be kept in groups, and oneDNN be called for them."""
        usable = x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()
        return usable and len(x) == 1 and x.shape[1] % depth == 0 and not torch.is_grad_enabled()

    def stack(self, groups: int, x: Tensor, depth: int) -> Tensor:
        """An image of groups (1, depth, groups, H, W), of which the first hold x (1, C, H, W), the others anything."""
        height, width = x.shape[2:]
        elements = groups * height * width * depth
        if self._memory is None or self._memory.numel() < elements:
            self._memory = None
            self._memory = torch.empty(elements)
        stack = self._memory[:elements].view(1, groups, height, width, depth).permute(0, 4, 1, 2, 3)
        stack[:, :, : x.shape[1] // depth] = grouped(x, depth)
        return stack


def grouped(tensor: Tensor, depth: int) -> Tensor:
    """(N, C, H, W) -> (N, depth, C / depth, H, W); channel c becomes channel c % depth of group c // depth."""
    return tensor.unflatten(1, (-1, depth)).transpose(1, 2)


def conv_stack(layer: nn.Conv2d, stack: Tensor) -> Tensor:
    """What a 3 x 3 layer gives for stacked channels (1, depth, groups, H, W): (1, C', H, W).

    oneDNN is called by name: `conv3d` leaves it for a much slower way where one thread works on a small image.
    """
    weight = grouped(layer.weight, stack.shape[1]).contiguous(memory_format=torch.channels_last_3d)
    return torch.mkldnn_convolution(stack, weight, layer.bias, [0, 1, 1], [1, 1, 1], [1, 1, 1], 1).squeeze(2)


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
        if self.scratch and self.scratch.serves(x, self.conv1.out_channels):
            return self._without_joins(x)
        dense = x
        for grow in (self.conv1, self.conv2, self.conv3, self.conv4):
            dense = torch.cat((dense, lrelu(grow(dense))), 1)
        return add_scaled(x, self.conv5(dense))

    def _without_joins(self, x: Tensor) -> Tensor:
        growth = self.conv1.out_channels
        first = x.shape[1] // growth
        stack = self.scratch.stack(first + 4, x, growth)
        for group, grow in enumerate((self.conv1, self.conv2, self.conv3, self.conv4), start=first):
            torch.ops.aten.leaky_relu.out(conv_stack(grow, stack[:, :, :group]), SLOPE, out=stack[:, :, group])
        return add_scaled(x, conv_stack(self.conv5, stack))


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
def initialise(module: nn.Module) -> None:
    """He-normal weights (fan in) times 0.1, zero biases: small weights keep deep residual networks calm."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=0, mode="fan_in")
            layer.weight.mul_(0.1)
            nn.init.zeros_(layer.bias)
