"""The table of scans to train on and to validate with, as it is kept in the scene."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import slicer

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
    try:
        told = json.loads(parameters.data or "[]")
        return [_rowOf(parameters.parameterNode, number, one) for number, one in enumerate(told)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def writeRows(parameters, rows: Sequence[DataRow]) -> None:
    """Keep the rows: paths as text, volumes as references, which stay right when the scene is saved and loaded."""
    node = parameters.parameterNode
    with slicer.util.NodeModify(node):
        for role in _roles(node):
            node.RemoveNodeReferenceIDs(role)
        for number, row in enumerate(rows):
            for side in SIDES:
                scan = getattr(row, side)
                if isNode(scan):
                    node.SetNodeReferenceID(f"{ROLE}.{number}.{side}", scan.GetID())
        parameters.data = json.dumps([_told(row) for row in rows], ensure_ascii=False)


def _told(row: DataRow) -> dict:
    sides = zip(SIDES, row.names, strict=True)
    return {"use": row.use, **{side: _toldScan(getattr(row, side), name) for side, name in sides}}


def _toldScan(scan: Scan | None, name: str) -> dict | None:
    if scan is None and not name:
        return None
    return {"path": str(scan)} if scan is not None and not isNode(scan) else {"volume": name}


def _rowOf(node: slicer.vtkMRMLScriptedModuleNode, number: int, told: dict) -> DataRow:
    scans, names = {}, []
    for side in SIDES:
        one = told[side] or {}
        scan = one.get("path") or node.GetNodeReference(f"{ROLE}.{number}.{side}")
        scans[side] = scan
        names.append(nameOf(scan) or one.get("volume", ""))
    return DataRow(use=told["use"] if told["use"] in USES else USES[0], names=tuple(names), **scans)


def _roles(node: slicer.vtkMRMLScriptedModuleNode) -> list[str]:
    names = [node.GetNthNodeReferenceRole(number) for number in range(node.GetNumberOfNodeReferenceRoles())]
    return [name for name in names if name.startswith(ROLE)]
