"""Asking, once and clearly, before Python packages are installed."""

from __future__ import annotations

from slicer.i18n import tr as _

from ..install import ensurePackages
from . import dialogs


def askAndEnsurePackages() -> None:
    """Install what computing needs and is missing, if the user agrees.

    Raises
    ------
    DependencyError
        If something is still missing.
    """
    ensurePackages(ask=_ask)


def _ask(packages: list[str]) -> bool:
    question = _(
        "Computing needs these Python packages, which are not installed yet:\n\n{packages}\n\nThey are downloaded from "
        "the internet and installed into this Slicer, which may take some minutes. Nothing of your data leaves this "
        "computer."
    )
    return dialogs.confirm(_("Install Python packages"), question.format(packages="\n".join(packages)), _("Install"))
