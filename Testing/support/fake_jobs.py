"""Batches in which nothing is computed: jobs whose output and report are there at once."""

from __future__ import annotations

import json
from pathlib import Path

from CBCTSuperResLib import batch as script
from CBCTSuperResLib.apply.report import identity
from CBCTSuperResLib.core.errors import InputError
from CBCTSuperResLib.io.folders import report_path
from CBCTSuperResLib.models.card import read_card

SCRIPT = Path(script.__file__)
AS_SLICER_DOES = """
import sys
del sys.argv[0]
script = sys.argv[0]
sys.path.insert(0, script.rpartition("/")[0])
__file__ = script
exec(open(script, encoding="utf-8").read(), globals())
"""
"""Slicer executes the text of the file in its main namespace, with the script's folder first on the path."""


class FakeWorker:
    """Writes an output and its report at once; fails for scans whose name says so."""

    jobs: list[dict] = []

    def __init__(self, job, worker=None):
        self.job, self.isFinished, self.fraction, self.message, self.remaining = job, False, 0.0, "", None
        self.warnings, self.error = [], None
        FakeWorker.jobs.append(job)

    def start(self):
        return self

    def poll(self):
        self.isFinished = True
        if "bad" in Path(self.job["input"]).name:
            self.error = InputError("It is bad.", "Choose another.")
            return
        target = Path(self.job["output"])
        target.write_bytes(b"result")
        report = {
            "input": identity(self.job["input"]),
            "output": identity(target),
            "options": self.job["options"],
            "reading": {"spacing": self.job["spacing"], "series": self.job["series"]},
            "super_resolution": {"model_sha256": read_card(self.job["model"]).weights_sha256},
        }
        report_path(target).write_text(json.dumps(report), encoding="utf-8")

    def close(self):
        self.isFinished = True
