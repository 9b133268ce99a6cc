"""From a run to a model file that Apply lists, with a card that is filled from the options, the data and the measures.

>>> export_run(root / "experiments" / "UNetSPSR", user_models_folder() / "mine.safetensors")
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ..acquisition.phantom import WINDOW
from ..apply.calibration import calibrate
from ..core.errors import InputError, OutputError
from ..core.progress import part_of
from ..models.card import ModelCard
from ..models.folder import SUFFIX
from ..models.model import Model
from ..networks.spec import NetworkSpec
from ..scan.tissue import PHANTOM_LEVELS, TissueLevels, levels_of
from .options_file import read_options
from .validation import as_results, undisturbed

if TYPE_CHECKING:
    from .data.source import TrainingSource
    from .options import TrainingOptions


log = logging.getLogger(__name__)

BEST, LATEST = "best", "latest"
LOSSES = {
    "pixel_weight": "pixel",
    "feature_weight": "feature",
    "gradient_pixel_weight": "gradient",
    "pixel_branch_weight": "gradient branch",
    "gan_weight": "GAN",
    "gradient_gan_weight": "gradient GAN",
}
OF_NO_INTEREST = ("memory",)  # to whoever applies the model
SIZES = (
    "nf",
    "nb",
    "gc",
    "feature_size",
    "residual_blocks",
    "encoder_name",
    "encoder_width",
    "feature_dim",
    "decoder_depth",
    "decoder_width",
)
NOT_STATED = "not stated"
SAMPLES, SEED = 64, 20
PREPARED = 65535  # the brightest grey value of prepared images


def run_card(spec: NetworkSpec, options: TrainingOptions, facts: Mapping, results: Mapping | None = None) -> ModelCard:
    """The card of a model that a run has come to.

    Parameters
    ----------
    spec : NetworkSpec
    options : TrainingOptions
        Texts of its `card` go before those that are made here.
    facts : mapping
        "step", the last iteration; and what is known: "data", what the source says of itself
        (`TrainingSource.describe`); "window" (lo, hi), and "output_window" of another kind of image; "levels" (see
        `levels_of_source`); what the recipe says instead of the options (`Recipe.card_facts`).
    results : mapping, optional
        What `Validator.run` returned; empty or None if nothing was measured.
    """
    results, way = results or {}, "slices" if spec.dimensions == 2 else "blocks"
    train, data, step = options.train, options.datasets["train"], facts["step"]
    window, is_adversarial = facts.get("window"), train.gan_weight > 0 or train.gradient_gan_weight > 0
    if window and data.scanner_window:  # in grey values of the scanner, also where images were prepared from others
        low, high = data.scanner_window
        window = [low + (high - low) * float(bound) / PREPARED for bound in window]

    size = ", ".join(f"{name} {spec.options[name]}" for name in SIZES if name in spec.options)
    limits = ["For research, not for diagnosis.", "Made for scans like those it was trained on."]
    if facts.get("is_adversarial", is_adversarial) and step > train.warmup_iters:
        limits.append("Trained with adversarial losses: fine detail can look real and be invented.")
    if "psnr_cubic" in results:
        limits.append(
            f"Measured on {results['images']} images only: PSNR {results['psnr']:.2f} dB, cubic interpolation "
            f"{results['psnr_cubic']:.2f} dB."
        )
    else:
        limits.append("Never measured: compare with interpolation before trusting detail.")
    texts = {
        "name": options.name,
        "title": f"{options.name}: {spec.scale_text} in {way}, trained by a user of this program",
        "summary": (
            f"A network of the kind {spec.network} ({size}), trained for {step:,d} of {train.niter:,d} iterations on "
            f"the data set {data.name or options.name}."
        ),
        "limits": " ".join(limits),
        "licence": NOT_STATED,
        "voxel_size_mm": voxel_sizes(facts.get("data", {}).get("files", ()), _factors(spec, options)),
    }
    training = {  # no path of the computer that did it
        "run": options.name,
        "data": {n: value for n, value in facts.get("data", {}).items() if n not in OF_NO_INTEREST} or "unknown",
        "iterations": step,
        "iterations_planned": train.niter,
        "batch_size": data.batch_size,
        "HR_size": data.HR_size,
        "losses": facts.get("losses", {LOSSES[n]: getattr(train, n) for n in LOSSES if getattr(train, n) > 0}),
        "gan_type": train.gan_type if is_adversarial else None,
        "warmup_iters": train.warmup_iters,
        "ema_decay": train.ema_decay,
        "seed": train.manual_seed,
        "started_from_other_weights": bool(options.path.pretrain_model_G),
    }
    return ModelCard(
        spec=spec,
        window=window and tuple(map(float, window)),
        output_window=facts.get("output_window") if spec.domain == "other" else None,
        levels=facts.get("levels"),
        training=training,
        results=as_results(f"validation set of the run, {results.get('images', 0)} images", results),
        **{**texts, **own_texts(options)},
    )


def own_texts(options: TrainingOptions) -> dict:
    """The entries of the card that the options state."""
    return {name: value for name, value in asdict(options.card).items() if value is not None}


def levels_of_source(source: TrainingSource) -> TissueLevels | None:
    """Tissue levels of what a network is trained on, in units of the window; None if the images show no tissues.

    From LR patches of up to `SAMPLES` images, the same ones every time. They carry the changes of contrast that
    training draws, whose middle is no change. Where slices are drawn, the levels are those of their scanner, which
    patches do not show: most hold no air, and none outside the window.
    """
    if source.describe()["images"].get("procedural") and (source.window.lo, source.window.hi) == WINDOW:
        return PHANTOM_LEVELS
    images = np.unique(np.linspace(0, len(source) - 1, SAMPLES).round().astype(int)).tolist()
    values = [source.batch([n], [np.random.default_rng((SEED, n))])["LR"].numpy().ravel() for n in images]
    try:
        levels = levels_of(np.concatenate(values))
    except InputError:
        return None
    return TissueLevels(**{name: round(level, 3) for name, level in asdict(levels).items()})


def _factors(spec: NetworkSpec, options: TrainingOptions) -> tuple[float, float]:
    """Smallest and largest factor that was trained."""
    if spec.scale:
        return options.scale, options.scale
    asked = getattr(options.train, "scale_range", None)
    return asked or tuple(pick(pair[n] for pair in spec.scale_range) for n, pick in ((0, min), (1, max)))


def voxel_sizes(files: Sequence[Mapping], factors: tuple[float, float]) -> tuple[float, float] | None:
    """Smallest and largest voxel size (mm) of the LR data; of simulated LR from HR's. None if no file states one."""
    sizes = {facts["role"]: facts["voxel_size_mm"] for facts in files if facts.get("voxel_size_mm")}
    if "LR" in sizes:
        return tuple(sizes["LR"])
    if "HR" not in sizes:
        return None
    return tuple(round(size * factor, 6) for size, factor in zip(sizes["HR"], factors, strict=True))


