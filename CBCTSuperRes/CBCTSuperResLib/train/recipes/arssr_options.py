"""The block "train" of "model": "arssr", and the keys of ArSSR's own program."""

from __future__ import annotations

from dataclasses import dataclass

from ...networks.options import option
from .options import OneNetworkOptions, blur_range, check_ranges, noise_range, noise_smooth_range, val_size
from .seed_names import SeedName, SeedNames


@dataclass(frozen=True)
class ArSSRTrainOptions(OneNetworkOptions):
    """Of "model": "arssr", for networks of any real factor."""

    lr_steps: tuple[int, ...] = option(
        (62400, 124800, 187200, 249600, 312000),
        "Iterations after which the learning rates are multiplied by lr_gamma.",
        seed=True,
        minimum=1,
        ascending=True,
        null=(),
    )
    niter: int = option(780000, "Iterations in all.", seed=True, minimum=1)
    ss: int = option(
        8000,
        "Fine voxels of a sample that are compared, a cube of them; fewer where a block has fewer.",
        minimum=1,
    )
    scale_range: tuple[float, float] | None = option(
        None,
        "Smallest and largest factor that is drawn, uniformly in its logarithm; null: all that the network offers.",
        minimum=1,
    )
    scale_per_axis: bool = option(False, "Draw a factor for each axis of each sample, and not one for all three.")
    scale_mix: tuple[float, ...] | None = option(
        None,
        "Shares of the samples that are coarse across slices alone (thick slices), along all axes alike, within slices "
        "alone, along each axis by a factor of its own, and (a fifth number, if there are any) not at all: blurred and "
        "noisy voxels of the same size; null: all are as scale_per_axis says.",
        minimum=0,
    )
    spread: bool = option(
        False,
        "The voxels that are compared lie in even steps all over a block, not beside each other: more of a block is "
        "learnt from where factors are large.",
    )
    told_error: float = option(
        0.0,
        "How wrong the blur and noise are that the network is told, as in Apply they are estimates: the standard "
        "deviation of the logarithm of what they are multiplied by.",
        minimum=0,
    )
    lattice_weight: float = option(
        0.0,
        "Weight of a loss that keeps the scan's voxels from showing as a pattern: of the share of the errors that "
        "repeats with one voxel of the scan, or every second.",
        minimum=0,
    )
    block_slices: int | None = option(
        None, "LR slices of a block; null: as many as it has rows, HR_size / scale.", minimum=1
    )
    blur: tuple[float, ...] = blur_range()
    noise: tuple[float, float] = noise_range()
    noise_smooth: tuple[float, float] = noise_smooth_range()
    val_scales: tuple[float, ...] = option(
        (2.0, 3.0, 4.0), "Factors at which validation measures, those that the network offers.", minimum=1
    )
    val_size: int = val_size()

    def check(self) -> None:
        """Ranges go from the smaller to the larger number.

        Raises
        ------
        ValueError
            Its message begins with the option's name.
        """
        check_ranges(self, ("scale_range", "noise", "noise_smooth"))
        if self.scale_mix is not None and (len(self.scale_mix) not in (4, 5) or sum(self.scale_mix) <= 0):
            raise ValueError("scale_mix must be four or five shares, of which one is above 0.")


ARSSR_NAMES = SeedNames(
    {
        "encoder_name": SeedName("network_G.encoder_name"),
        "decoder_depth": SeedName("network_G.decoder_depth"),
        "decoder_width": SeedName("network_G.decoder_width"),
        "feature_dim": SeedName("network_G.feature_dim"),
        "hr_data_train": SeedName("datasets.train.dataroot_HR"),
        "hr_data_val": SeedName("datasets.val.dataroot_HR"),
        "lr": SeedName("train.lr_G"),
        "lr_decay_epoch": SeedName("train.lr_steps", "milestones"),
        "epoch": SeedName("train.niter", "epochs"),
        "summary_epoch": SeedName("logger.save_checkpoint_freq", "epochs"),
        "bs": SeedName("datasets.train.batch_size"),
        "ss": SeedName("train.ss"),
        "gpu": SeedName("gpu_ids", "member"),
    },
    epoch_size=4680,  # 780 scans, six patches of each
    defaults={"epoch": 2500, "bs": 15},
    elsewhere={
        "is_gpu": "is no option here; gpu names the GPUs, [] for the CPU",
        **dict.fromkeys(("input_path", "output_path", "pre_trained_model"), "is of applying: cbct-superres apply"),
    },
)
