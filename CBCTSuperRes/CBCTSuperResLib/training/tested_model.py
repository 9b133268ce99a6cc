"""The model that a test is of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..devices import choose_device
from ..errors import InputError, ModelError
from ..models.importers import import_checkpoint
from ..models.listing import SUFFIX
from ..models.model import Model
from .export import find_run_model

if TYPE_CHECKING:
    from .options import TrainingOptions

CHECKPOINTS = (".pth", ".pt", ".ckpt")


def model_to_test(options: TrainingOptions, device: str) -> tuple[Model, list[str]]:
    """The model of `path.pretrain_model_G`, and notes for the user.

    A model of ours by file or name, or a generator of SPSR or UNetSPSR (.pth). Without one, the best model of the run
    of the options' name.

    Raises
    ------
    ModelError
        If there is none, it cannot be read, or its scale or input channels are not those of the options.
    """
    given = options.path.pretrain_model_G
    if given is None:
        path = _of_the_run(options)
        model, notes = Model.load(path, device), [f"path.pretrain_model_G is null: {path} is tested."]
    elif Path(given).suffix.lower() in CHECKPOINTS:
        model, notes = _imported(Path(given), options, device), []
    else:
        model, notes = Model.load(given, device), []
    _check(model, options)
    return model, notes + _differences(model, options)


def _of_the_run(options: TrainingOptions) -> Path:
    try:
        return find_run_model(options.run_folder)
    except InputError as error:
        raise ModelError(
            f"path.pretrain_model_G is null, and there is no trained run {options.name}: {error.what}",
            f"Name a model ({SUFFIX} or .pth) in path.pretrain_model_G.",
        ) from error


def _imported(path: Path, options: TrainingOptions, device: str) -> Model:
    model = import_checkpoint(path, options.name, scale=options.scale, taps=options.network_G.branch_taps)
    return Model(model.network.to(choose_device(device)), model.card)


def _check(model: Model, options: TrainingOptions) -> None:
    wanted = {"scale": options.scale, "in_nc": options.network_G.in_nc}
    found = {"scale": model.spec.scale, "in_nc": model.spec.input_channels}
    wrong = [f"its {name} is {found[name]}, not {wanted[name]}" for name in wanted if found[name] != wanted[name]]
    if wrong:
        raise ModelError(f"The model {model.name} does not fit the options: {', '.join(wrong)}.", "Correct either.")


def _differences(model: Model, options: TrainingOptions) -> list[str]:
    """A model says itself what it consists of; where the options say otherwise, the user is told."""
    said = {name: getattr(options.network_G, name) for name in ("nf", "nb", "gc")}
    real = {name: model.spec.options.get(name, value) for name, value in said.items()}
    wrong = [f"{name} {real[name]}, where network_G says {said[name]}" for name in said if real[name] != said[name]]
    return [f"The model has {'; '.join(wrong)}."] if wrong else []
