"""What tests of batches have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
from CBCTSuperResLib.cli import batch
from CBCTSuperResLib.jobs import queue as queue_file
from fake_jobs import FakeWorker


@pytest.fixture
def fake_workers(monkeypatch) -> list[dict]:
    """Let batches begin `FakeWorker`s; the list is to hold their jobs."""
    monkeypatch.setattr(queue_file, "Job", FakeWorker)
    monkeypatch.setattr(batch, "_most_memory", lambda tasks, worker: None)  # asks a real worker
    FakeWorker.jobs = []
    return FakeWorker.jobs


@pytest.fixture
def scans(tmp_path) -> Path:
    """A folder with three files that look like scans, and things that do not."""
    folder = tmp_path / "Scans vorn"
    folder.mkdir()
    for name in ("a.nrrd", "b.nii.gz", "Zahn 扫描.mha", "notes.txt", ".hidden.nrrd"):
        (folder / name).write_bytes(name.encode())
    return folder
