"""The events file: whole lines for every reader, whatever happens to the file, and few enough of them."""

from __future__ import annotations

import json
import os

import pytest
from CBCTSuperResLib.core.events import EventReader, EventWriter

DAYS = 86400.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "Läufe 1.jsonl"


def kinds(events):
    return [event["event"] for event in events]


def test_readers_get_what_was_added_each_in_its_own_time(path):
    early, writer = EventReader(path), EventWriter(path)
    assert early.read() == []
    writer.send("warning", message="Ä")
    assert early.read() == [{"event": "warning", "message": "Ä"}]
    writer.send("done", report={"path": path})
    assert kinds(early.read()) == ["done"] and early.read() == []
    assert kinds(EventReader(path).read()) == ["warning", "done"]


@pytest.mark.parametrize("damage", [b'{"event": "prog', b"\xff\xfe", b"[1]", b'{"no": 1}', b'{"event": 3}', b"null"])
def test_a_damaged_line_hurts_no_other(path, damage):
    writer, reader = EventWriter(path), EventReader(path)
    writer.send("started")
    with path.open("ab") as file:
        file.write(damage + b"\n")
    writer.send("done")
    assert kinds(reader.read()) == ["started", "done"] and reader.damaged == 1


def test_a_line_is_taken_when_its_end_has_come(path):
    line, reader = json.dumps({"event": "warning", "message": "übrig"}, ensure_ascii=False).encode(), EventReader(path)
    cut = line.index("ü".encode()) + 1  # within a character
    path.write_bytes(line[:cut])
    assert reader.read() == []
    with path.open("ab") as file:
        file.write(line[cut:] + b"\n")
    assert [event["message"] for event in reader.read()] == ["übrig"]


def test_a_line_that_a_full_disk_has_cut_is_the_only_one_that_is_lost(path, monkeypatch):
    writer, write = EventWriter(path), os.write
    writer.send("started")
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:5]))
    writer.send("warning", message="lost")
    monkeypatch.undo()
    writer.send("done")
    assert kinds(EventReader(path).read()) == ["started", "done"]


def test_a_disk_that_refuses_progress_ends_nothing_but_the_result_must_be_told(path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    writer = EventWriter(path)
    monkeypatch.setattr(os, "write", refuse)
    writer.progress(0.5, "Network")
    writer.send_in_time("progress", fraction=0.5)
    with pytest.raises(OSError, match="No space"):
        writer.send("done")


def test_a_file_that_cannot_be_read_now_says_nothing(path):
    path.mkdir()
    assert EventReader(path).read() == []


def test_progress_is_told_twice_a_second_at_first_and_more_rarely_later(path):
    now = [0.0]
    writer, reader = EventWriter(path, clock=lambda: now[0]), EventReader(path)
    for _ in range(100):
        now[0] += 0.125
        writer.send_in_time("progress", fraction=0.1, message="", remaining_s=1.0)
    assert len(reader.read()) == 25
    while now[0] < 3 * DAYS:
        now[0] += 0.5
        writer.send_in_time("progress", fraction=0.5, message="", remaining_s=1.0)
    assert 20000 < len(reader.read()) < 40000


def test_scalars_are_all_told_in_the_first_minutes_and_now_and_then_in_a_run_of_days(path):
    now = [0.0]
    writer, reader = EventWriter(path, clock=lambda: now[0]), EventReader(path)
    for step in range(1, 1001):
        now[0] += 1 / 64
        writer.send_in_time("scalars", step=step)
    assert len(reader.read()) == 1000
    now[0] = DAYS
    for step in range(640):
        now[0] += 1 / 64
        writer.send_in_time("scalars", step=step)
    assert len(reader.read()) == 1


def test_progress_of_a_worker_never_goes_back_and_new_messages_come_at_once(path):
    writer = EventWriter(path, clock=lambda: 0.0)
    for fraction, message in ((0.5, "a"), (0.4, "b"), (0.6, "b"), (0.7, "b"), (1.0, "b")):
        writer.progress(fraction, message)
    assert [(event["fraction"], event["message"]) for event in EventReader(path).read()] == [
        (0.5, "a"), (0.5, "b"), (1.0, "b")
    ]  # fmt: skip
