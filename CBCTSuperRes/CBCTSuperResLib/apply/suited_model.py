"""Where no model is named, one that is told the scanner takes over from the usual one on scans of an unusual blur."""

from __future__ import annotations

from ..acquisition.estimate import FWHM
from ..io.volume import Volume
from ..models.folder import told_model
from .conditions import is_unlike_usual
from .plan import Plan, Workers, make_plan, planned_maps


def with_suited_model(plan: Plan, volume: Volume, workers: Workers | None = None) -> tuple[Plan, str]:
    """The plan, or the same with another model, and why in words; "" where it stays.

    Parameters
    ----------
    plan : Plan
        With what the scan tells (`Plan.with_scan`), of a model that nobody named.
    volume : Volume
        The scan.
    workers : Workers, optional
        As for `make_plan`.
    """
    usual = plan.card
    if not is_unlike_usual(usual, plan.conditions):
        return plan, ""
    card = told_model(usual, plan.options, volume.spacing)
    if card is None or planned_maps(card, plan.options) != plan.maps:
        return plan, ""
    other = make_plan(volume.grid, volume.voxels.dtype, card, plan.options, workers)
    other = other.with_scan(volume, blanks=plan.blanks, scanner=plan.scanner, is_checked=True)
    step = sum(volume.spacing[:2]) / 2
    seen, met = (FWHM * step * blur for blur in (sum(plan.conditions.blur[1:]) / 2, usual.usual_conditions[0]))
    return other, (
        f"The model {card.name} was taken because it is told the scan's blur, {seen:.2g} mm; {usual.name} usually met "
        f"{met:.2g} mm."
    )
