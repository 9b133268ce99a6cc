"""The options of a training or test as a tree of frozen dataclasses, named as the keys of the JSON.

Every field is a key, with its default, its meaning and what it accepts: see `networks.options.option` and
`option_values`. From here come the JSON schema, the table of all keys in the documentation and in the panel, and the
checks of single values; what keys must be to each other is in checks.py. The keys of "network_G" and "network_D" that
belong to a network are those of its own dataclass in networks/options.py, those of "train" and a recipe in
recipes/options.py and recipes/NAME_options.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from ..networks import DISCRIMINATORS, NETWORKS
from ..networks.discriminator_options import UNetDiscriminatorOptions
from ..networks.options import SCALES, UNetSPSROptions, option
from .dataset_options import DatasetOptions, TrainDatasetOptions
from .option_values import Key, keys_of, shown
from .recipes import RECIPES
from .recipes.options import TrainOptions


@dataclass(frozen=True)
class CardOptions:
    """Texts of the model card; what is left out is made from the run."""

    name: str | None = option(None, "Short name by which the model is chosen; null: the run's.", resumable=True)
    title: str | None = option(None, "One line for lists.", resumable=True)
    summary: str | None = option(None, "A few sentences: what the model is and does.", resumable=True)
    limits: str | None = option(None, "What the model must not be used for.", resumable=True)
    licence: str | None = option(None, "Licence of the weights.", resumable=True)
    voxel_size_mm: tuple[float, float] | None = option(
        None,
        "Smallest and largest voxel size of the scans that the model is for; null: those of the LR data.",
        above=0,
        ascending=True,
        resumable=True,
    )


def generator_names() -> tuple[str, ...]:
    """What "which_model_G" may be: the registered networks, with "_net" as in UNetSPSR's files."""
    return tuple(f"{name}_net" for name in NETWORKS)


@dataclass(frozen=True)
class GeneratorOptions:
    """The network that is trained to enlarge.

    `options` is the dataclass of the network's own; its keys stand in the same block.
    """

    which_model_G: str = option(
        "unetspsr_net",
        "Generator: SPSR's, with a gradient branch; or a plain residual network (ours), fast on computers without GPU.",
        seed=True,
        choices=generator_names,
    )
    norm_type: None = option(
        None, "Normalisation of the generator: it has none.", seed=True, reason="the generator has no normalisation"
    )
    mode: str = option(
        "CNA", "Order within a layer: convolution, (normalisation,) activation.", seed=True, choices=("CNA",)
    )
    initial: str = option(
        "kaiming",
        "Weights to begin with: random, or such that the untrained network interpolates, as residual_net always does.",
        choices=("kaiming", "interpolation"),
    )
    options: Any = field(default_factory=UNetSPSROptions)

    @property
    def network(self) -> str:
        """Name in `networks.NETWORKS`."""
        return self.which_model_G.removesuffix("_net")

    @property
    def slices(self) -> int:
        """Neighbouring slices on either side of the one that is enlarged."""
        return getattr(self.options, "slices", 0)

    @property
    def channels(self) -> int:
        """Channels of one slice of LR."""
        return 1 if self.slices else getattr(self.options, "in_nc", 1)

    @property
    def conditions(self) -> tuple[str, ...]:
        """What the network is told of the acquisition."""
        return tuple(getattr(self.options, "conditions", ()))

    @property
    def out_channels(self) -> int:
        """Channels of HR."""
        return getattr(self.options, "out_nc", self.channels)


@dataclass(frozen=True)
class DiscriminatorOptions:
    """A network that is trained to tell real images from enlarged ones; `options` as in `GeneratorOptions`."""

    which_model_D: str = option(
        "discriminator_unet_128",
        "Discriminator: Real-ESRGAN's U-Net with spectral norm, or SPSR's VGG of 128 pixels.",
        seed=True,
        choices=lambda: tuple(DISCRIMINATORS),
    )
    norm_type: str | None = option(
        None,
        "Normalisation of the VGG: batch. The U-Net always has spectral norm.",
        seed=True,
        choices=("batch", "spectral"),
    )
    act_type: str | None = option(None, "Activation: leaky ReLU in both.", seed=True, choices=("leakyrelu",))
    mode: str | None = option(
        None, "Order within a layer of the VGG; the U-Net ignores it.", seed=True, choices=("CNA",)
    )
    options: Any = field(default_factory=UNetDiscriminatorOptions)

    @property
    def network(self) -> str:
        """Name in `networks.DISCRIMINATORS`."""
        return self.which_model_D


