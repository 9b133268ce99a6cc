"""Calibrating a model's error bars: its deviations against the errors that it makes where the truth is known.

What is compared goes through the same steps as a user's scan: blur and noise are estimated, the result is kept from
contradicting the scan. Voxels that the window cuts off do not count; there no network works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil
from pathlib import Path

import numpy as np

from ..acquisition.phantom import (
    FINE_BLUR,
    WINDOW,
    coarse_scan,
    jaw_phantom,
    oblique_grid,
    to_grey,
    trabecular_phantom,
)
from ..acquisition.scanner import ALL_AXES, Acquisition, correlated_noise, gaussian_blur
from ..apply.plan import PREDICTIVE, planned_maps
from ..apply.run import super_resolve
from ..core.errors import InputError, ModelError
from ..core.options import USUAL_PASSES, Options
from ..core.progress import Report
from ..io.volume import Volume
from ..models.card import ModelCard
from ..models.intervals import CUT, GAUSSIAN, SHARE, Intervals
from ..models.model import Model
from ..scan.field_of_view import find_blanks
from .common_region import at_points, common_box, cropped

MOST_SCANS = 5
BLURS = (0.2, 0.45, 0.7, 0.95)  # input voxels
NOISES = (0.005, 0.02, 0.035, 0.055)  # of the window
SHAPE = (6, 176, 176)  # of the drawn fine scans
SPACINGS = (0.08, 0.1, 0.12, 0.14, 0.155, 0.17)  # mm; each another jaw
BONE_SPACINGS = (0.04, 0.055, 0.07, 0.085)  # mm, of the drawn trabecular bone
LEAST = 0.006  # of the window: deviation that no error bar goes below; a fine scan's own noise is of this size
CONTRAST = 0.4  # how far narrow error bars follow the local contrast; found on phantoms, by rank correlation
GRAIN = 0.015  # of the window: a fine scan's own noise, which is part of the truth where texture is
SEED, CHECK_SEED = 41, 71
APART = 0.1  # input voxels, between a blur and the ends
BORDER = 8  # fine voxels
FEWEST = 10_000  # voxels that a quantile is taken of


@dataclass(frozen=True)
class Calibration:
    """A model with intervals, and how well they did.

    Attributes
    ----------
    model : Model
    coverage : dict of str to float
        Share of the voxels of scans that were not calibrated with which lie within their intervals, by the scan; of
        several given scans with the quantile of the others, of a single one with its own, as nothing else is there.
    """

    model: Model
    coverage: dict[str, float]


def calibrate_intervals(
    model: Model,
    scans: Sequence[tuple[Path | Volume, Path | Volume]] = (),
    *,
    device: str = "auto",
    progress: Report | None = None,
) -> Calibration:
    """Find how many of a model's own deviations hold 90 % of its errors.

    Parameters
    ----------
    model : Model
        That gives a log-variance, or has dropout.
    scans : sequence of (scan, truth), optional
        Up to five coarse scans, and finer ones of the same objects in the same places: volumes or files. Without, jaws
        are drawn and scanned with every blur and noise that the model learned from.
    device : str
    progress : callable (fraction, message), optional

    Raises
    ------
    ModelError
        If the model tells nothing of its errors.
    InputError
        If there are too many scans, or too little of them can be compared.
    """
    card, tell = model.card, progress or (lambda fraction, message: None)
    options = Options(device=device, dtype="float32", uncertainty=USUAL_PASSES)
    if PREDICTIVE not in planned_maps(card, options):
        raise ModelError(
            f"The model {card.name} has no error bars to calibrate: it gives no log-variance and has no dropout.",
            "Its disagreement with itself is measured instead (--uncertainty); or train a model with "
            "network_G.log_variance.",
        )
    if len(scans) > MOST_SCANS:
        raise InputError(f"{len(scans)} scans are given.", f"Give at most {MOST_SCANS}.")
    bare = Model(model.network, replace(card, intervals={}))
    found, coverage = _of_given(bare, scans, options, tell) if scans else _of_drawn(bare, options, tell)
    tell(1.0, "Done")
    return Calibration(Model(model.network, replace(card, intervals=found.to_json())), coverage)


def _of_given(
    model: Model, scans: Sequence[tuple[Path | Volume, Path | Volume]], options: Options, tell: Report
) -> tuple[Intervals, dict[str, float]]:
    """One quantile for all scans, and what each of them says of that of the others."""
    scores, conditions, met = {}, [], []
    for number, (scan, truth) in enumerate(scans):
        tell(number / len(scans), f"Scan {number + 1} of {len(scans)}")
        volume = scan if isinstance(scan, Volume) else Volume.read(scan)
        fine = truth if isinstance(truth, Volume) else Volume.read(truth)
        result = super_resolve(volume, model, options)
        try:
            box = common_box(result.grid, [fine.grid], find_blanks(result, "none"))
        except InputError as error:
            raise InputError(f"Scan {number + 1}: {error.what}", error.advice) from None
        parts = [cropped(Volume(v.voxels, result.grid), box) for v in (result, result.error_bars[PREDICTIVE])]
        name = str(scan) if isinstance(scan, Path) else f"scan {number + 1}"
        at_its_points = at_points(fine, parts[0].grid)
        scores[name] = _scores(parts[0].voxels, parts[1].voxels, at_its_points, result.report["window"])
        evenness = result.report["error_bars"]["evenness"]
        met += [] if evenness is None else [evenness]
        told = result.report["conditions"]
        conditions.append((float(np.mean(told["blur"][:2])), told["noise"]))
    pooled = np.concatenate([*scores.values()])
    if pooled.size < FEWEST:
        raise InputError(
            f"Only {pooled.size} voxels within the window can be compared.", f"Give scans with at least {FEWEST}."
        )
    quantile = _quantile(pooled)
    blur, noise = (tuple(sorted({round(value, 4) for value in values})) for values in zip(*conditions, strict=True))
    blur, noise = (knots if len(knots) == 1 else (knots[0], knots[-1]) for knots in (blur, noise))
    table = ((round(quantile, 4),) * len(noise),) * len(blur)
    text = f"{len(scans)} given scan{'s' if len(scans) > 1 else ''} with a truth"
    found = Intervals(blur, noise, table, text, pooled.size, evenness_met=(min(met), max(met)) if met else ())
    held = {}
    for name, own in scores.items():
        others = [of for other, of in scores.items() if other != name]
        held[name] = float(np.mean(own <= (_quantile(np.concatenate(others)) if others else quantile)))
    return found, held


def _of_drawn(model: Model, options: Options, tell: Report) -> tuple[Intervals, dict[str, float]]:
    """A quantile for each blur and noise of drawn jaws, and one of drawn bone that fills the picture; and what others
    say of them.
    """
    blurs, noises = settings_of(model.card)
    cells, quantiles, evenness, coverage, voxels, met = list(product(blurs, noises)), {}, {}, {}, 0, []
    options = replace(options, window=WINDOW, blank="none")
    drawn = {(seed, draw): draw(seed) for seed in (SEED, CHECK_SEED) for draw in (_jaws, _bones)}
    begun = Intervals(blurs[:1], noises[:1], ((GAUSSIAN,),), "", contrast=CONTRAST)  # multiplies by 1
    least = GAUSSIAN * LEAST * (WINDOW[1] - WINDOW[0])
    models = {_jaws: Model(model.network, replace(model.card, intervals=begun.to_json())), _bones: model}
    of_bone: dict[int, list[np.ndarray]] = {SEED: [], CHECK_SEED: []}
    for number, (blur, noise) in enumerate(cells):
        acquisition = Acquisition(blur=2 * blur, noise=noise)
        for place, ((seed, draw), fields) in enumerate(drawn.items()):
            tell((number + place / len(drawn)) / len(cells), f"Blur {blur:g} voxels, noise {noise:.1%}")
            scores, spread = [], []
            for n, (field, grid) in enumerate(fields):
                scan = coarse_scan(field, grid, seed + n, acquisition, None, dtype="float32")
                result = super_resolve(scan, models[draw], options)
                inner = (slice(None), *[slice(BORDER, -BORDER)] * 2)
                volumes = (result.voxels, result.error_bars[PREDICTIVE].voxels, to_grey(field, dtype="float32"))
                scores.append(_scores(*(v[inner] for v in volumes), WINDOW, least))
                spread.append(result.report["error_bars"]["evenness"])
            pooled = np.concatenate(scores)
            if seed == SEED:
                voxels += pooled.size
                met += spread
            if draw is _bones:
                of_bone[seed].append(pooled)
            elif seed == SEED:
                quantiles[blur, noise], evenness[blur, noise] = _quantile(pooled), float(np.mean(spread))
            else:
                name = f"other drawn jaws, blur {blur:g} voxels, noise {noise:.1%}"
                coverage[name] = float(np.mean(pooled <= quantiles[blur, noise]))
    textured = _quantile(np.concatenate(of_bone[SEED]))
    coverage["other drawn trabecular bone, all blurs and noises"] = float(
        np.mean(np.concatenate(of_bone[CHECK_SEED]) <= textured)
    )
    tables = [
        tuple(tuple(round(of[blur, noise], 4) for noise in noises) for blur in blurs) for of in (quantiles, evenness)
    ]
    text = (
        f"drawn jaws with voxels of {2 * SPACINGS[0]:g} to {2 * SPACINGS[-1]:g} mm and drawn trabecular bone with such "
        f"of {2 * BONE_SPACINGS[0]:g} to {2 * BONE_SPACINGS[-1]:g} mm"
    )
    ends = (round(min(met), 4), round(max(met), 4))
    more = {"evenness": tables[1], "textured": round(textured, 4), "evenness_met": ends}
    return Intervals(blurs, noises, tables[0], text, voxels, **more, contrast=CONTRAST, least=LEAST), coverage


def settings_of(card: ModelCard) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Blurs, in voxels of the scan, and noises, in units of the window: the ends of what a model learned from, and some
    between them.
    """
    blur, noise = card.usual_conditions
    low, high = card.trained_blur or (blur, blur)
    strongest = noise if card.strongest_noise is None else card.strongest_noise
    between = [value for value in BLURS if low + APART <= value <= high - APART]
    blurs = tuple(sorted({round(low, 4), *between, round(high, 4)}))
    return blurs, tuple(value for value in NOISES if value <= strongest) or (round(max(noise, NOISES[0]), 4),)