def make_run_model(
    network: nn.Module, options: TrainingOptions, facts: Mapping, results: Mapping | None = None
) -> Model:
    """A model of what a run has come to, with its card filled.

    Nothing is known of its context yet, so that it runs on whole slices.

    Parameters
    ----------
    network : torch.nn.Module
        The running mean of the weights where there is one; it is copied, and goes on to be trained.
    options, facts, results
        See `run_card`.
    """
    own = copy.deepcopy(network).to("cpu", torch.float32)
    return Model(own, run_card(own.describe(), options, facts, results))


def save_run_model(
    network: nn.Module, options: TrainingOptions, facts: Mapping, results: Mapping | None, path: Path
) -> Path:
    """Write `make_run_model`'s model; torch's random state stays as it is."""
    with undisturbed():
        return make_run_model(network, options, facts, results).save(path)


def export_run(
    run: str | Path,
    out: str | Path,
    which: str | int = BEST,
    *,
    texts: Mapping | None = None,
    halo: bool = True,
    half: bool = False,
    device: str = "auto",
    progress: Callable[[float, str], None] | None = None,
) -> Path:
    """Make the model file of a run.

    Parameters
    ----------
    run : path
        The run's folder, path.root/experiments/NAME.
    out : path
        File to write; ends with .safetensors. In the folder of user models, Apply lists it.
    which : "best", "latest" or int
        The best by validation (the latest if nothing was validated), the latest, or that of an iteration.
    texts : mapping, optional
        Entries of the card: "name", "title", "summary", "limits", "licence", "voxel_size_mm". They go before those of
        "card" in the run's options.json, which may be edited for the purpose.
    halo : bool
        Measure the halo, so that large slices can be cut into tiles.
    half : bool
        Store float16 weights.
    device : str
        Where the halo is measured.
    progress : callable (fraction, message), optional

    Raises
    ------
    InputError
        If it is no run's folder, or the run has no such model; those that it has are listed.
    OutputError
        If the file cannot be written.
    """
    run, out = Path(run), Path(out)
    if out.suffix.lower() != SUFFIX:
        raise OutputError(f"{out} is no name of a model file.", f"Let it end with {SUFFIX}.")
    model = Model.load(find_run_model(run, which))
    texts = {**own_texts(read_options(run / "options.json")), **(texts or {})}
    if texts.get("voxel_size_mm"):
        texts["voxel_size_mm"] = tuple(map(float, texts["voxel_size_mm"]))
    model = Model(model.network, replace(model.card, **texts))
    if halo:
        model = calibrate(model, device=device, progress=part_of(progress, 0, 0.95))
    path = model.save(out, half=half)
    part_of(progress, 0.95, 1)(1, "Done")
    return path


def find_run_model(run: Path, which: str | int = BEST) -> Path:
    """The file within the run's folder that is meant; see `export_run`."""
    folder = run / "models"
    if not (run / "options.json").is_file():
        raise InputError(f"{run} is not the folder of a run.", "Give path.root/experiments/NAME.")
    models = {file.name.partition("_")[0]: file for file in sorted(folder.glob(f"[!.]*_*{SUFFIX}"))}
    if str(which) in models:
        return models[str(which)]
    if which == BEST and LATEST in models:
        log.warning("The run %s was never validated, so its latest model is taken.", run.name)
        return models[LATEST]
    there = list(models)
    listed = f"There are: {', '.join(there)}." if there else "It saved no model yet."
    raise InputError(f"The run {run.name} has no model {which}.", listed)