@dataclass(frozen=True)
class PathOptions:
    """Where everything is."""

    root: str = option(
        ".",
        "Folder of all runs: experiments/NAME, results/NAME and tb_logger/NAME lie in it.",
        seed=True,
        path=True,
        resumable=True,
    )
    pretrain_model_G: str | None = option(
        None,
        "Weights to begin with: a model, or a checkpoint of SPSR or RRDB. null: none; a test then takes the best model "
        "of the run of this name. Of a run that is named by its folder, a test takes the best model, too.",
        seed=True,
        path=True,
        resumable=True,
    )
    resume_state: str | None = option(
        None,
        'Training state to go on from: a file of training_state/, or "auto" for the newest that is intact.',
        seed=True,
        path=True,
        resumable=True,
    )
    feature_weights: str | None = option(
        None,
        "File with VGG19's weights, needed where train.feature_weight is above 0; or VGG16's, where train.loss is "
        "perceptual.",
        path=True,
        resumable=True,
    )
    public_data: str | None = option(None, "Folder of the public scans that datasets name.", path=True, resumable=True)
    log_dir: str | None = option(
        None, "Folder of the runs' TensorBoard files; null: tb_logger in path.root.", path=True, resumable=True
    )

    @property
    def public_folder(self) -> Path | None:
        """`public_data`, if there is any."""
        return Path(self.public_data).expanduser() if self.public_data else None

    @property
    def drawings(self) -> Path:
        """Where computer-drawn images are kept for later runs."""
        return Path(self.root).expanduser() / "procedural"


@dataclass(frozen=True)
class LoggerOptions:
    """What is written while a run goes on."""

    print_freq: int = option(
        100, "Iterations between lines of the log, the CSV and TensorBoard.", seed=True, minimum=1, resumable=True
    )
    save_checkpoint_freq: int = option(
        5000, "Iterations between saved states and models.", seed=True, minimum=1, resumable=True
    )
    keep_last: int = option(3, "How many of them are kept, beside the best model.", minimum=1, resumable=True)
    val_slices: int = option(16, "Slices of files that each validation measures, evenly spread over all.", minimum=1)
    val_images: int = option(4, "Pictures that each validation writes.", minimum=0, resumable=True)


