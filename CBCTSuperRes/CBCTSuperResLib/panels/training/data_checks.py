"""What is wrong with the scans of the table, what to beware of, and what is learned from, in words; no Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from slicer.i18n import tr as _

from ...core.errors import InputError, SuperResError
from ...scene.nodes import volumeFromNode
from ...scene.training_volumes import Scan, checkPair, isSuperResolved
from ...train.options_file import value_at
from ...train.recipes import RECIPES
from ..error_text import errorText
from .data_rows import USES, DataRow, isNode
from .option_values import Values


def problemOf(row: DataRow, settings: Callable[[], Values]) -> str:
    """Why a row cannot be used as it is, or nothing.

    Parameters
    ----------
    settings : callable
        Gives the settings that pairs must fit, see `TrainingChoices.settings`.
    """
    try:
        for scan, name in zip((row.coarse, row.fine), row.names, strict=True):
            if name:
                _checkScan(scan, name)
        if isNode(row.coarse) and isNode(row.fine):
            values = settings()
            scale, axis = value_at(values, "scale"), value_at(values, "datasets.train.axis")
            recipe = RECIPES.get(value_at(values, "model"))
            isUnpaired = row.use == "train" and recipe is not None and recipe.is_unpaired
            if not isUnpaired and isinstance(scale, int) and not isinstance(scale, bool) and scale > 0:
                checkPair(row.coarse, row.fine, scale, axis or "axial")
    except SuperResError as error:
        return errorText(error)
    return ""


def _checkScan(scan: Scan | None, name: str) -> None:
    if scan is None:
        raise InputError(_("The volume {name} is no longer in the scene.").format(name=name), _("Remove the row."))
    if isNode(scan):
        volumeFromNode(scan)
        return
    path = Path(scan).expanduser()
    if not path.exists():
        raise InputError(_("There is no {path}.").format(path=path), _("Remove the row, or mount the disk."))
    if path.is_dir() and not any(path.iterdir()):
        raise InputError(_("The folder {path} is empty.").format(path=path), _("Remove the row."))


def problemOfAll(rows: Sequence[DataRow], settings: Callable[[], Values]) -> str:
    """Why the table will not do, or nothing; see `problemOf`."""
    for number, row in enumerate(rows, 1):
        problem = problemOf(row, settings)
        if problem:
            return _("Row {number}: {problem}").format(number=number, problem=problem)
    for phase in USES:
        if len({row.isPair for row in rows if row.use == phase}) > 1:
            return _(
                "Some scans have a coarse partner and some have none. Give every fine scan for {use} a coarse one, or "
                "none of them."
            ).format(use=_("training") if phase == "train" else _("validation"))
    return ""


def warningOf(row: DataRow) -> str:
    """What to beware of in a row that can be used, or nothing."""
    if row.fine is None or not isSuperResolved(row.fine):
        return ""
    return _(
        "{name} is a super-resolved volume: its fine detail was predicted by a network, and a model that learns from "
        "it learns those predictions. Use a scan that was measured as fine."
    ).format(name=row.names[1])


def warningsOfAll(rows: Sequence[DataRow]) -> list[str]:
    """What to beware of in the table."""
    mixed = _("Prepared scans have gray values from 0 to 65535, the others have their own: prepare all scans, or none.")
    found = [mixed] if len({row.isPrepared for row in rows}) > 1 else []
    return found + [warning for row in rows if (warning := warningOf(row))]


def rowsText(rows: Sequence[DataRow]) -> str:
    """ "2 pairs, 1 fine scan"."""
    pairs = sum(row.isPair for row in rows)
    single = len(rows) - pairs
    parts = [_("1 pair") if pairs == 1 else _("{count} pairs").format(count=pairs)] if pairs else []
    parts += [_("1 fine scan") if single == 1 else _("{count} fine scans").format(count=single)] if single else []
    return ", ".join(parts)


def imagesText(values: Values, phase: str) -> str:
    """What the settings say of a set that has no rows."""
    drawn = value_at(values, f"datasets.{phase}.procedural") or 0
    public = value_at(values, f"datasets.{phase}.public") or []
    parts = [_("{count} computer-drawn images").format(count=drawn)] if drawn else []
    parts += [_("public scans ({names})").format(names=", ".join(map(str, public)))] if public else []
    return ", ".join(parts) or (_("no scans yet") if phase == "train" else _("none; the best model is the latest"))
