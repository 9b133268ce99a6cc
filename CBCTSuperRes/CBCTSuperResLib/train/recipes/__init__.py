"""What is trained, with which losses, and how one step goes: one recipe a file. Importing this needs no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from ...core.errors import OptionError

if TYPE_CHECKING:
    from ..options import TrainingOptions
    from .recipe import Recipe


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


def build_recipe(options: TrainingOptions, weights: bool = True) -> Recipe:
    """The recipe that "model" in the options names.

    Parameters
    ----------
    weights : bool
        Whether networks that are used and never trained get their weights, from files that must be there. Without, a
        step's cost can be counted.

    Raises
    ------
    OptionError
        If there is none, or the options do not fit together.
    """
    if options.model not in RECIPES:
        raise OptionError(f"model is {options.model!r}, which cannot be trained.", f"Choose {', '.join(RECIPES)}.")
    module, _, cls = RECIPES[options.model].path.partition(":")
    return getattr(import_module(module), cls)(options, weights)


__all__ = ["RECIPES", "Registered", "build_recipe"]
