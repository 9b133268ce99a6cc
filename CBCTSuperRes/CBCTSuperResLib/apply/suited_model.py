"""Where no model is named, one that is told the scanner takes over from the usual one on scans of an unusual blur."""

from __future__ import annotations

from ..acquisition.estimate import FWHM
from ..io.volume import Volume
from ..models.card import ModelCard
from ..models.folder import told_model
from .conditions import is_unlike_usual
from .plan import Plan, Workers, make_plan, planned_maps


def suited_card(plan: Plan) -> ModelCard:
    """The plan's model, or one that does the same and is told the scan's blur, which the plan's never met.

    Parameters
    ----------
    plan : Plan
        With what the scan tells (`Plan.with_scan`), of a model that nobody named.
    """
    if not is_unlike_usual(plan.card, plan.conditions):
        return plan.card
    other = told_model(plan.card, plan.options, plan.scan_grid.spacing)
    return plan.card if other is None or planned_maps(other, plan.options) != plan.maps else other


def blur_in_mm(plan: Plan) -> tuple[float, float]:
    """Blur in slices without objects' softness, and what the model usually meets: full widths at half maximum."""
    step = sum(plan.scan_grid.spacing[:2]) / 2
    return FWHM * step * sum(plan.conditions.cautious_blur[1:]) / 2, FWHM * step * plan.card.usual_conditions[0]


def with_suited_model(plan: Plan, volume: Volume, workers: Workers | None = None) -> tuple[Plan, str]:
    """The plan, or the same with another model, and why in words; "" where it stays.

    Parameters
    ----------
    plan : Plan
        As for `suited_card`.
    volume : Volume
        The scan.
    workers : Workers, optional
        As for `make_plan`.
    """
    usual, card = plan.card, suited_card(plan)
    if card is usual:
        return plan, ""
    other = make_plan(volume.grid, volume.voxels.dtype, card, plan.options, workers)
    other = other.with_scan(volume, blanks=plan.blanks, scanner=plan.scanner, is_checked=True)
    seen, met = blur_in_mm(plan)
    if plan.conditions.source == "little":
        return other, (
            f"The model {card.name} was taken because it can be told that the scan may have little blur ({seen:.2g} mm "
            f"is taken); {usual.name} usually met {met:.2g} mm."
        )
    how = "the scanner's blur" if plan.conditions.is_known else "what the scanner's blur seems to be"
    return other, (
        f"The model {card.name} was taken because it is told {how}, {seen:.2g} mm without what objects' "
        f"softness may have added; {usual.name} usually met {met:.2g} mm."
    )
