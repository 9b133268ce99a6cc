"""Ends of a run that the options or the data must answer for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import OutputError, ResourceError, SuperResError
from ...models.safetensors_file import replacing

REPORT = "failure.json"


class NonFinite(SuperResError):
    """A loss or a gradient is NaN or infinite.

    Attributes
    ----------
    role : str
        Whose update it was.
    loss, norm : float
        The loss, and the norm of its gradient.
    """

    def __init__(self, role: str, loss: float, norm: float) -> None:
        self.role, self.loss, self.norm = role, loss, norm
        what = "loss" if not math.isfinite(loss) else "gradient"
        super().__init__(f"The {what} of {role} is not finite.")

    def told(self, step: int, folder: Path, checkpoint: Path | None) -> SuperResError:
        """The error for the user, who learns what is left and where the report is."""
        kept = f"The checkpoint {checkpoint.name} is intact. " if checkpoint else ""
        return SuperResError(
            f"{self.what[:-1]} in step {step}; the training was stopped.",
            f"{kept}Look at the images named in {folder / REPORT}, then lower the learning rates, set train.grad_clip, "
            "or use float32, and go on with --resume auto.",
        )


def write_report(folder: Path, step: int, error: NonFinite, names: Sequence[str], last: Mapping[str, float]) -> Path:
    """Write failure.json: the step, the values, the images of the batch, and the losses that were last logged."""
    report = {
        "step": step,
        "network": error.role,
        "loss": str(error.loss),
        "gradient_norm": str(error.norm),
        "images": list(names),
        "last_logged": {name: str(value) for name, value in last.items()},
    }
    path = folder / REPORT
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def unwritten(error: OSError, checkpoint: Path | None) -> OutputError:
    """The error for a file of the run that could not be written, a full disk for instance."""
    kept = f" The checkpoint {checkpoint.name} is intact." if checkpoint else ""
    return OutputError(
        f"The run cannot write its files: {error.strerror or error}.{kept}",
        "Look after the disk and go on with --resume auto.",
    )


def out_of_memory(share: int, tried: int, step: int, may_resume: bool) -> ResourceError:
    """The error for a device whose memory is too small.

    Parameters
    ----------
    share : int
        Images of a step in one process.
    tried : int
        Images at a time that did not fit.
    step : int
    may_resume : bool
        Whether there is a checkpoint to go on from.
    """
    if tried == 1:
        advice = "Choose a smaller datasets.train.HR_size or smaller networks."
    else:
        on = " and go on with --resume auto" if may_resume else ""
        advice = f"Set datasets.train.micro_batch to {next_smaller(share, tried)}{on}: the result is the same."
    return ResourceError(f"The memory is too small for {tried} images at a time (step {step}).", advice)


def next_smaller(share: int, tried: int) -> int:
    """The largest number of images, at most half of what was tried, that divides a process's share of the batch."""
    return next(size for size in range(max(1, tried // 2), 0, -1) if share % size == 0)
