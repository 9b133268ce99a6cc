"""Real-ESRGAN's discriminator: a U-Net with spectral norm that judges every pixel.

Architecture: Wang et al., Real-ESRGAN, 2021, section 3.3; spectral norm: Miyato et al., 2018. Written from the
description. The names of the tensors are those of Real-ESRGAN's files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import FullPrecisionConv2d, conv, full_precision, lrelu

EPSILON = 1e-12


class SpectralConv2d(nn.Module):
    """A convolution without bias whose weights are divided by their largest singular value.

    Each forward pass in training mode improves the estimate of the singular vectors by one power iteration; in
    evaluation mode they stand still.

    Parameters
    ----------
    inputs, outputs, kernel, stride : int
        As of `torch.nn.Conv2d`; the image is padded by one zero on every side.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        weight = nn.Conv2d(inputs, outputs, kernel, bias=False).weight.detach()
        self.weight_orig = nn.Parameter(weight)
        self.register_buffer("weight_u", _unit(torch.randn(outputs)))
        self.register_buffer("weight_v", _unit(torch.randn(weight[0].numel())))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W')."""
        with full_precision(x):
            weight = self.weight_orig / self._largest_singular_value()
        return F.conv2d(x, weight, stride=self.stride, padding=1)

    def _largest_singular_value(self) -> Tensor:
        matrix = self.weight_orig.flatten(1)
        if self.training:
            self._iterate(matrix.detach())
        # Later passes change the vectors in place before this pass's gradients are computed.
        u, v = self.weight_u.clone(), self.weight_v.clone()
        return torch.dot(u, torch.mv(matrix, v))

    @torch.no_grad()
    def _iterate(self, matrix: Tensor) -> None:
        self.weight_v.copy_(_unit(torch.mv(matrix.t(), self.weight_u)))
        self.weight_u.copy_(_unit(torch.mv(matrix, self.weight_v)))


class UNetDiscriminator(nn.Module):
    """Three halvings and three doublings with sums across; one logit for each pixel.

    Parameters
    ----------
    in_nc : int
        Channels of the images.
    nf : int
        Features of the first and the last layers.
    skip_connection : bool
        Whether the features of the way down are added on the way up.
    """

    multiple = 8  # of height and width

    def __init__(self, in_nc: int = 1, nf: int = 64, skip_connection: bool = True) -> None:
        super().__init__()
        self.skip_connection = skip_connection
        self.conv0 = conv(in_nc, nf)
        self.conv1 = SpectralConv2d(nf, 2 * nf, 4, stride=2)
        self.conv2 = SpectralConv2d(2 * nf, 4 * nf, 4, stride=2)
        self.conv3 = SpectralConv2d(4 * nf, 8 * nf, 4, stride=2)
        self.conv4 = SpectralConv2d(8 * nf, 4 * nf, 3)
        self.conv5 = SpectralConv2d(4 * nf, 2 * nf, 3)
        self.conv6 = SpectralConv2d(2 * nf, nf, 3)
        self.conv7 = SpectralConv2d(nf, nf, 3)
        self.conv8 = SpectralConv2d(nf, nf, 3)
        self.conv9 = FullPrecisionConv2d(nf, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_nc, H, W) -> logits (N, 1, H, W); H and W are multiples of 8, otherwise ValueError."""
        if x.shape[-2] % self.multiple or x.shape[-1] % self.multiple:
            raise ValueError(f"The U-Net discriminator needs multiples of 8, not {x.shape[-2]} x {x.shape[-1]} pixels.")
        full = lrelu(self.conv0(x))
        half = lrelu(self.conv1(full))
        quarter = lrelu(self.conv2(half))
        eighth = lrelu(self.conv3(quarter))
        x = self._joined(lrelu(self.conv4(_doubled(eighth))), quarter)
        x = self._joined(lrelu(self.conv5(_doubled(x))), half)
        x = self._joined(lrelu(self.conv6(_doubled(x))), full)
        return self.conv9(lrelu(self.conv8(lrelu(self.conv7(x)))))

    def _joined(self, up: Tensor, down: Tensor) -> Tensor:
        return up + down if self.skip_connection else up


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _unit(vector: Tensor) -> Tensor:
    return F.normalize(vector, dim=0, eps=EPSILON)
