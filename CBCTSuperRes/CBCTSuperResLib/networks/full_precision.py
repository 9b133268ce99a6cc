"""A layer that stays in float32 while automatic mixed precision runs everything around it in half precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FullPrecisionConv2d(nn.Conv2d):
    """A convolution in the precision of its weights.

    For last layers: an image rounded to eight bits has a texture that a discriminator would learn to see.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) of any precision -> (N, C', H', W')."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))
