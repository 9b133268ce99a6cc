"""What the keys of a training must be to each other, what it needs and is not there, and where it computes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from ..core.errors import DependencyError, DeviceError, OptionError, SuperResError
from ..models.folder import SUFFIX, find_model
from ..networks import DISCRIMINATORS, NETWORKS
from .dataset_options import DatasetOptions, TrainDatasetOptions
from .option_values import keys_of
from .options import TrainingOptions
from .recipes import RECIPES

UNET, VGG = "discriminator_unet_128", "discriminator_vgg_128"
SMALLEST_FOR_VGG19 = 16
UNBOUNDED = 1 << 20  # pixels
RESERVED = set('<>:"/\\|?*')
VGG19 = "VGG19's weights, torchvision's vgg19-dcbb9e9d.pth from https://download.pytorch.org/models/"
VGG16 = "VGG16's weights, torchvision's vgg16-397923af.pth from https://download.pytorch.org/models/"
KINDS = {
    "slices": "of slices and a whole factor",
    "blocks": "of blocks and a whole factor",
    "any factor": "of blocks and any real factor",
}
INSTEAD = "Choose --device cpu, or set gpu_ids to [] in the options."

Findings = Iterator[tuple[tuple[str, ...], str]]  # the keys concerned, and what is wrong


def contradictions(options: TrainingOptions) -> Findings:
    """Every contradiction between keys that are right by themselves."""
    name = options.name
    if set(name) & RESERVED or name.strip(". ") != name or not name.isprintable():
        yield ("name",), f"name is {name!r}, which cannot be the name of a folder on every system."
    needed = options.datasets.keys() & {"train"} if options.is_train else options.tests
    if not needed:
        wanted = "a block datasets.train" if options.is_train else "at least one block datasets.test_..."
        yield ("datasets",), f"datasets must have {wanted}."
    for key, dataset in options.datasets.items():
        yield from _dataset(f"datasets.{key}", dataset)
    in_nc, out_nc = (getattr(options.network_G.options, name, 1) for name in ("in_nc", "out_nc"))
    if in_nc != out_nc != 1:
        keys = ("network_G.in_nc", "network_G.out_nc")
        yield keys, f"network_G.in_nc must be {out_nc} where out_nc is {out_nc}, not {in_nc}."
    for block, network in (("network_G", options.network_G), ("network_D", options.network_D)):
        if block == "network_G" and in_nc != out_nc != 1:
            continue
        try:
            network.options.check()
        except ValueError as error:  # begins with the option's name
            yield (f"{block}.{str(error).partition(' ')[0]}",), f"{block}.{error}"
    yield from _recipe(options)
    if options.is_train:
        yield from _patches(options)
        yield from _discriminators(options)
        yield from _losses(options)


def _recipe(options: TrainingOptions) -> Findings:
    """The network is of the kind that the recipe trains, and so is what it learns from."""
    wanted, network = RECIPES[options.model].trains, options.network_G
    kind = getattr(network.options, "kind", "slices")
    if wanted not in (None, kind):
        fitting = [f"{n}_net" for n, entry in NETWORKS.items() if getattr(entry.options, "kind", "slices") == wanted]
        yield (
            ("network_G.which_model_G", "model"),
            f"network_G.which_model_G must be {' or '.join(fitting)} with model {options.model}, which trains networks "
            f"{KINDS[wanted]}; {network.which_model_G} is one {KINDS[kind]}.",
        )
    if wanted == "any factor":
        for key, dataset in options.datasets.items():
            if dataset.mode != "HR" and dataset.phase != "test":
                yield (
                    (f"datasets.{key}.mode", "model"),
                    f"datasets.{key}.mode must be HR with model {options.model}, which simulates coarse scans of many "
                    "factors.",
                )
    for key, dataset in options.datasets.items():
        own = {"block_size": ("blocks",), "block_step": ("blocks",), "dataroot_mask": ("blocks", "any factor")}
        is_masked = dataset.phase == "train" and RECIPES[options.model].is_unpaired
        unknown = [name for name, kinds in own.items() if wanted and wanted not in kinds]
        if is_masked:
            unknown.remove("dataroot_mask")
        else:
            unknown.append("dataroot_mask_LR")
        for name in unknown:
            if getattr(dataset, name, None):
                text = f"datasets.{key}.{name} has no meaning with model {options.model}; remove it."
                yield (f"datasets.{key}.{name}", "model"), text
    try:
        options.train.check()
    except ValueError as error:
        yield (f"train.{str(error).partition(' ')[0]}",), f"train.{error}"


def _blocks(block: str, dataset: TrainDatasetOptions, scale: int) -> Findings:
    """Blocks of volumes are whole numbers of LR voxels, and steps leave nothing out."""
    for name in ("block_size", "block_step"):
        sizes = getattr(dataset, name)
        if sizes and any(length % scale for length in sizes):
            text = f"{block}.{name} must be multiples of scale {scale}, not {' x '.join(map(str, sizes))}."
            yield (f"{block}.{name}", "scale"), text
    step, size = dataset.block_step, dataset.block_shape[::-1]
    if step and any(a > b for a, b in zip(step, size, strict=True)):
        yield (
            (f"{block}.block_step", f"{block}.block_size", f"{block}.HR_size"),
            f"{block}.block_step must not exceed the blocks, {' x '.join(map(str, size))}, or parts of the volumes are "
            f"never seen; it is {' x '.join(map(str, step))}.",
        )


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


def _patches(options: TrainingOptions) -> Findings:
    block, dataset, train = "datasets.train", options.datasets.get("train"), options.train
    if dataset is None:
        return
    yield from _blocks(block, dataset, options.scale)
    if not dataset.block_size and dataset.HR_size % options.scale:
        yield (
            (f"{block}.HR_size", "scale"),
            f"{block}.HR_size must be a multiple of scale {options.scale}, not {dataset.HR_size}.",
        )
    fold = options.scale * getattr(options.network_G.options, "unshuffle", 1)
    name = "block_size" if dataset.block_size else "HR_size"
    edges = dataset.block_size[:2] if dataset.block_size else (dataset.HR_size,)
    if any(edge % options.scale == 0 and edge % fold for edge in edges):
        yield (
            (f"{block}.{name}", "network_G.unshuffle", "scale"),
            f"{block}.{name} must be a multiple of {fold}, scale times network_G.unshuffle, within slices, not "
            f"{' x '.join(map(str, edges))}.",
        )
    smallest = getattr(options.network_G.options, "smallest_patch", 0)
    if dataset.HR_size < smallest:
        yield (
            (f"{block}.HR_size", "network_G.which_model_G"),
            f"{block}.HR_size must be at least {smallest} for {options.network_G.which_model_G}, not "
            f"{dataset.HR_size}.",
        )
    if train.feature_weight and dataset.HR_size < SMALLEST_FOR_VGG19:
        yield (
            (f"{block}.HR_size", "train.feature_weight"),
            f"{block}.HR_size must be at least {SMALLEST_FOR_VGG19} for train.feature_weight above 0, not "
            f"{dataset.HR_size}.",
        )
    if dataset.micro_batch and dataset.batch_size % dataset.micro_batch:
        yield (
            (f"{block}.micro_batch", f"{block}.batch_size"),
            f"{block}.micro_batch must divide batch_size {dataset.batch_size}, unlike {dataset.micro_batch}.",
        )
    if dataset.procedural_share is not None and not dataset.procedural:
        yield (
            (f"{block}.procedural_share", f"{block}.procedural"),
            f"{block}.procedural_share is given, but procedural is 0.",
        )


def _discriminators(options: TrainingOptions) -> Findings:
    dataset, train, block = options.datasets.get("train"), options.train, options.network_D
    network = block.options
    kinds = [getattr(one, "kind", "slices") for one in (options.network_G.options, network)]
    is_legal = RECIPES[options.model].trains in (None, kinds[0])  # which is told elsewhere
    if is_legal and kinds[0] != kinds[1] and (train.gan_weight or train.gradient_gan_weight):
        fitting = [n for n, entry in DISCRIMINATORS.items() if getattr(entry.options, "kind", "slices") == kinds[0]]
        yield (
            ("network_D.which_model_D", "network_G.which_model_G"),
            f"network_D.which_model_D must be {' or '.join(fitting)} with {options.network_G.which_model_G}, a network "
            f"{KINDS[kinds[0]]}; {block.which_model_D} is one {KINDS[kinds[1]]}.",
        )
        return
    given, channels = getattr(network, "in_nc", 1), options.network_G.out_channels
    if given != channels:
        yield (
            ("network_D.in_nc", "network_G.out_nc"),
            f"network_D.in_nc must be network_G.out_nc, {channels}, not {given}.",
        )
    if block.which_model_D == VGG and block.norm_type not in (None, "batch"):
        yield ("network_D.norm_type",), f'network_D.norm_type beside {VGG} must be "batch".'
    if dataset is None:
        return
    size, padding = dataset.HR_size, network.gradient_padding
    if kinds[1] == "blocks":
        size = max(dataset.block_shape)
    gradient_edge = size + 2 * padding - 2
    edges = {size: train.gan_weight, gradient_edge: train.gradient_gan_weight or train.gan_weight * (padding == 1)}
    for edge in [edge for edge, weight in edges.items() if weight]:
        told = f"{edge}" if edge == size else f"{size}, whose gradient maps have {edge}"
        wanted = ""
        if edge % network.multiple:
            wanted = f"a multiple of {network.multiple}"
        elif edge not in network.sizes:
            wanted = f"{network.sizes[0]} to {network.sizes[-1]}"
            if network.sizes.stop >= UNBOUNDED:
                wanted = f"at least {network.sizes[0]}"
        if wanted:
            keys = (
                "datasets.train.HR_size",
                "network_D.which_model_D",
                "train.gan_weight",
                "train.gradient_gan_weight",
            )
            yield keys, f"datasets.train.HR_size must be {wanted} for {block.which_model_D}, not {told}."
            return


def _losses(options: TrainingOptions) -> Findings:
    train, generator = options.train, options.network_G
    for key in ("warmup_iters", "lr_warmup_iters"):
        if getattr(train, key) > train.niter:
            yield (f"train.{key}", "train.niter"), f"train.{key} must not exceed train.niter {train.niter}."
    if train.pixel_branch_weight > 0 and not getattr(generator.options, "has_gradient_branch", False):
        yield (
            ("train.pixel_branch_weight", "network_G.which_model_G"),
            f"train.pixel_branch_weight must be 0 with {generator.which_model_G}, which has no gradient branch.",
        )
    of_pixels = [
        key for key in ("pixel_weight", "pixel_branch_weight", "gradient_difference_weight") if hasattr(train, key)
    ]
    others = ("feature_weight", "gan_weight", "gradient_pixel_weight", "gradient_gan_weight")
    own = [field.name for field in fields(train) if field.name.endswith("_weight")]
    if not any(getattr(train, key) for key in (*of_pixels, *others, *own)):
        yield ("train.pixel_weight",), "train: all weights of losses are 0, so that there is nothing to learn."
    if train.warmup_iters and not any(getattr(train, key) for key in of_pixels):
        keys = [key for key in of_pixels if key in keys_of(type(train))]
        yield (
            ("train.warmup_iters", *(f"train.{key}" for key in keys)),
            f"train.warmup_iters needs {' or '.join(keys)} above 0.",
        )


def notes(options: TrainingOptions, debug: bool) -> tuple[str, ...]:
    """What is accepted but has no effect, or has one that might surprise."""
    found = []
    if debug:
        found.append(
            "The name contains debug: validation and saving every 8 iterations, a log line every 2, no TensorBoard."
        )
    if not options.is_train:
        return tuple(found)
    block = options.network_D
    given = [f"network_D.{key}" for key in ("norm_type", "act_type", "mode") if getattr(block, key) is not None]
    if block.norm_type == "spectral":
        given.remove("network_D.norm_type")
    if given and block.which_model_D == UNET:
        found.append(f"{_joined(given)} beside {UNET} are ignored: it has spectral norm and leaky ReLUs.")
    if all(options.datasets[key].mode == "LRHR" for key in ("train", "val") if key in options.datasets):
        usual = {key: keys_of(type(options.train)).get(key) for key in ("blur", "noise", "noise_smooth")}
        idle = [key for key, of in usual.items() if of and getattr(options.train, key) != of.default]
        if idle:
            found.append(f"train.{_joined(idle)}: not used, as every LR is given (mode LRHR) and none is simulated.")
    if "val" not in options.datasets:
        found.append("There is no datasets.val: nothing is validated, and the best model is the latest.")
    if options.tests:
        found.append(f"datasets.{_joined(list(options.tests))}: not used while training.")
    return tuple(found)


def _has_one_group(pattern: str) -> bool:
    try:
        return re.compile(pattern).groups == 1
    except re.error:
        return False


def _joined(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def missing(options: TrainingOptions) -> list[str]:
    """Sentences about files and folders that are named or needed but not there; [] if the work can begin."""
    keys = ("train", "val") if options.is_train else options.tests
    datasets = {key: options.dataset(key) for key in keys}
    return [
        *(text for key, dataset in datasets.items() if dataset for text in _images(f"datasets.{key}", dataset)),
        *_public_scans(options, [dataset for dataset in datasets.values() if dataset]),
        *_weights(options),
        *_root(options.path.root),
    ]


def _images(block: str, dataset: DatasetOptions) -> Iterator[str]:
    for key in ("dataroot_HR", "dataroot_LR"):
        for text in getattr(dataset, key):
            if not Path(text).exists():
                yield f"{block}.{key}: there is no {text}."
            elif Path(text).is_dir() and not any(Path(text).iterdir()):
                yield f"{block}.{key}: the folder {text} is empty."
    if dataset.subset_file and not Path(dataset.subset_file).is_file():
        yield f"{block}.subset_file: there is no file {dataset.subset_file}."


def _public_scans(options: TrainingOptions, datasets: list[DatasetOptions]) -> list[str]:
    names = dict.fromkeys(name for dataset in datasets for name in dataset.public)
    if not names:
        return []
    from .data.public import missing_scans

    try:
        return missing_scans(names, options.path.public_folder)
    except SuperResError as error:
        return [str(error)]


def _weights(options: TrainingOptions) -> Iterator[str]:
    path = options.path
    if not options.is_train:
        yield from _tested_model(options)
        return
    if path.pretrain_model_G and not Path(path.pretrain_model_G).is_file():
        yield f"path.pretrain_model_G: there is no file {path.pretrain_model_G}."
    if path.resume_state and path.resume_state != "auto" and not Path(path.resume_state).is_file():
        yield f"path.resume_state: there is no file {path.resume_state}."
    if options.train.feature_weight:
        what = VGG19, f"train.feature_weight is {options.train.feature_weight:g}", "train.feature_weight=0"
    elif getattr(options.train, "loss", "") == "perceptual":
        what = VGG16, "train.loss is perceptual", "train.loss=mse"
    else:
        return
    file, why, instead = what
    if not path.feature_weights:
        yield (
            f"{why}, but path.feature_weights names no file. Name one (--feature-weights FILE): {file}; or train "
            f"without (--set {instead})."
        )
    elif not Path(path.feature_weights).is_file():
        yield f"path.feature_weights: there is no file {path.feature_weights} ({file})."


def _tested_model(options: TrainingOptions) -> Iterator[str]:
    """A test takes a model by file or name, or else the run's: its best, or its latest where nothing was validated."""
    given, run = options.path.pretrain_model_G, tested_run(options)
    if run is None:
        try:
            find_model(given)
        except SuperResError as error:
            yield f"path.pretrain_model_G: {error}"
    elif not any((run / "models" / f"{which}_G{SUFFIX}").is_file() for which in ("best", "latest")):
        yield f"There is no model to test: path.pretrain_model_G is {given or 'null'}, and {run} is no trained run."


