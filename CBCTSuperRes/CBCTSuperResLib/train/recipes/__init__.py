"""What is trained, with which losses, and how one step goes: one recipe a file; here is their list, without torch."""

from __future__ import annotations

from typing import NamedTuple


class Registered(NamedTuple):
    """Where a recipe is and what its block "train" may hold.

    Attributes
    ----------
    path : str
        "module:class"; imported when it is built.
    options : type or None
        A subclass of `TrainOptions` with the recipe's own keys; None: `TrainOptions` itself.
    """

    path: str
    options: type | None = None


RECIPES: dict[str, Registered] = {
    "unetspsr": Registered("CBCTSuperResLib.train.recipes.unetspsr:UNetSPSRRecipe"),
}
