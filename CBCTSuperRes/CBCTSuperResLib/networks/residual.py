"""A plain residual network: all work on the input's grid, and an interpolation that it corrects.

Architecture: residual blocks without normalisation (Lim et al., EDSR, CVPR Workshops 2017) and sub-pixel enlargement
(Shi et al., ESPCN, CVPR 2016). With the same number of operations it is faster than a UNetSPSR of few features, whose
last layers work on the output's grid, and learns more in the same time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import FullPrecisionConv2d, conv
from .options import ResidualOptions
from .spec import NetworkSpec

SLOPE = 0.1
CALM = 0.1  # how much smaller than usual the first weights are where a block or the network ends


class ResidualBlock(nn.Module):
    """x + conv(leaky ReLU(conv(x)))."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = conv(features, features)
        self.conv2 = conv(features, features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, H, W) -> the same shape."""
        return x + self.conv2(F.leaky_relu(self.conv1(x), SLOPE, inplace=True))


class ResidualNet(nn.Module):
    """Residual blocks; the last layer sees the input beside their features, and begins as linear interpolation.

    Parameters
    ----------
    nf : int
        Features.
    nb : int
        Number of residual blocks.
    in_nc, out_nc : int
        Channels of input and output, 1 or 3; in_nc is 2 * slices + 1 where there are neighbouring slices.
    scale : int
        1, 2, 3, 4 or 8.
    slices : int
        Neighbouring slices on either side that come as channels, in their order; the middle one is enlarged.

    Raises
    ------
    ValueError
        If the options do not fit together.
    """

    full_precision = ("tail",)

    def __init__(
        self, nf: int = 64, nb: int = 23, in_nc: int = 1, out_nc: int = 1, scale: int = 2, slices: int = 0
    ) -> None:
        super().__init__()
        self.options = dict(nf=nf, nb=nb, in_nc=in_nc, out_nc=out_nc, scale=scale, slices=slices)
        ResidualOptions(**self.options).check()
        self.slices = slices
        self.head = conv(in_nc, nf)
        self.blocks = nn.ModuleList(ResidualBlock(nf) for _ in range(nb))
        self.tail = FullPrecisionConv2d(nf + out_nc, out_nc * scale**2, 3, padding=1)
        self._initialise()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, in_nc, H, W) in units of the window -> "sr" (N, out_nc, sH, sW), not clamped."""
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        """Features and the (middle) input itself, (N, nf + out_nc, H, W)."""
        features = self.head(x)
        for block in self.blocks:
            features = block(features)
        middle = x[:, self.slices : self.slices + 1] if self.slices else x
        return torch.cat((features.to(x.dtype), middle), 1)

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        """ "sr" (N, out_nc, s h, s w) of features (N, nf + out_nc, h, w)."""
        return {"sr": F.pixel_shuffle(self.tail(features), self.options["scale"])}

    def describe(self) -> NetworkSpec:
        """Facts that follow from the options."""
        nf, scale = self.options["nf"], self.options["scale"]
        weights = sum(layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Conv2d))
        return NetworkSpec(
            network="residual",
            options=dict(self.options),
            dimensions=2,
            scale=scale,
            channels=self.options["out_nc"],
            slices=self.slices,
            context=2 * len(self.blocks) + 2,
            decode_context=1,
            encode_flops=2.0 * (weights - self.tail.weight.numel()),
            encode_bytes=4.0 * (4 * nf + 2),
            decode_flops=2.0 * self.tail.weight.numel() / scale**2,
            decode_bytes=4.0 * (2 * nf + 3 * scale**2) / scale**2,
        )

    @torch.no_grad()
    def _initialise(self) -> None:
        """He-normal weights, small where blocks and network end; the path past the blocks interpolates linearly."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=SLOPE)
                nn.init.zeros_(layer.bias)
        for layer in (*(block.conv2 for block in self.blocks), self.tail):
            layer.weight.mul_(CALM)
        channels, scale = self.options["out_nc"], self.options["scale"]
        self.tail.weight[:, -channels:] = 0
        for channel in range(channels):
            for row in range(scale):
                for column in range(scale):
                    kernel = torch.outer(_linear(row, scale), _linear(column, scale))
                    place = (channel * scale + row) * scale + column
                    self.tail.weight[place, channel - channels] = kernel


def _linear(part: int, scale: int) -> Tensor:
    """Weights of a pixel and its neighbours before and behind for one of the `scale` parts that it becomes."""
    offset = (part + 0.5) / scale - 0.5
    return torch.tensor([max(0.0, -offset), 1 - abs(offset), max(0.0, offset)])
