"""Weights to begin with, other than the usual small random ones."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def begin_as_interpolation(network: nn.Module, gain: float = 0.7) -> None:
    """Initial weights of a UNetSPSR with which its output is nearly the linear interpolation of its input.

    UNetSPSR has no skip from input to output, so a small network would spend its first thousand steps on learning the
    identity. One feature for each channel carries the image (of several slices the middle one) from the head to the
    output: nearest enlargement by two and the kernel [1, 2, 1]/4, or by three and [1, 1, 1]/3, are linear
    interpolation. All other weights are random, and small where they meet that path's end.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=0.2)
            layer.weight.mul_(gain)
            nn.init.zeros_(layer.bias)
    nf = network.options["nf"]
    point = torch.tensor([0.0, 1.0, 0.0])
    smooth = {2: torch.tensor([1.0, 2.0, 1.0]) / 4, 3: torch.ones(3) / 3}
    path = [(network.head, network.slices, point), *((up.conv, 0, smooth[up.factor]) for up in network.up)]
    path += [(network.hr0, 0, point), (network.hr1, 0, point), (network.fusion_reduce, nf, point)]
    path += [(network.fusion_hr, 0, point), (network.fusion_out, 0, point)]
    for channel in range(min(nf, network.describe().channels, network.options["out_nc"])):
        for layer, source, profile in path:
            layer.weight[channel] *= 0.05
            layer.weight[channel, source + channel] = torch.outer(profile, profile)
        network.trunk_end.weight[channel] *= 0.05
    for block in network.fusion_block.children():
        block.conv5.weight *= 0.3
