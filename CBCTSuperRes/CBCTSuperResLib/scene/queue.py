"""Loaded volumes and files, super-resolved one after the other; polled from a timer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import InputError, OptionError, OutputError
from ..core.options import Options
from ..jobs.pool import PoolWorker
from ..jobs.queue import FileTask, Item, Queue, make_folder, target_in
from ..models.card import ModelCard

if TYPE_CHECKING:
    import slicer

    from .jobs import SuperResJob
    from .logic import SuperResLogic


@dataclass(frozen=True)
class Recipe:
    """What is done to every item of a batch.

    Attributes
    ----------
    card : ModelCard or None
        None leaves the choice to each scan.
    options : Options
        Without a ROI, which is a place in one volume.
    folder : Path or None
        Where the results of files go; results of volumes become volumes.
    skip : bool
        Whether files whose result is there and up to date are left out.
    """

    card: ModelCard | None
    options: Options
    folder: Path | None = None
    skip: bool = True


@dataclass(frozen=True)
class VolumeTask:
    """One volume node, and how it is super-resolved; the counterpart of `FileTask`."""

    source: slicer.vtkMRMLScalarVolumeNode
    card: ModelCard | None
    options: Options
    logic: SuperResLogic

    def is_up_to_date(self) -> bool:
        return False

    def start(self, worker: PoolWorker) -> SuperResJob:
        """Start the job that computes it, in a process that stays.

        Raises
        ------
        InputError
            If the volume is no longer in the scene, or cannot be super-resolved.
        """
        if self.source.GetScene() is None:
            name = self.source.GetName()
            raise InputError(f"The volume {name} was removed from the scene.", "Take it out of the list.")
        chosen = {field.name: getattr(self.options, field.name) for field in fields(Options)}
        model = None if self.card is None else self.card.path
        return self.logic.start(self.source, model=model, worker=worker, **chosen)

    def result_of(self, job: SuperResJob) -> slicer.vtkMRMLScalarVolumeNode:
        return job.outputVolume


class BatchQueue(Queue):
    """A queue of volume nodes and files.

    >>> queue = BatchQueue(logic)
    >>> queue.setSources([node, Path("scan.nrrd")])
    >>> queue.start(Recipe(card, Options(), folder=Path("results")), queue.unfinished)
    >>> while queue.isBusy:
    ...     queue.poll()

    Parameters
    ----------
    logic : SuperResLogic
        Computes the volumes.
    """

    def __init__(self, logic: SuperResLogic) -> None:
        super().__init__()
        self._logic = logic
        self._recipe: Recipe | None = None

    def setSources(self, sources: Sequence[slicer.vtkMRMLScalarVolumeNode | Path]) -> None:
        """What is in the queue; items of sources that were in it already stay as they are."""
        known = {item.source: item for item in self.items}
        self.items = [known.get(source) or Item(source) for source in dict.fromkeys(sources)]
        self.started = [item for item in self.started if item in self.items]
        for item in self.items:
            if item.result is not None and not item.isFile and item.result.GetScene() is None:
                item.result = None  # it was removed from the scene, and its voxels would stay in memory

    def start(self, recipe: Recipe, items: Sequence[Item]) -> None:
        """Begin with some of the items; `poll` does the rest.

        Raises
        ------
        OutputError
            If there are files among them and the folder for their results cannot be made.
        """
        if any(item.isFile for item in items):
            if recipe.folder is None:
                raise OutputError("No folder is chosen for the results of the files.", "Choose one.")
            make_folder(recipe.folder)
        self._recipe = replace(recipe, options=replace(recipe.options, roi=None))
        self.begin(items, recipe.skip)

    def task_of(self, item: Item) -> FileTask | VolumeTask:
        """
        Raises
        ------
        OptionError
            If another item would become the same file.
        """
        card, options = self._recipe.card, self._recipe.options
        if not item.isFile:
            return VolumeTask(item.source, card, options, self._logic)
        folder = self._recipe.folder.absolute()
        target = target_in(folder, item.source, card, options)
        before = self.items[: self.items.index(item)]
        if any(other.isFile and target_in(folder, other.source, card, options) == target for other in before):
            raise OptionError(f"Another scan becomes {target.name}, too.", "Rename one of them.")
        return FileTask(item.source.absolute(), target, card, options)
