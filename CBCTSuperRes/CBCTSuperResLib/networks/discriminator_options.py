"""Options of the discriminators, as those of the networks in options.py, and what each asks of its images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .options import LEAST_JUDGED, NetworkOptions, option


@dataclass(frozen=True)
class DiscriminatorLimits(NetworkOptions):
    """What a discriminator asks of its images; its options inherit this and say what is otherwise.

    Attributes
    ----------
    multiple : int
        The edge must be a multiple of this.
    sizes : range
        Edges that it can judge, in pixels.
    has_batch_norm : bool
        Whether what it says of an image depends on the others of the batch.
    gradient_padding : 1 or 2
        Padding of the gradient maps that it judges; 1 keeps their size.
    """

    multiple: ClassVar[int] = 1
    sizes: ClassVar[range] = range(1, 1 << 20)
    has_batch_norm: ClassVar[bool] = False
    gradient_padding: ClassVar[int] = 1


@dataclass(frozen=True)
class UNetDiscriminatorOptions(DiscriminatorLimits):
    """Real-ESRGAN's U-Net (networks/unet_discriminator.py)."""

    nf: int = option(64, "Features of the first layer.", seed=True, minimum=1)
    in_nc: int = option(1, "Channels: as network_G.out_nc.", seed=True, choices=(1, 3))

    multiple: ClassVar[int] = 8


@dataclass(frozen=True)
class VGGDiscriminatorOptions(UNetDiscriminatorOptions):
    """SPSR's VGG of 128 pixels (networks/vgg.py)."""

    multiple: ClassVar[int] = 1
    sizes: ClassVar[range] = range(128, 160)  # five halvings leave 4 x 4
    has_batch_norm: ClassVar[bool] = True
    gradient_padding: ClassVar[int] = 2  # as in SPSR


@dataclass(frozen=True)
class PatchDiscriminatorOptions(DiscriminatorLimits):
    """The discriminators of SR-CycleGAN, which judge patches of 70 pixels (networks/srcyclegan.py)."""

    nf: int = option(64, "Features of the first layer.", minimum=1)

    in_nc: ClassVar[int] = 1
    sizes: ClassVar[range] = range(LEAST_JUDGED, 1 << 20)


@dataclass(frozen=True)
class SRGAN3DDiscriminatorOptions(DiscriminatorLimits):
    """The discriminator of the 3-D SRGAN (networks/srgan3d.py)."""

    kind: ClassVar[str] = "blocks"

    feature_size: int = option(32, "Features of the blocks (network_G), or of the first layer (network_D).", minimum=1)
    judge: str = option(
        "patch",
        "What is judged: patch, each place that is left after four halvings; pooled, their mean; dense, all at once by "
        "a full layer of as many weights, as published (104 million for 128 x 128 x 92 voxels).",
        choices=("patch", "pooled", "dense"),
    )
    batch_norm: bool = option(
        True,
        "Batch norm, as published: a batch must be computed in one piece. false: none, and a batch may be computed in "
        "parts.",
    )
    in_nc: int = option(1, "Channels: as network_G.out_nc.", choices=(1, 3))
    size: tuple[int, int, int] = option((128, 128, 92), "Voxels (i, j, k) that are judged.", minimum=1, derived=True)

    @property
    def has_batch_norm(self) -> bool:
        """Whether what it says of a volume depends on the others of the batch."""
        return self.batch_norm

    @property
    def sizes(self) -> range:
        """Edges that it can judge: batch norm needs more than one place after the halvings."""
        return range(17 if self.batch_norm else 1, 1 << 20)