def _jaws(seed: int) -> list:
    """Drawn jaws as a fine scan shows them, within the window, and where they lie."""
    found = []
    for n, spacing in enumerate(SPACINGS):
        field = gaussian_blur(jaw_phantom(SHAPE, spacing, 1000 * seed + n), FINE_BLUR, ALL_AXES)
        found.append((np.clip(field, 0, 1), oblique_grid(SHAPE, spacing, seed + n)))
    return found


def _bones(seed: int) -> list:
    """Drawn trabecular bone as a fine scan shows it, with that scan's own noise; smaller, as texture is everywhere."""
    found, shape = [], (SHAPE[0] // 2, *SHAPE[1:])
    for n, spacing in enumerate(BONE_SPACINGS):
        field = gaussian_blur(trabecular_phantom(shape, spacing, 1000 * seed + n), FINE_BLUR, ALL_AXES)
        field += correlated_noise(shape, GRAIN, 0.5, ALL_AXES, 1000 * seed + n)
        found.append((np.clip(field, 0, 1), oblique_grid(shape, spacing, seed + n)))
    return found


def _scores(
    image: np.ndarray, deviation: np.ndarray, truth: np.ndarray, window: Sequence[float], least: float = 0.0
) -> np.ndarray:
    """Errors in units of the deviation, of voxels that count: what of each is beyond the least interval, by squares."""
    low, high = window
    margin = CUT * (high - low)
    counts = (truth > low + margin) & (truth < high - margin) & (deviation > 0)
    squares = np.square(image[counts].astype(np.float64) - truth[counts])
    return np.sqrt(np.maximum(squares - least**2, 0)) / deviation[counts]


def _quantile(scores: np.ndarray) -> float:
    """The conformal quantile: of n scores the ceil((n + 1) `SHARE`)-th smallest."""
    place = min(ceil((scores.size + 1) * SHARE), scores.size) - 1
    return float(np.partition(scores, place)[place])
