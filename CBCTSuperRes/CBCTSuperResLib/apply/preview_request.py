"""What is asked of a preview: by Slicer, which has no torch, of the process that computes it."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.options import Options, Ranges


@dataclass(frozen=True)
class PreviewRequest:
    """A part of one slice of a volume, as it is to be super-resolved.

    Attributes
    ----------
    model : str or None
        The model's file; None leaves the choice to the scan, as a run does.
    options : Options
        As they would be applied to the whole volume, ROI included.
    normal : int
        The axis across the slice: 0, 1, 2 for i, j, k.
    visible : three pairs of int
        Half-open ranges of voxels along (i, j, k) that are to be filled; one voxel along `normal`.
    focus : three int
        Voxel (i, j, k) around which to begin.
    """

    model: str | None
    options: Options
    normal: int
    visible: Ranges
    focus: tuple[int, int, int]

    def to_json(self) -> dict:
        facts = {"model": self.model, "normal": self.normal, "visible": self.visible, "focus": self.focus}
        return {**facts, "options": self.options.to_json()}

    @staticmethod
    def from_json(values: dict) -> PreviewRequest:
        visible = tuple(tuple(part) for part in values["visible"])
        options = Options.from_json(values["options"])
        return PreviewRequest(values["model"], options, values["normal"], visible, tuple(values["focus"]))

    def slice_of(self, size: tuple[int, int, int]) -> Ranges:
        """The whole slice within the ROI, or within a volume of that size along (i, j, k)."""
        whole = self.options.roi or tuple((0, n) for n in size)
        return tuple(self.visible[axis] if axis == self.normal else whole[axis] for axis in range(3))

    def is_of_one_slice_with(self, other: PreviewRequest | None) -> bool:
        """Whether what was computed for the other is right for this one, too."""
        return other is not None and self._slice == other._slice

    @property
    def _slice(self) -> tuple:
        return self.model, self.options, self.normal, self.visible[self.normal]