@dataclass(frozen=True)
class TrainingOptions:
    """Everything that decides a training or a test.

    >>> options = read_options("train_unetspsr.json", ["train.feature_weight=0"])
    >>> options.network_G.options.nf, options.dataset("val").normalization_range, options.run_folder

    Attributes
    ----------
    datasets : dict of str to DatasetOptions
        By key: "train" (a `TrainDatasetOptions`), "val", "test_1" ...
    is_train : bool
        Whether they are for a training.
    notes : tuple of str
        What was accepted but has no effect, and the like; to be told once.
    """

    name: str = option("UNetSPSR", "Name of the experiment and of its folders.", seed=True)
    use_tb_logger: bool = option(
        True, "Write TensorBoard files to path.root/tb_logger/NAME.", seed=True, resumable=True
    )
    model: str = option(
        "unetspsr", "Recipe: networks, losses and the order of a step.", seed=True, choices=lambda: tuple(RECIPES)
    )
    scale: int = option(2, f"Factor of enlargement: {', '.join(map(str, SCALES))}.", seed=True, choices=SCALES)
    gpu_ids: tuple[int, ...] | None = option(
        None,
        "CUDA devices to use, one process each; [] or null: the CPU; auto: the first CUDA device if there is one.",
        seed=True,
        minimum=0,
        auto=True,
        null=(),
        resumable=True,
    )
    device: str = option(
        "auto", "auto: as gpu_ids says; cpu or cuda: in spite of it.", choices=("auto", "cpu", "cuda"), resumable=True
    )
    suffix: str | None = option(None, "Added to the names of a test's results.", resumable=True)
    datasets: Mapping[str, DatasetOptions] = field(default_factory=dict)
    path: PathOptions = field(default_factory=PathOptions)
    network_G: GeneratorOptions = field(default_factory=GeneratorOptions)
    network_D: DiscriminatorOptions = field(default_factory=DiscriminatorOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    logger: LoggerOptions = field(default_factory=LoggerOptions)
    card: CardOptions = field(default_factory=CardOptions)
    is_train: bool = True
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def run_folder(self) -> Path:
        """Where a training writes: path.root/experiments/NAME."""
        return Path(self.path.root) / "experiments" / self.name

    @property
    def results_folder(self) -> Path:
        """Where a test writes: path.root/results/NAME."""
        return Path(self.path.root) / "results" / self.name

    @property
    def tests(self) -> tuple[str, ...]:
        """Keys of the test sets, sorted."""
        return tuple(sorted(key for key, dataset in self.datasets.items() if dataset.phase == "test"))

    def dataset(self, key: str) -> DatasetOptions | None:
        """A set of images with what it inherits from train, the window and the patients' pattern; None if absent."""
        dataset, train = self.datasets.get(key), self.datasets.get("train")
        if dataset is None or train is None or dataset is train:
            return dataset
        return replace(
            dataset,
            normalization_range=dataset.normalization_range or train.normalization_range,
            patient_pattern=dataset.patient_pattern or train.patient_pattern,
        )

    def to_json(self) -> dict:
        """Every key with its value; `read_options` gives the same options back."""
        values = _written(self)
        for block in fields(self):
            if block.name == "datasets":
                values["datasets"] = {name: _written(dataset) for name, dataset in self.datasets.items()}
            elif block.name in BLOCKS:
                values[block.name] = _written(getattr(self, block.name))
        return values

    def differences(self, other: TrainingOptions) -> list[str]:
        """What `other` changes, such as "train.lr_G: 0.0001 -> 0.0002".

        Keys that do not change a run's numbers (`resumable`, such as print_freq) are left out, and what the program may
        choose (`null`) where it was left open in one of both.
        """
        before, after, found = _compared(self), _compared(other), []
        for place in dict.fromkeys([*before, *after]):
            old, new = before.get(place, {}), after.get(place, {})
            if not old or not new:
                found.append(f"{place}: {'present -> absent' if old else 'absent -> present'}")
                continue
            for name in dict.fromkeys([*old, *new]):
                (key, was), (other_key, now) = old.get(name, (None, None)), new.get(name, (None, None))
                key = key or other_key
                left_open = key.null is None and None in (was, now)
                if was != now and not key.resumable and not left_open:
                    dotted = f"{place}.{name}".removeprefix(".")
                    found.append(f"{dotted}: {shown(key.write(was))} -> {shown(key.write(now))}")
        return found


REGISTRIES = {"network_G": NETWORKS, "network_D": DISCRIMINATORS}
BLOCKS: dict[str, type] = {
    "path": PathOptions,
    "network_G": GeneratorOptions,
    "network_D": DiscriminatorOptions,
    "train": TrainOptions,
    "logger": LoggerOptions,
    "card": CardOptions,
}


def dataset_type(key: str) -> type:
    """The dataclass of a block within datasets."""
    return TrainDatasetOptions if key == "train" else DatasetOptions


def train_type(model: str) -> type:
    """The dataclass of "train": `TrainOptions`, or what the recipe adds to it."""
    return RECIPES[model].options or TrainOptions


def keys_at(path: tuple[str, ...], values: Mapping[str, Any] | None = None) -> dict[str, Key] | None:
    """The keys of a block by its path, such as ("datasets", "val"); None if there is no such block.

    Parameters
    ----------
    path : tuple of str
        () for the keys outside all blocks.
    values : mapping, optional
        The JSON of a network's block: which network it is of decides over its keys. Without it, the keys of all
        networks are given, with whatever any of them accepts; of "train" those of all recipes.
    """
    if path == ():
        return keys_of(TrainingOptions)
    if len(path) == 2 and path[0] == "datasets" and phase_of(path[1]):
        return keys_of(dataset_type(path[1]))
    if len(path) != 1 or path[0] not in BLOCKS:
        return None
    (block,) = path
    section, own = BLOCKS[block], []
    if block == "train":
        own = [(model, train_type(model)) for model in RECIPES]
    elif block in REGISTRIES and values is None:
        ending = "_net" if block == "network_G" else ""
        own = [(f"{name}{ending}", entry.options) for name, entry in REGISTRIES[block].items()]
    elif block in REGISTRIES:
        own = [("", options) for options in network_types(block, values)]
    return _joined_keys(section, tuple(own))


@cache
def _joined_keys(section: type, own: tuple[tuple[str, type], ...]) -> dict[str, Key]:
    """The keys of a block and those that networks or recipes add, by whose names they are told where not all do."""
    found = dict(keys_of(section))
    for _, options in own:
        for name, key in keys_of(options).items():
            found[name] = found[name].or_as(key) if name in found else key
    for name in found.keys() - keys_of(section):
        having = {whose: keys_of(options)[name] for whose, options in own if name in keys_of(options)}
        if len(having) < len(own):
            found[name] = found[name].only_in(list(having))
        if others := {whose: key for whose, key in having.items() if whose and key.default != found[name].default}:
            found[name] = found[name].unlike(others)
    return found


def network_types(block: str, values: Mapping[str, Any] | None = None) -> list[type]:
    """The dataclasses of a block's network, of all networks it may name without `values`; [] for other blocks."""
    registry = REGISTRIES.get(block, {})
    if not registry or values is None:
        return [entry.options for entry in registry.values()]
    which = f"which_model_{block[-1]}"
    default = keys_of(BLOCKS[block])[which].default
    named = values.get(which, default)
    name = named.removesuffix("_net") if isinstance(named, str) else ""
    return [registry[name if name in registry else default.removesuffix("_net")].options]


def phase_of(key: str) -> str | None:
    """What a block within datasets is for; None if it has no name of ours."""
    phase = key.partition("_")[0]
    return phase if phase in ("train", "val", "test") and (phase == "test" or key == phase) else None


def _values(section: Any) -> dict[str, tuple[Key, Any]]:
    """Every key of a block, those of its network among them, with its value."""
    found = {name: (key, getattr(section, name)) for name, key in keys_of(type(section)).items()}
    network = getattr(section, "options", None)
    own = keys_of(type(network)) if network is not None else {}
    return found | {name: (key, getattr(network, name)) for name, key in own.items()}


def _written(section: Any) -> dict[str, Any]:
    return {name: key.write(value) for name, (key, value) in _values(section).items()}


def _compared(options: TrainingOptions) -> dict[str, dict[str, tuple[Key, Any]]]:
    """The keys of every block that a run's numbers follow from; datasets with what they inherit."""
    return {
        "": _values(options),
        **{f"datasets.{key}": _values(options.dataset(key)) for key in options.datasets},
        **{name: _values(getattr(options, name)) for name in ("path", "network_G", "network_D", "train")},
    }
