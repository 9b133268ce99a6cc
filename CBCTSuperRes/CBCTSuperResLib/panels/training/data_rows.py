"""The table of scans to train on and to validate with, as it is kept in the scene."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ...core.atomic import json_of
from ...scene.training_volumes import Scan

USES = ("train", "val")
SIDES = ("coarse", "fine")
ROLE = "CBCTSuperRes.data"
DATASETS = "datasets.json"  # what preparing writes beside the scans


@dataclass(frozen=True)
class DataRow:
    """A fine scan, and perhaps the coarse scan of the same object.

    Attributes
    ----------
    fine : node or path
        None if it was a volume that is no longer in the scene.
    coarse : node or path
        None if coarse images are to be simulated, or if the volume is gone.
    use : "train" or "val"
    names : tuple of str
        Of coarse and fine scan; "" where there is none. A name without a scan is of a volume that is gone.
    """

    fine: Scan | None
    coarse: Scan | None = None
    use: str = "train"
    names: tuple[str, str] = ("", "")

    @property
    def isPair(self) -> bool:
        return bool(self.names[0])

    @property
    def isPrepared(self) -> bool:
        """Whether the fine scan was written together with `datasets.json`."""
        if self.fine is None or isNode(self.fine):
            return False
        return any((folder / DATASETS).is_file() for folder in list(Path(self.fine).parents)[1:3])

    @property
    def isPreparedPair(self) -> bool:
        """Whether coarse and fine scan were written as volumes that lie upon each other."""
        return self.isPair and self.isPrepared and str(self.fine).lower().endswith(".nrrd")

    @property
    def description(self) -> str:
        """Which scans, in a sentence."""
        scans = zip((self.coarse, self.fine), self.names, strict=True)
        coarse, fine = (scan if isinstance(scan, str) else name for scan, name in scans)
        if not self.isPair:
            return _("{fine}; its coarse images are simulated.").format(fine=fine)
        return _("Fine: {fine}. Coarse: {coarse}.").format(fine=fine, coarse=coarse)

    @property
    def item(self) -> Scan | tuple[Scan, Scan]:
        """As `TrainingLogic.start` takes it."""
        return (self.coarse, self.fine) if self.isPair else self.fine


def makeRow(fine: Scan, coarse: Scan | None = None, use: str = "train") -> DataRow:
    return DataRow(fine, coarse, use, (nameOf(coarse), nameOf(fine)))


def nameOf(scan: Scan | None) -> str:
    """Of a node, or of a file or folder; "" of nothing."""
    if scan is None:
        return ""
    return scan.GetName() if isNode(scan) else Path(scan).name or str(scan)


def isNode(scan: Scan | None) -> bool:
    return scan is not None and not isinstance(scan, str | Path)


def readRows(parameters) -> list[DataRow]:
    """The rows that are kept in the parameters; none if what is there cannot be read."""
    rows, node = [], parameters.parameterNode
    try:
        for number, stored in enumerate(json_of(parameters.data or "[]")):
            scans, names = {}, []
            for side in SIDES:
                entry = stored[side] or {}
                scans[side] = entry.get("path") or node.GetNodeReference(f"{ROLE}.{number}.{side}")
                names.append(nameOf(scans[side]) or entry.get("volume", ""))
            use = stored["use"] if stored["use"] in USES else USES[0]
            rows.append(DataRow(use=use, names=tuple(names), **scans))
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    return rows


def writeRows(parameters, rows: Sequence[DataRow]) -> None:
    """Keep the rows: paths as text, volumes as references, which stay right when the scene is saved and loaded."""
    node = parameters.parameterNode
    with slicer.util.NodeModify(node):
        roles = [node.GetNthNodeReferenceRole(n) for n in range(node.GetNumberOfNodeReferenceRoles())]
        for role in roles:
            if role.startswith(ROLE):
                node.RemoveNodeReferenceIDs(role)
        entries = []
        for number, row in enumerate(rows):
            entry = {"use": row.use}
            for side, name in zip(SIDES, row.names, strict=True):
                scan = getattr(row, side)
                if isNode(scan):
                    node.SetNodeReferenceID(f"{ROLE}.{number}.{side}", scan.GetID())
                    entry[side] = {"volume": name}
                elif scan is not None:
                    entry[side] = {"path": str(scan)}
                else:
                    entry[side] = {"volume": name} if name else None
            entries.append(entry)
        parameters.data = json.dumps(entries, ensure_ascii=False)