def tested_run(options: TrainingOptions) -> Path | None:
    """The run whose best model is tested: that of the options, or one that is named by its folder or by the folder of
    all runs; None where a model is named.
    """
    given = options.path.pretrain_model_G
    if not given:
        return options.run_folder
    folders = Path(given), Path(given) / "experiments" / options.name
    return next((folder for folder in folders if (folder / "models").is_dir()), None)


def _root(root: str) -> Iterator[str]:
    if os.name != "nt" and "\\" in root and "/" not in root:
        yield f"path.root: {root} is a path of Windows; name a folder of this computer."
        return
    folder = Path(root).absolute()
    existing = next((parent for parent in (folder, *folder.parents) if parent.exists()), None)
    if existing is None:
        yield f"path.root: there is no drive {folder.anchor}."
    elif not existing.is_dir():
        yield f"path.root: {existing} is not a folder."
    elif not os.access(existing, os.W_OK):
        yield f"path.root: {existing} cannot be written to."


@dataclass(frozen=True)
class TrainingDevice:
    """A kind of device, and which ones.

    >>> str(TrainingDevice("cuda", (0, 1)))
    'cuda:0, cuda:1'
    """

    type: str
    ids: tuple[int, ...] = ()

    def __str__(self) -> str:
        return ", ".join(f"cuda:{number}" for number in self.ids) or self.type


