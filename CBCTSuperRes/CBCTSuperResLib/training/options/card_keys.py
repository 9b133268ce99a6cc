"""Keys of "card": what a model file says about itself in words."""

from __future__ import annotations

from dataclasses import dataclass

from .keys import ours
from .kinds import ListOf, Number, Text


@dataclass(frozen=True)
class CardOptions:
    """Texts of the model card; what is left out is made from the run."""

    name: str | None = ours(Text(), None, "Short name by which the model is chosen; null: the run's.", resumable=True)
    title: str | None = ours(Text(), None, "One line for lists.", resumable=True)
    summary: str | None = ours(Text(), None, "A few sentences: what the model is and does.", resumable=True)
    limits: str | None = ours(Text(), None, "What the model must not be used for.", resumable=True)
    licence: str | None = ours(Text(), None, "Licence of the weights.", resumable=True)
    voxel_size_mm: tuple[float, float] | None = ours(
        ListOf(Number(above=0), 2, ascending=True),
        None,
        "Smallest and largest voxel size of the scans that the model is for; null: those of the LR data.",
        resumable=True,
    )
