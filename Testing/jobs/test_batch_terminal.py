"""What a batch prints while it runs, on a terminal and without one, and what Ctrl-C does."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from CBCTSuperResLib.cli import batch
from CBCTSuperResLib.cli.batch import main
from CBCTSuperResLib.core.errors import Cancelled
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.jobs import queue as queue_file
from CBCTSuperResLib.models.card import read_card
from fake_jobs import AS_SLICER_DOES, SCRIPT, FakeWorker
from scans import make_scan


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_cancels_the_running_scan_and_leaves_nothing(long_scan_file, tiny_model, tmp_path):
    command = [sys.executable, "-m", "CBCTSuperResLib.batch", "--input", str(long_scan_file), "--output", "out.nrrd"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1]), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*command, "--model", str(tiny_model)], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 300
    while "Network" not in process.stdout.readline():
        assert time.monotonic() < end
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=240)
    assert process.returncode == Cancelled.exit_code
    assert "cancelled 1" in rest and list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_within_slicer_ends_the_scan_and_tells_what_is_done_and_what_is_not(
    scan_file, long_scan_file, tiny_model, tmp_path
):
    """Slicer leaves SIGINT to the system, which ends a process at once, and its standard output is no terminal."""
    script = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)\n" + AS_SLICER_DOES
    scans = [scan_file, long_scan_file, tmp_path / "third.nrrd"]
    make_scan().write(scans[2])
    command = [sys.executable, "-u", "-c", script, SCRIPT.as_posix(), "--", "--input", *map(str, scans)]
    process = subprocess.Popen(
        [*command, "--output-folder", "out", "--model", str(tiny_model), "--window", "0", "4000", "--workers", "1"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip
    lines, end = [], time.monotonic() + 300
    while not (f"[2/3] {scans[1]}" in lines and re.fullmatch(r" +\d+% Network, \d+ \w+ left", lines[-1])):
        lines.append(process.stdout.readline().rstrip("\n"))
        assert time.monotonic() < end and process.poll() is None, lines
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=240)
    assert process.returncode == Cancelled.exit_code and errors == ""
    assert lines[0] == f"[1/3] {scans[0]}" and any(re.fullmatch(r"  done, \d+ s", line) for line in lines)
    assert rest.splitlines()[0] == "  Cancelling; what is done stays."
    assert [line.split()[0] for line in rest.splitlines()[-5:-2]] == ["done", "cancelled", "waiting"]
    assert rest.splitlines()[-2] == "3 scans: done 1, cancelled 1, waiting 1"
    results = [path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]
    assert sorted(results) == ["scan 1 SR x2.nrrd", "scan 1 SR x2.nrrd.json", "summary.html"]


class SlowWorker(FakeWorker):
    """Five per cent further at each look; never stops by itself once it is asked to."""

    closed, looks = False, 0

    def poll(self):
        self.looks += 1
        self.fraction, self.message = self.looks / 20, "Network: 1 of 9"
        self.remaining = 100 * (1 - self.fraction)
        self.isFinished = self.fraction == 1

    def cancel(self):
        self.message = "Cancelling"
        self.poll = lambda: None

    def close(self):
        SlowWorker.closed = self.isFinished = True


@pytest.fixture
def slow_workers(monkeypatch, fake_workers):
    monkeypatch.setattr(queue_file, "Job", SlowWorker)
    monkeypatch.setattr(batch, "POLL_INTERVAL_S", 0)
    monkeypatch.setattr(SlowWorker, "closed", False)


def test_where_there_is_no_terminal_a_line_is_printed_for_each_scan_and_every_ten_per_cent(
    scans, tiny_model, tmp_path, slow_workers, capsys
):
    assert main(["--input", str(scans / "*.nrrd"), "--output-folder", str(tmp_path), "--model", str(tiny_model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"[1/1] {scans / 'a.nrrd'}" and lines[1] == "   10% Network, 2 min left"
    assert [line.split("%")[0].strip() for line in lines[1:10]] == [str(n) for n in range(10, 100, 10)]
    assert lines[9] == "   90% Network, 10 s left" and lines[10] == "  done, 1 s" and "\r" not in "".join(lines)


def screen_after(printed: str) -> list[str]:
    """What a terminal shows in the end: "F" goes up to the beginning of a line, "K" clears one, "J" what is below."""
    lines, row = [""], 0
    for text, code in re.findall(r"([^\x1b]*)(\x1b\[\d*[FKJ])?", printed):
        for number, part in enumerate(text.split("\n")):
            row += number > 0
            lines += [""] * (row + 1 - len(lines))
            lines[row] += part
        if code.endswith("F"):
            row -= int(code[2:-1])
        elif code.endswith("K"):
            lines[row] = ""
        elif code.endswith("J"):
            lines[row:] = [""]
    return lines


def test_on_a_terminal_a_line_for_each_scan_is_rewritten_in_place(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((40, 20)))
    items = [batch.Item(Path(name)) for name in ("a.nrrd", "longer.nrrd", "c.nrrd")]
    live = batch.LiveTable(3, 2)
    for fraction in (0.0, 0.5):
        for item in items[:2]:
            item.state, item.fraction, item.message, item.remaining = batch.State.RUNNING, fraction, "Network", 50
        live.show(items)
    printed = capsys.readouterr().out
    *lines, of_all, rest = screen_after(printed)
    assert lines == ["  a.nrrd        50% Network, 50 s left", "  longer.nrrd   50% Network, 50 s left"] and rest == ""
    assert re.fullmatch(r"  0 of 3 scans, 33%, 1 s left", of_all)
    items[0].state, items[0].seconds, items[0].warnings = batch.State.DONE, 61, ["It is small."]
    live.end(1, items[0])
    live.show(items)
    assert screen_after(printed + capsys.readouterr().out)[:2] == [
        "[1/3] a.nrrd: done, 61 s",
        "  Warning: It is small.",
    ]


def test_a_second_ctrl_c_does_not_wait_for_a_worker_that_goes_on(scans, tiny_model, tmp_path, slow_workers, capsys):
    task = batch.FileTask(scans / "a.nrrd", tmp_path / "a.nrrd", read_card(tiny_model), Options())
    queue, asked = batch.Queue([batch.Item(task.source, task)]), [signal.SIGINT]
    queue.begin(queue.items, False)
    queue.poll()
    real_poll, looks = queue.poll, []

    def poll():
        looks.append(queue.isCancelling)
        if len(looks) == 3:
            assert queue.isBusy and not SlowWorker.closed
            asked.append(signal.SIGINT)
        real_poll()

    queue.poll = poll
    batch.follow(queue, asked, "  Cancelling; what is done stays.", batch.LiveTable(1, 1))
    assert SlowWorker.closed and looks == [True] * 4 and queue.items[0].state is batch.State.CANCELLED
    assert capsys.readouterr().out.splitlines()[:2] == [
        "  Cancelling; what is done stays.",
        "  cancelled, 1 s",
    ]


def test_ctrl_c_between_two_scans_is_told_by_the_exit_code(
    scans, tiny_model, tmp_path, fake_workers, monkeypatch, capsys
):
    def end_and_ask(worker):
        FakeWorker.poll(worker)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(queue_file, "Job", type("Asking", (FakeWorker,), {"poll": end_and_ask}))
    before = signal.getsignal(signal.SIGINT)
    code = main(["--input", str(scans), "--output-folder", str(tmp_path / "out"), "--model", str(tiny_model)])
    assert code == Cancelled.exit_code and len(fake_workers) == 1
    assert capsys.readouterr().out.splitlines()[-2] == "3 scans: done 1, waiting 2"
    assert signal.getsignal(signal.SIGINT) is before
