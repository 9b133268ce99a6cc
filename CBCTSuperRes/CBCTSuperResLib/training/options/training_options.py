"""The options of a training or test as a tree of frozen dataclasses, named as the keys of the JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .card_keys import CardOptions
from .data_keys import DatasetOptions, TrainDatasetOptions
from .keys import keys_of, ours, seed, write_section
from .kinds import DeviceNumbers, Flag, Text, Whole, shown
from .network_keys import VGG, DiscriminatorOptions, GeneratorOptions
from .train_keys import LoggerOptions, PathOptions, TrainOptions

MODELS = ("unetspsr",)
SCALES = (1, 2, 3, 4, 8)


@dataclass(frozen=True)
class TrainingOptions:
    """Everything that decides a training or a test.

    >>> options = read_options("train_unetspsr.json", ["train.feature_weight=0"])
    >>> options.network_G.nf, options.dataset("val").normalization_range, options.run_folder

    Attributes
    ----------
    datasets : dict of str to DatasetOptions
        By key: "train" (a `TrainDatasetOptions`), "val", "test_1" ...
    network_D_grad : DiscriminatorOptions or None
        None: as network_D; see `gradient_discriminator`.
    is_train : bool
        Whether they are for a training.
    notes : tuple of str
        What was accepted but has no effect, and the like; to be told once.
    """

    name: str = seed(Text(), "UNetSPSR", "Name of the experiment and of its folders.")
    use_tb_logger: bool = seed(Flag(), True, "Write TensorBoard files to path.root/tb_logger/NAME.", resumable=True)
    model: str = seed(Text(MODELS), "unetspsr", "Recipe: networks, losses and the order of a step.")
    scale: int = seed(Whole(1, 8), 2, f"Factor of enlargement: {', '.join(map(str, SCALES))}.")
    gpu_ids: tuple[int, ...] | None = seed(
        DeviceNumbers(Whole(0)),
        None,
        "CUDA devices to use, one process each; [] or null: the CPU; auto: the first CUDA device if there is one.",
        null=(),
        resumable=True,
    )
    device: str = ours(
        Text(("auto", "cpu", "cuda")), "auto", "auto: as gpu_ids says; cpu or cuda: in spite of it.", resumable=True
    )
    suffix: str | None = ours(Text(), None, "Added to the names of a test's results.", resumable=True)
    datasets: Mapping[str, DatasetOptions] = field(default_factory=dict, metadata={"sections": DatasetOptions})
    path: PathOptions = field(default_factory=PathOptions)
    network_G: GeneratorOptions = field(default_factory=GeneratorOptions)
    network_D: DiscriminatorOptions = field(default_factory=DiscriminatorOptions)
    network_D_grad: DiscriminatorOptions | None = None
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
    def gradient_discriminator(self) -> DiscriminatorOptions:
        """The discriminator of gradient maps: network_D_grad, or network_D where that is absent."""
        return self.network_D_grad or self.network_D

    @property
    def gradient_padding(self) -> int:
        """train.gradient_padding, or what its null means."""
        return self.train.gradient_padding or (2 if self.gradient_discriminator.which_model_D == VGG else 1)

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
        values = write_section(self)
        if self.network_D_grad is None:
            values["network_D_grad"] = None
        return values

    def differences(self, other: TrainingOptions) -> list[str]:
        """What `other` changes, such as "train.lr_G: 0.0001 -> 0.0002".

        Keys that do not change a run's numbers (`Key.resumable`, such as print_freq) are left out.
        """
        before, after = _sections(self), _sections(other)
        found = []
        for prefix in dict.fromkeys([*before, *after]):
            if prefix not in after:
                found.append(f"{prefix[:-1]}: present -> absent")
            elif prefix not in before:
                found.append(f"{prefix[:-1]}: absent -> present")
            else:
                found += _changes(prefix, before[prefix], after[prefix])
        return found


def _sections(options: TrainingOptions) -> dict[str, Any]:
    """The blocks by the beginning of their keys; datasets with what they inherit."""
    sections = {
        "": options,
        **{f"datasets.{key}.": options.dataset(key) for key in options.datasets},
        "path.": options.path,
        "network_G.": options.network_G,
        "network_D.": options.network_D,
        "network_D_grad.": options.network_D_grad,
        "train.": options.train,
    }
    return {prefix: section for prefix, section in sections.items() if section is not None}


def _changes(prefix: str, old: Any, new: Any) -> Iterator[str]:
    for one, key in keys_of(old):
        before, after = getattr(old, one.name), getattr(new, one.name)
        left_open = key.null is None and None in (before, after)
        if before != after and not key.resumable and not left_open:
            yield f"{prefix}{one.name}: {shown(key.kind.write(before))} -> {shown(key.kind.write(after))}"


def section_type(path: tuple[str, ...]) -> type | None:
    """The dataclass of a section by its path, such as ("datasets", "val"); None if there is no such section."""
    types = {
        (): TrainingOptions,
        ("path",): PathOptions,
        ("network_G",): GeneratorOptions,
        ("network_D",): DiscriminatorOptions,
        ("network_D_grad",): DiscriminatorOptions,
        ("train",): TrainOptions,
        ("logger",): LoggerOptions,
        ("card",): CardOptions,
        ("datasets", "train"): TrainDatasetOptions,
    }
    if path in types:
        return types[path]
    return DatasetOptions if len(path) == 2 and path[0] == "datasets" and phase_of(path[1]) else None


def phase_of(key: str) -> str | None:
    """What a block within datasets is for; None if it has no name of ours."""
    phase = key.partition("_")[0]
    return phase if phase in ("train", "val", "test") and (phase == "test" or key == phase) else None
