"""Asking, once and clearly, before Python packages are installed."""

from __future__ import annotations

from slicer.i18n import tr as _

from ..install import ensurePackages, offerTrainingExtras
from . import dialogs


def askAndEnsurePackages() -> None:
    """Install what computing needs and is missing, if the user agrees.

    Raises
    ------
    DependencyError
        If something is still missing.
    """
    ensurePackages(ask=_ask)


def askAndOfferExtras() -> list[str]:
    """Install what shows curves of a training, if the user agrees; returns what is still missing."""
    return offerTrainingExtras(ask=_askForExtras)


def _ask(packages: list[str]) -> bool:
    question = _(
        "Computing needs these Python packages, which are not installed yet:\n\n{packages}\n\nThey are downloaded from "
        "the internet and installed into this Slicer, which may take some minutes. Nothing of your data leaves this "
        "computer."
    )
    return dialogs.confirm(_("Install Python packages"), question.format(packages="\n".join(packages)), _("Install"))


def _askForExtras(packages: list[str]) -> bool:
    question = _(
        "These Python packages show the curves of a training in the web browser and as a picture file:\n\n{packages}"
        "\n\nA training works without them. Install them into this Slicer?"
    )
    return dialogs.confirm(_("Install Python packages"), question.format(packages="\n".join(packages)), _("Install"))
