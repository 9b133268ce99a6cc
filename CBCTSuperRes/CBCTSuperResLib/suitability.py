"""What speaks against using a model for a volume, before anything runs. Needs no torch."""

from __future__ import annotations

import numpy as np

from .estimate import LARGEST_SPACING_RATIO
from .models.card import ModelCard
from .options import Options
from .volume import Grid, Volume


def warnings_for(volume: Volume, card: ModelCard, options: Options) -> list[str]:
    """What speaks against using a model for a volume, in words for the user."""
    found = []
    *in_plane, between = volume.spacing
    if card.voxel_size_mm:
        smallest, largest = card.voxel_size_mm
        if min(in_plane) < 0.95 * smallest or max(in_plane) > 1.05 * largest:
            found.append(
                f"The voxel size {in_plane[0]:.3g} x {in_plane[1]:.3g} mm is outside the model's range of {smallest:g} "
                f"to {largest:g} mm."
            )
    if max(in_plane) > 1.05 * min(in_plane):
        found.append("The pixels are not square; the network learned from square ones.")
    slicewise = options.planes == "axial" and card.spec.dimensions == 2
    if slicewise and between > LARGEST_SPACING_RATIO * max(in_plane):
        found.append(f"The slices are {between:.3g} mm apart; only their plane gets sharper.")
    return found


def spacing_suspicion(grid: Grid) -> str:
    """A sentence if the voxel size looks as if it had been lost on the way; "" otherwise."""
    if not np.allclose(grid.spacing, 1.0, atol=1e-6):
        return ""
    return "The spacing is exactly 1 x 1 x 1 mm, as in files that have lost theirs: set it in the module Volumes."