def training_device(options: TrainingOptions, device: str | None = None) -> TrainingDevice:
    """Decide where to compute; nothing falls back silently.

    Parameters
    ----------
    device : None, "auto", "cpu", "cuda" or "cuda:N"
        None and "auto" leave it to the options: first to their device, then to their gpu_ids.

    Raises
    ------
    DeviceError
        If CUDA devices are asked for that are not there.
    OptionError
        If the device is none of these, the precision is not for it, or the GPUs cannot share the batch evenly.
    DependencyError
        If the answer needs torch, which is missing.
    """
    wanted = options.device if device in (None, "auto") else device
    chosen = _choose(options.gpu_ids, wanted)
    if chosen.type == "cpu" and options.is_train and options.train.precision == "float16":
        raise OptionError(
            "train.precision float16 is for CUDA devices, and this training runs on the CPU.",
            "Set train.precision=float32, or bfloat16 where the processor has it.",
        )
    if "train" in options.datasets and options.datasets["train"].batch_size % max(1, len(chosen.ids)):
        raise OptionError(
            f"datasets.train.batch_size {options.datasets['train'].batch_size} cannot be shared evenly by "
            f"{len(chosen.ids)} GPUs.",
            f"Choose a multiple of {len(chosen.ids)}.",
        )
    return chosen


def _choose(ids: tuple[int, ...] | None, wanted: str) -> TrainingDevice:
    if wanted == "cpu" or (wanted == "auto" and ids == ()):
        return TrainingDevice("cpu")
    kind, _, number = wanted.partition(":")
    if wanted != "auto" and (kind != "cuda" or (number and not number.isdecimal()) or (":" in wanted and not number)):
        raise OptionError(f"There is no device {wanted!r}.", "Choose auto, cpu, cuda or cuda:N.")
    count = _cuda_devices()
    if wanted == "auto" and ids is None:
        return TrainingDevice("cuda", (0,)) if count else TrainingDevice("cpu")
    ids = (int(number),) if number else ids or (0,)
    absent = [one for one in ids if one >= count]
    if absent:
        there = f"only {count} CUDA device(s)" if count else "no CUDA device"
        asked = f"gpu_ids {list(ids)}" if wanted == "auto" else f"The device {wanted!r}"
        raise DeviceError(f"{asked} cannot be used: there is {there} here.", INSTEAD)
    return TrainingDevice("cuda", tuple(ids))


def _cuda_devices() -> int:
    try:
        import torch
    except ImportError:
        raise DependencyError("torch, which trains networks, is not installed.", "Install PyTorch.") from None
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
