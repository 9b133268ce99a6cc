"""A job done where it is polled, for plain Python; in Slicer's own process torch may crash."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from ..errors import Cancelled, SuperResError
from ..options import Options


class InProcessWorker:
    """Does the job where it is polled; the counterpart of `WorkerProcess` for plain Python."""

    def __init__(self, job: dict, folder: Path, progress: Callable[[float, str], None] | None = None) -> None:
        self.folder = folder
        self.fraction, self.message, self.remaining_s = 0.0, "", None
        self.warnings: list[str] = []
        self.result: dict | None = None
        self.error: SuperResError | None = None
        self.finished = False
        self._job, self._progress = job, progress

    def start(self) -> InProcessWorker:
        return self

    def poll(self) -> None:
        from ..apply import apply_to_file

        job = self._job
        options = Options.from_json(job["options"])
        try:
            self.result = apply_to_file(job["input"], job["output"], job["model"], options, self._progress)
            self.warnings = self.result["warnings"]
        except SuperResError as error:
            self.error = error
        self.fraction, self.finished = 1.0, True

    def cancel(self) -> None:
        self.error, self.finished = Cancelled(), True

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
