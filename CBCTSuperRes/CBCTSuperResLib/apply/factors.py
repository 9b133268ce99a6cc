"""The factors by which the axes become finer: what is asked, what a model offers, and what the result is called."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.errors import OptionError
from ..core.options import CUBIC, Options
from ..models.card import ModelCard, factors_text, read_card
from ..models.folder import DEFAULT_MODEL, default_model, find_model

LARGEST_SPACING_RATIO = 1.5  # of the axes, up to which a model of slices also works in planes across them
THREE_PLANES_TIME = 3  # times that of blocks, as measured on protocol P3


def scales(card: ModelCard, options: Options, spacing: Sequence[float] | None = None) -> tuple[float, float, float]:
    """Factors along (i, j, k) that a model and the options mean together.

    Parameters
    ----------
    spacing : (i, j, k), optional
        Of the scan, in mm; it must be known where the options ask for an output spacing.

    Raises
    ------
    OptionError
        If the model does not offer the factors that are asked for.
    """
    found = card.offered(options.factors(spacing), options.planes, spacing)
    if found is None:
        raise _not_offered(card, options, spacing)
    if options.output_spacing is not None and max(found) == 1:
        raise OptionError(
            f"The scan's voxels are {_sizes_text(spacing)} mm already: nothing would become finer.",
            "Ask for smaller voxels; or, for less noise at the same size, for the factor 1 instead (--scale 1).",
        )
    return found


def _not_offered(card: ModelCard, options: Options, spacing: Sequence[float] | None) -> OptionError:
    """Why a model cannot make what is asked of it, and what it can."""
    asked, offered = options.factors(spacing), card.factors(options.planes, spacing)
    is_across = isinstance(asked, tuple) and asked[2] != 1 and offered[2] == (1.0, 1.0)
    asked = np.broadcast_to(asked, 3)
    by_size = options.output_spacing is not None
    if asked.max() == 1 and asked.min() == 1 and not by_size:
        able = card.factors_text(options.planes)
        return OptionError(
            f"The model {card.name} was trained for x{able}: it does not denoise without enlarging.",
            "Choose a model whose factors begin at 1, such as any-size, or leave the model out.",
        )
    is_of_blocks = offered[2] != (1.0, 1.0) and asked.min() < asked.max()
    text = " x ".join(f"{factor:.4g}" for factor in asked) if is_of_blocks else factors_text(asked)
    text += f" for voxels of {_sizes_text(np.divide(spacing, asked))} mm" if by_size else ""
    if card.spec.scale:
        kind = "slices by" if offered[2] == (1.0, 1.0) else "by"
        able = factors_text([factor for factor, _ in offered])
        what = f"The model {card.name} enlarges {kind} {able}, not by {text}."
    else:
        lowest, highest = (factors_text(row) for row in zip(*offered, strict=True))
        what = f"The model {card.name} offers factors from {lowest} to {highest}, not {text}."
    advice = "Leave the factor out, or choose another model."
    if by_size:
        ends = [_sizes_text(np.divide(spacing, row)) for row in zip(*offered, strict=True)]
        can = ends[0] if ends[0] == ends[1] else f"{ends[1]} to {ends[0]}"
        advice = f"Ask for {can} mm, or choose another model."
    if asked.min() < 1:
        advice += " Below 1, voxels become larger, which needs no model: use resampling."
    elif is_across:
        advice += " This one leaves the slices' distance as it is; one of any voxel size does not."
    return OptionError(what, advice)


def chosen_because(card: ModelCard, options: Options, spacing: Sequence[float]) -> str:
    """Why a model was taken that is not the usual default, in words; "" for the default. See `default_model`.

    Where the default could make the same in three planes, that is said, too.
    """
    if card.name == DEFAULT_MODEL:
        return ""
    if is_same_size(found := scales(card, options, spacing)):
        return f"The model {card.name} was taken because {DEFAULT_MODEL} does not denoise without enlarging."
    reason = f"The model {card.name} was taken because {DEFAULT_MODEL} does not enlarge by {factors_text(found)}."
    if not are_three_planes_closer(found, spacing):
        return reason
    return (
        f"{reason[:-1]} slice by slice. In three planes it does, closer to the truth and some {THREE_PLANES_TIME} "
        f"times as long (--model {DEFAULT_MODEL} --planes isotropic; in the panel: In all axes)."
    )


def are_three_planes_closer(factors: Sequence[float], spacing: Sequence[float]) -> bool:
    """Whether `DEFAULT_MODEL` makes these factors in three planes, and so closer to the truth than blocks are.

    Parameters
    ----------
    factors, spacing : (i, j, k)
        Of the result, and of the scan in mm.
    """
    usual = read_card(find_model(DEFAULT_MODEL))
    is_offered = usual.offered(tuple(factors), "isotropic") is not None
    return is_offered and max(spacing) <= LARGEST_SPACING_RATIO * min(spacing)


def is_same_size(factors: Sequence[float]) -> bool:
    """Whether a result has the scan's own voxels: it is denoised, and not enlarged."""
    return max(factors) == 1


def result_name(name: str, card: ModelCard | None, options: Options) -> str:
    """What the result of a scan is called.

    "<scan> SR x2", or "<scan> SR 1x1x2.2" where the axes differ; "<scan> denoised" where none becomes finer; "<scan> SR
    0.2 mm" or "<scan> SR cubic" where voxels of a size are asked for, with which the model need not be known yet. With
    the grey values of another scanner: "<scan> SR x4 other scanner". Without a model, of the default one.
    """
    size = options.output_spacing
    by_axis = options.scale if isinstance(options.scale, tuple) else None  # for which each scan's axes decide
    if size is None and by_axis is None:
        card = card or default_model(options)
    whose = " other scanner" if card and card.spec.domain == "other" else ""
    if size == CUBIC:
        return f"{name} SR {CUBIC}{whose}"
    if size is not None:
        return f"{name} SR {_sizes_text(np.broadcast_to(size, 3), 'x')} mm{whose}"
    if is_same_size(factors := by_axis or scales(card, options)):
        return f"{name} denoised{whose}"
    text = factors_text(factors, "x", ".3g")
    return f"{name} SR {text}{whose}" if "x" in text else f"{name} SR x{text}{whose}"


def _sizes_text(sizes: Sequence[float], between: str = " x ") -> str:
    """ "0.3 x 0.3 x 1.5", or "0.3" where all are alike."""
    texts = [f"{size:.4g}" for size in sizes]
    return texts[0] if len(set(texts)) == 1 else between.join(texts)
