"""What keys must be to each other.

What a training or test needs and is not there: looked up on the disk, before anything is computed.

Where a training computes: what gpu_ids, device and the command line say together.

Read options from a JSON file, from text or from a table, and check all of them.

Paths in the options of a training, for a process that runs elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import DependencyError, DeviceError, OptionError, SuperResError
from ..models.folder import SUFFIX, find_model
from .options import RESIDUAL, SCALES, UNET, VGG, DatasetOptions, DiscriminatorOptions, TrainingOptions
from .options_file import Problems, overridden, parse_json, read_tree

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


VGG19 = "VGG19's weights, torchvision's vgg19-dcbb9e9d.pth from https://download.pytorch.org/models/"


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
        return missing_scans(names, Path(options.path.public_data) if options.path.public_data else None)
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
    if not options.train.feature_weight:
        return
    if not path.feature_weights:
        yield (
            f"train.feature_weight is {options.train.feature_weight:g}, but path.feature_weights names no file. Name "
            f"one (--feature-weights FILE): {VGG19}; or train without (--set train.feature_weight=0)."
        )
    elif not Path(path.feature_weights).is_file():
        yield f"path.feature_weights: there is no file {path.feature_weights} ({VGG19})."


def _tested_model(options: TrainingOptions) -> Iterator[str]:
    """A test takes a model by file or name, or else the run's: its best, or its latest where nothing was validated."""
    if options.path.pretrain_model_G:
        try:
            find_model(options.path.pretrain_model_G)
        except SuperResError as error:
            yield f"path.pretrain_model_G: {error}"
        return
    folder = options.run_folder / "models"
    if not any((folder / f"{which}_G{SUFFIX}").is_file() for which in ("best", "latest")):
        yield f"There is no model to test: path.pretrain_model_G is null, and {folder.parent} is no trained run."


def _root(root: str) -> Iterator[str]:
    if os.name != "nt" and "\\" in root and "/" not in root:
        yield f"path.root: {root} is a path of Windows; name a folder of this computer."
        return
    folder = Path(root).absolute()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir():
        yield f"path.root: {existing} is not a folder."
    elif not os.access(existing, os.W_OK):
        yield f"path.root: {existing} cannot be written to."


INSTEAD = "Choose --device cpu, or set gpu_ids to [] in the options."


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
    if chosen.type == "cpu" and options.is_train and options.train.precision != "float32":
        raise OptionError(
            f"train.precision {options.train.precision} is for CUDA devices, and this training runs on the CPU.",
            "Set train.precision=float32.",
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


DEBUG = {"train": {"val_freq": 8}, "logger": {"print_freq": 2, "save_checkpoint_freq": 8}}


def read_options(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, is_train: bool = True
) -> TrainingOptions:
    """Read and check the options of a training or, with is_train=False, of a test.

    Parameters
    ----------
    source : str, Path or mapping
        Path of a JSON file, in which // comments are allowed; or what such a file holds.
    overrides : sequence of str
        Changes to it, such as "train.lr_G=2e-4" or "network_G.nf=8".

    Raises
    ------
    OptionError
        If the file cannot be read; or with all that is wrong, one line each.
    """
    where = "The options" if isinstance(source, Mapping) else str(source)
    options, problems = read_and_check(read_values(source), overrides, is_train=is_train)
    if problems.found:
        raise OptionError(_listed(where, problems.texts), "See the table of options in README.md.")
    return options


def read_values(source: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    """What a file of options holds, as it stands there; nothing is checked but that it is a block.

    Raises
    ------
    OptionError
        If the file cannot be read or is not valid JSON.
    """
    values = source if isinstance(source, Mapping) else _read_file(Path(source).expanduser())
    if not isinstance(values, Mapping):
        raise OptionError(f"{source} must hold a block {{...}} of options.")
    return values


def read_and_check(
    values: Mapping[str, Any], overrides: Sequence[str] = (), *, is_train: bool = True
) -> tuple[TrainingOptions, Problems]:
    """The options, with the default wherever a value is wrong, and all that is wrong."""
    problems = Problems()
    debug = isinstance(values.get("name"), str) and "debug" in values["name"]
    values = overridden(_for_debugging(values) if debug else values, overrides, problems)
    options = read_tree(values, problems, is_train)
    check(options, problems)
    return replace(options, notes=notes(options, debug)), problems


def _read_file(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise OptionError(f"{path} is not a text in UTF-8.", "Save it as UTF-8.") from None
    except OSError as error:
        raise OptionError(f"The options {path} cannot be read: {error.strerror}.") from None
    return parse_json(text, str(path))


def _for_debugging(values: Mapping[str, Any]) -> dict[str, Any]:
    """What 'debug' in the name means in SPSR: everything often, and no TensorBoard."""
    changed = {**values, "use_tb_logger": False}
    for section, keys in DEBUG.items():
        if isinstance(values.get(section, {}), Mapping):
            changed[section] = {**(values.get(section) or {}), **keys}
    return changed


def _listed(where: str, problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return f"{where}: {problems[0]}"
    return "\n".join([f"{where}: {len(problems)} problems.", *(f"  {problem}" for problem in problems)])


def withAbsolutePaths(options: TrainingOptions) -> TrainingOptions:
    """The same options for a process with another working folder."""
    values = options.to_json()
    paths = values["path"]
    for name in ("root", "pretrain_model_G", "feature_weights", "public_data"):
        paths[name] = absolute(paths[name])
    for dataset in values["datasets"].values():
        for name in ("dataroot_HR", "dataroot_LR", "subset_file"):
            value = dataset[name]
            dataset[name] = [absolute(one) for one in value] if isinstance(value, list) else absolute(value)
    return read_options(values)


def absolute(path: str | Path | None) -> str | None:
    """A path as it is from every folder; nothing for nothing."""
    return path and str(Path(path).absolute())
