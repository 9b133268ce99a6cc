"""Networks of the VGG kind that training needs: VGG19 and VGG16 for perceptual losses, and SPSR's discriminator.

Simonyan and Zisserman, 2015. VGG19 is configuration E, layers 0 to 34 of torchvision's `vgg19().features`, whose names
the tensors have: up to the last convolution, before its activation. VGG16 is configuration D up to relu2_2 (Johnson et
al., 2016), layers 0 to 8 of `vgg16().features`. torchvision itself is not needed.

The discriminator: Ledig et al., SRGAN, 2017, figure 4, as SPSR uses it (Ma et al., 2020): the first layers of a VGG
network with batch norm, one logit for each image. Written from the description; the names of the tensors are those of
SPSR's files.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from .blocks import SLOPE

LAYERS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512)  # 0: halve
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WIDTHS = (1, 1, 2, 4, 8, 8)  # of the discriminator, times nf
SMALLEST, LARGEST = 128, 159  # pixels that it takes: five halvings leave 4 x 4


class _Features(nn.Module):
    """Features of images in [0, 1]; grey images are given to all three colours. Never trained."""

    def __init__(self, widths: Sequence[int], activated: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in widths:
            if outputs:
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = outputs
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*(layers if activated else layers[:-1]))
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            per_channel = torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)
            self.register_buffer(name, per_channel, persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1 or 3, H, W) -> (N, features, H', W')."""
        colours = x if x.shape[1] == 3 else x.expand(-1, 3, -1, -1)
        return self.features((colours - self.mean.to(x.dtype)) / self.deviation.to(x.dtype))

    def train(self, mode: bool = True) -> _Features:
        """Stays in evaluation mode."""
        return super().train(False)


class VGG19(_Features):
    """(N, 1 or 3, H, W), at least 16 x 16 -> (N, 512, H / 16, W / 16), not activated."""

    def __init__(self) -> None:
        super().__init__(LAYERS, activated=False)


class VGG16(_Features):
    """(N, 1 or 3, H, W) -> relu2_2, (N, 128, H / 2, W / 2)."""

    def __init__(self) -> None:
        super().__init__(LAYERS[:5], activated=True)


class VGGDiscriminator(nn.Module):
    """Five halvings, then two full layers.

    Parameters
    ----------
    in_nc : int
        Channels of the images.
    nf : int
        Features of the first layer.
    """

    def __init__(self, in_nc: int = 1, nf: int = 64) -> None:
        super().__init__()
        widths = [nf * width for width in WIDTHS]
        layers: list[nn.Module] = [nn.Conv2d(in_nc, nf, 3, padding=1), _activation()]
        for level, (inputs, outputs) in enumerate(pairwise(widths)):
            if level > 0:
                layers += _normed(nn.Conv2d(inputs, outputs, 3, padding=1))
            layers += _normed(nn.Conv2d(outputs, outputs, 4, stride=2, padding=1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(16 * widths[-1], 100), _activation(), nn.Linear(100, 1))
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_nc, H, W) -> logits (N, 1); H and W from 128 to 159, otherwise ValueError."""
        if not all(SMALLEST <= size <= LARGEST for size in x.shape[-2:]):
            raise ValueError(
                f"The VGG discriminator needs {SMALLEST} to {LARGEST} pixels, not {x.shape[-2]} x {x.shape[-1]}."
            )
        return self.classifier(self.features(x).flatten(1))

    @torch.no_grad()
    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=0, mode="fan_in")
                nn.init.zeros_(layer.bias)


def _normed(layer: nn.Conv2d) -> list[nn.Module]:
    return [layer, nn.BatchNorm2d(layer.out_channels), _activation()]


def _activation() -> nn.Module:
    return nn.LeakyReLU(SLOPE, inplace=True)
