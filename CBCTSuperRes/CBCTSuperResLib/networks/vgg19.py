"""The network whose features the perceptual loss compares: VGG19 up to the last convolution, before its activation.

Architecture: Simonyan and Zisserman, 2015, configuration E, layers 0 to 34 of torchvision's `vgg19().features`, whose
names the tensors have. torchvision itself is not needed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LAYERS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512)  # 0: halve
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG19(nn.Module):
    """Features of images in [0, 1]; grey images are given to all three colours. Never trained."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in LAYERS:
            if outputs:
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = outputs
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        self.register_buffer("mean", _per_channel(MEAN), persistent=False)
        self.register_buffer("deviation", _per_channel(DEVIATION), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1 or 3, H, W), at least 16 x 16 -> (N, 512, H / 16, W / 16)."""
        colours = x if x.shape[1] == 3 else x.expand(-1, 3, -1, -1)
        return self.features((colours - self.mean.to(x.dtype)) / self.deviation.to(x.dtype))

    def train(self, mode: bool = True) -> VGG19:
        """Stays in evaluation mode."""
        return super().train(False)


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)
