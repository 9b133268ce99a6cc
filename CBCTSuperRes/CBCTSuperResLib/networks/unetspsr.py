"""UNetSPSR's generator: super-resolution that is guided by a gradient branch.

Architecture: SPSR (Ma et al., Structure-Preserving Super Resolution with Gradient Guidance, CVPR 2020) with one
channel and a factor of two, as UNetSPSR uses it (Hosseinitabatabaei et al., Journal of Dental Research, 2025).
Written from the description of the network, not from its code, which has no licence. That neighbouring slices may come
along as channels is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log2, prod

import torch
from torch import Tensor, nn

from .blocks import (
    RRDB,
    FullPrecisionConv2d,
    ResidualDenseBlock,
    Scratch,
    Upsample,
    conv,
    gradient_map,
    initialise,
    lrelu,
)
from .options import UNetSPSROptions
from .spec import NetworkSpec


class UNetSPSR(nn.Module):
    """Two paths on the input's grid, fused on the output's.

    The trunk turns the image into features; the gradient branch does so with the image's gradient map and takes in
    the trunk's features at four taps. Both are enlarged and fused into the image; the gradient branch alone also gives
    the enlarged gradient map, which training compares with the true one.

    Parameters
    ----------
    nf : int
        Features of the trunk and of the gradient branch.
    nb : int
        Number of RRDBs in the trunk, at least 4.
    gc : int
        Growth channels of the dense blocks.
    in_nc, out_nc : int
        Channels of input and output, 1 or 3; in_nc is 2 * slices + 1 where there are neighbouring slices.
    scale : int
        1, 2, 3, 4 or 8.
    taps : sequence of four int, optional
        The gradient branch takes in the trunk's features after these RRDBs, counted from 1. Default: 5, 10, 15, 20 for
        nb >= 20, otherwise the quarters of the trunk.
    slices : int
        Neighbouring slices on either side that come as channels, in their order; the middle one is enlarged. The
        gradient branch sees the middle one alone.

    Raises
    ------
    ValueError
        If the options do not fit together.
    """

    full_precision = ("fusion_out",)

    def __init__(
        self,
        nf: int = 64,
        nb: int = 23,
        gc: int = 32,
        in_nc: int = 1,
        out_nc: int = 1,
        scale: int = 2,
        taps: Sequence[int] | None = None,
        slices: int = 0,
    ) -> None:
        super().__init__()
        checked = UNetSPSROptions(
            nf=nf, nb=nb, gc=gc, in_nc=in_nc, out_nc=out_nc, scale=scale, taps=taps, slices=slices
        )
        checked.check()
        self.taps = checked.branch_taps
        self.options = dict(nf=nf, nb=nb, gc=gc, in_nc=in_nc, out_nc=out_nc, scale=scale, taps=self.taps)
        self.slices = slices
        if slices:
            self.options["slices"] = slices
        steps = _upsampling_steps(scale)

        self.head = conv(in_nc, nf)
        self.trunk = nn.ModuleList(RRDB(nf, gc) for _ in range(nb))
        self.trunk_end = conv(nf, nf)

        self.branch_head = conv(1 if slices else in_nc, nf)
        self.branch_block = nn.ModuleList(RRDB(2 * nf, gc) for _ in self.taps)
        self.branch_reduce = nn.ModuleList(conv(2 * nf, nf) for _ in self.taps)
        self.branch_end = conv(nf, nf)

        self.up = nn.ModuleList(Upsample(nf, step) for step in steps)
        self.hr0 = conv(nf, nf)
        self.hr1 = conv(nf, nf)

        self.branch_up = nn.ModuleList(Upsample(nf, step) for step in steps)
        self.branch_hr0 = conv(nf, nf)
        self.branch_hr1 = conv(nf, nf)
        self.branch_out = conv(nf, out_nc, kernel=1)

        self.fusion_block = RRDB(2 * nf, gc)
        self.fusion_reduce = conv(2 * nf, nf)
        self.fusion_hr = conv(nf, nf)
        self.fusion_out = FullPrecisionConv2d(nf, out_nc, 3, padding=1)
        initialise(self)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Enlarge an image.

        Parameters
        ----------
        x : Tensor, shape (N, in_nc, H, W)
            Grey values in units of the window, float32 or float64.

        Returns
        -------
        dict
            "sr" (N, out_nc, sH, sW), "branch" (N, out_nc, sH, sW): the enlarged gradient map that the branch predicts,
            and "gradient" (N, in_nc, H, W), or (N, 1, H, W) where there are neighbouring slices: the gradient map of
            the (middle) input. None is clamped.
        """
        gradient = gradient_map(self.middle(x))
        return {**self.decode(self.encode(x, gradient)), "gradient": gradient}

    def middle(self, x: Tensor) -> Tensor:
        """The slice that is enlarged, (N, 1, H, W); all channels where there are no neighbouring slices."""
        return x[:, self.slices : self.slices + 1] if self.slices else x

    def encode(self, x: Tensor, gradient: Tensor | None = None) -> Tensor:
        """Features (N, 2 nf, H, W) on the input's grid: the trunk's, then the gradient branch's.

        The branch advances as the trunk reaches each tap, so that no tap's features are kept waiting.
        """
        first = trunk = self.head(x)
        branch_first = branch = self.branch_head(gradient_map(self.middle(x)) if gradient is None else gradient)
        stage = 0
        for number, block in enumerate(self.trunk, start=1):
            trunk = block(trunk)
            while stage < len(self.taps) and self.taps[stage] == number:
                joined = self.branch_block[stage](torch.cat((branch, trunk), 1))
                branch = self.branch_reduce[stage](joined)
                stage += 1
        return torch.cat((self.trunk_end(trunk) + first, self.branch_end(branch) + branch_first), 1)

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        """Enlarge and fuse features (N, 2 nf, h, w); "sr" and "branch", both (N, out_nc, s h, s w)."""
        trunk, branch = features.chunk(2, 1)
        trunk, branch = trunk.contiguous(), branch.contiguous()
        for up, branch_up in zip(self.up, self.branch_up, strict=True):
            trunk, branch = up(trunk), branch_up(branch)
        trunk = self.hr1(lrelu(self.hr0(trunk)))
        branch = self.branch_hr1(lrelu(self.branch_hr0(branch)))
        fused = self.fusion_reduce(self.fusion_block(torch.cat((branch, trunk), 1)))
        return {"sr": self.fusion_out(lrelu(self.fusion_hr(fused))), "branch": self.branch_out(branch)}

    def prepare_for_inference(self, device: torch.device) -> None:
        """On the CPU all dense blocks take turns in one memory, so that joining their channels copies nothing."""
        scratch = Scratch() if device.type == "cpu" else None
        for module in self.modules():
            if isinstance(module, ResidualDenseBlock):
                module.scratch = scratch

    def describe(self) -> NetworkSpec:
        """Facts that follow from the options; the context of `encode` is left to calibration."""
        nf, gc, scale = self.options["nf"], self.options["gc"], self.options["scale"]
        encode_flops, decode_flops = self._flops_per_pixel()
        return NetworkSpec(
            network="unetspsr",
            options={**self.options, "taps": list(self.taps)},
            dimensions=2,
            scale=scale,
            channels=1 if self.slices else self.options["in_nc"],
            slices=self.slices,
            decode_context=ceil(_decode_radius(scale) / scale),
            outputs={"sr": "image", "branch": "gradient", "gradient": "gradient"},
            encode_flops=encode_flops,
            encode_bytes=4.0 * (7 * nf + 2 * (2 * nf + 4 * gc) + 2 * nf),
            decode_flops=decode_flops / scale**2,
            decode_bytes=4.0 * (5 * nf + 2 * (2 * nf + 4 * gc)),
        )

    def _flops_per_pixel(self) -> tuple[float, float]:
        """Two operations for each weight and each pixel that it is applied to, counted for one pixel of the input.

        Those of `encode`, then those of `decode`.
        """
        scale, encode, decode = self.options["scale"], 0.0, 0.0
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d):
                part = name.removeprefix("branch_").partition(".")[0]
                flops = 2.0 * layer.weight.numel() * _enlargement(name, scale) ** 2
                if part in ("up", "hr0", "hr1", "out") or part.startswith("fusion"):
                    decode += flops
                else:
                    encode += flops
        return encode, decode


def _upsampling_steps(scale: int) -> list[int]:
    return [3] if scale == 3 else [2] * int(log2(scale))


def _decode_radius(scale: int) -> int:
    """Context of `decode`, in output pixels: one for each convolution, more for those before the last enlargement."""
    after_last_step = 1 + 1 + 15 + 1 + 1 + 1
    size, radius = 1, after_last_step
    for step in _upsampling_steps(scale):
        size *= step
        radius += scale // size
    return radius


def _enlargement(layer: str, scale: int) -> int:
    """By how much the image that a layer of this name works on is larger than the input."""
    part, _, rest = layer.removeprefix("branch_").partition(".")
    if part == "up":
        return prod(_upsampling_steps(scale)[: int(rest.split(".")[0]) + 1])
    return scale if part in ("hr0", "hr1", "out") or part.startswith("fusion") else 1
