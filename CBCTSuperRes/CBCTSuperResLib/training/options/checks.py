"""What keys must be to each other."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .data_keys import DatasetOptions
from .network_keys import RESIDUAL, UNET, VGG, DiscriminatorOptions
from .sections import Problems
from .training_options import SCALES, TrainingOptions

VGG_SIZES = range(128, 160)
SMALLEST_FOR_VGG19 = 16
RESERVED = set('<>:"/\\|?*')

Findings = Iterator[tuple[tuple[str, ...], str]]  # the keys concerned, and what is wrong


def check(options: TrainingOptions, problems: Problems) -> None:
    """Note every contradiction; keys that are already known to be wrong are not judged again."""
    finders = [_top, _datasets, _networks]
    if options.is_train:
        finders += [_patches, _discriminators, _schedule]
    for finder in finders:
        for keys, text in finder(options):
            problems.add_unless_known(keys, text)


def notes(options: TrainingOptions, debug: bool) -> tuple[str, ...]:
    """What is accepted but has no effect, or has one that might surprise."""
    found = []
    if debug:
        found.append(
            "The name contains debug: validation and saving every 8 iterations, a log line every 2, no TensorBoard."
        )
    if not options.is_train:
        return tuple(found)
    for block in ("network_D", "network_D_grad"):
        network: DiscriminatorOptions | None = getattr(options, block)
        if network is None or network.which_model_D != UNET:
            continue
        given = [key for key in ("norm_type", "act_type", "mode") if getattr(network, key) not in (None, "spectral")]
        if given and not any("are ignored" in note for note in found):
            found.append(
                f"{_joined([f'{block}.{key}' for key in given])} beside {UNET} are ignored: "
                "it has spectral norm and leaky ReLUs."
            )
    if "val" not in options.datasets:
        found.append("There is no datasets.val: nothing is validated, and the best model is the latest.")
    if options.tests:
        found.append(f"datasets.{_joined(list(options.tests))}: not used while training.")
    return tuple(found)


def _top(options: TrainingOptions) -> Findings:
    if options.scale not in SCALES:
        yield ("scale",), f"scale must be one of {', '.join(map(str, SCALES))}, not {options.scale}."
    name = options.name
    if set(name) & RESERVED or name.strip(". ") != name or not name.isprintable():
        yield ("name",), f"name is {name!r}, which cannot be the name of a folder on every system."


def _datasets(options: TrainingOptions) -> Findings:
    needed = options.datasets.keys() & {"train"} if options.is_train else options.tests
    if not needed:
        wanted = "a block datasets.train" if options.is_train else "at least one block datasets.test_..."
        yield ("datasets",), f"datasets must have {wanted}."
    for key, dataset in options.datasets.items():
        yield from _dataset(f"datasets.{key}", dataset)


def _dataset(block: str, dataset: DatasetOptions) -> Findings:
    low, high, mode = f"{block}.dataroot_LR", f"{block}.dataroot_HR", f"{block}.mode"
    simulated = dataset.mode == "HR"
    if simulated and dataset.dataroot_LR:
        yield (low, mode), f"{low} is given, but mode HR simulates LR; choose mode LRHR or remove it."
    if not simulated and not dataset.dataroot_LR:
        yield (low, mode), f"{low} is missing, which mode LRHR needs; choose mode HR to simulate LR."
    if not simulated and not dataset.dataroot_HR and dataset.phase != "test":
        yield (high, mode), f"{high} is missing, which mode LRHR needs."
    if not simulated and dataset.dataroot_HR and len(dataset.dataroot_HR) != len(dataset.dataroot_LR or "?"):
        yield (
            (high, low),
            f"{high} and {low} must have as many entries, not {len(dataset.dataroot_HR)} and "
            + (f"{len(dataset.dataroot_LR)}."),
        )
    if simulated and not (dataset.dataroot_HR or dataset.procedural or dataset.public):
        yield (high, mode), f"{block} has no images: give dataroot_HR, public or procedural."
    for key, used in (("procedural", dataset.procedural), ("public", dataset.public)):
        if used and not simulated:
            yield (f"{block}.{key}", mode), f"{block}.{key} needs mode HR: its LR images are simulated."
    if dataset.degradation_options and dataset.degradation != "physical":
        yield (
            (f"{block}.degradation_options", f"{block}.degradation"),
            (f'{block}.degradation_options belong to degradation "physical", not "{dataset.degradation}".'),
        )
    if dataset.patient_pattern is not None and not _has_one_group(dataset.patient_pattern):
        yield (f"{block}.patient_pattern",), f"{block}.patient_pattern must be a regular expression with one group."


def _networks(options: TrainingOptions) -> Findings:
    network = options.network_G
    if network.in_nc != network.out_nc != 1:
        yield (
            ("network_G.in_nc", "network_G.out_nc"),
            (f"network_G.in_nc must be 3 where out_nc is 3, not {network.in_nc}."),
        )
    if options.is_train and network.which_model_G == RESIDUAL and options.train.pixel_branch_weight > 0:
        yield (
            ("train.pixel_branch_weight", "network_G.which_model_G"),
            (f"train.pixel_branch_weight must be 0 with {RESIDUAL}, which has no gradient branch."),
        )
    if network.branch_taps and network.branch_taps[-1] > network.nb:
        yield (
            ("network_G.branch_taps", "network_G.nb"),
            (f"network_G.branch_taps {list(network.branch_taps)} reach beyond the {network.nb} blocks of nb."),
        )
    if not options.is_train:
        return
    for block in ("network_D", "network_D_grad"):
        discriminator = getattr(options, block)
        if discriminator and discriminator.in_nc != network.out_nc:
            yield (
                (f"{block}.in_nc", "network_G.out_nc", "network_D.in_nc"),
                (f"{block}.in_nc must be network_G.out_nc, {network.out_nc}, not {discriminator.in_nc}."),
            )


def _patches(options: TrainingOptions) -> Findings:
    dataset = options.datasets.get("train")
    if dataset is None:
        return
    block = "datasets.train"
    if dataset.HR_size % options.scale:
        yield (
            (f"{block}.HR_size", "scale"),
            (f"{block}.HR_size must be a multiple of scale {options.scale}, not {dataset.HR_size}."),
        )
    if dataset.micro_batch and dataset.batch_size % dataset.micro_batch:
        yield (
            (f"{block}.micro_batch", f"{block}.batch_size"),
            (f"{block}.micro_batch must divide batch_size {dataset.batch_size}, unlike {dataset.micro_batch}."),
        )
    for key in ("contrast", "brightness", "gamma"):
        low, high = getattr(dataset, key)
        if low > high:
            yield (f"{block}.{key}",), f"{block}.{key} must be [smallest, largest], not [{low:g}, {high:g}]."
    if dataset.procedural_share is not None and not dataset.procedural:
        yield (
            (f"{block}.procedural_share", f"{block}.procedural"),
            (f"{block}.procedural_share is given, but procedural is 0."),
        )


def _discriminators(options: TrainingOptions) -> Findings:
    dataset, train = options.datasets.get("train"), options.train
    if dataset is None:
        return
    size = dataset.HR_size
    gradient_block = "network_D_grad" if options.network_D_grad else "network_D"
    cases = (
        ("network_D", options.network_D, size, "gan_weight"),
        (
            gradient_block,
            options.gradient_discriminator,
            size + 2 * options.gradient_padding - 2,
            "gradient_gan_weight",
        ),
    )
    told = set()
    for block, network, edge, weight in cases:
        kind = network.which_model_D
        text = _size_problem(kind, edge, size) if getattr(train, weight) else ""
        if text and kind not in told:
            told.add(kind)
            keys = (f"{block}.which_model_D", "datasets.train.HR_size", "train.gradient_padding", f"train.{weight}")
            yield keys, text
    for block in ("network_D", "network_D_grad"):
        network = getattr(options, block)
        if network and network.which_model_D == VGG and network.norm_type not in (None, "batch"):
            yield (f"{block}.norm_type",), f'{block}.norm_type beside {VGG} must be "batch".'


def _size_problem(network: str, edge: int, size: int) -> str:
    """Why a discriminator cannot judge images of this edge; its gradient maps may be larger than the patches."""
    shown = f"{size}" if edge == size else f"{size}, whose gradient maps have {edge} with train.gradient_padding 2"
    if network == UNET and edge % 8:
        return f"datasets.train.HR_size must be a multiple of 8 for {UNET}, not {shown}."
    if network == VGG and edge not in VGG_SIZES:
        return f"datasets.train.HR_size must be {VGG_SIZES[0]} to {VGG_SIZES[-1]} for {VGG}, not {shown}."
    return ""


def _schedule(options: TrainingOptions) -> Findings:
    train = options.train
    for key in ("warmup_iters", "lr_warmup_iters", "D_init_iters"):
        if getattr(train, key) > train.niter:
            yield (f"train.{key}", "train.niter"), f"train.{key} must not exceed train.niter {train.niter}."
    weights = (
        train.pixel_weight,
        train.feature_weight,
        train.gan_weight,
        train.gradient_pixel_weight,
        train.gradient_gan_weight,
        train.pixel_branch_weight,
    )
    dataset = options.datasets.get("train")
    if dataset and train.feature_weight and dataset.HR_size < SMALLEST_FOR_VGG19:
        yield (
            ("datasets.train.HR_size", "train.feature_weight"),
            (
                f"datasets.train.HR_size must be at least {SMALLEST_FOR_VGG19} for train.feature_weight above 0, not "
                f"{dataset.HR_size}."
            ),
        )
    if not any(weights):
        yield ("train.pixel_weight",), "train: all weights of losses are 0, so that there is nothing to learn."
    if train.warmup_iters and not (train.pixel_weight or train.pixel_branch_weight):
        yield (
            ("train.warmup_iters", "train.pixel_weight", "train.pixel_branch_weight"),
            ("train.warmup_iters needs pixel_weight or pixel_branch_weight above 0."),
        )


def _has_one_group(pattern: str) -> bool:
    try:
        return re.compile(pattern).groups == 1
    except re.error:
        return False


def _joined(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
