"""The observers of a run: log, curves, pictures, TensorBoard, events; and that a resumed run's files are whole."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from CBCTSuperResLib.core.events import EventReader
from CBCTSuperResLib.io.pictures import write_picture
from CBCTSuperResLib.train import (
    curves,
)
from CBCTSuperResLib.train import (
    curves as plot,
)
from CBCTSuperResLib.train import (
    curves as table,
)
from CBCTSuperResLib.train import (
    logs as board,
)
from CBCTSuperResLib.train.curves import (
    CSV,
    PNG,
    CurvesCsv,
    CurvesPicture,
    CurvesTable,
    read_curves,
)
from CBCTSuperResLib.train.logs import (
    LOG,
    Console,
    TensorBoard,
    TrainLog,
    step_line,
    validation_line,
)
from CBCTSuperResLib.train.observer import RunFacts, RunResult
from CBCTSuperResLib.train.run import standard_observers
from CBCTSuperResLib.train.run_events import RunEvents
from CBCTSuperResLib.train.run_folder import newest_picture
from hypothesis import given
from hypothesis import strategies as st

RESULTS = {"psnr": 31.25, "psnr_cubic": 30.5, "ssim": 0.9, "ssim_cubic": 0.88, "images": 3, "step": 10}


def facts(folder: Path, step: int = 0, niter: int = 40) -> RunFacts:
    return RunFacts("Röntgen run", folder, step, niter, options={"logger": {"print_freq": 5}}, notes=("Mind this.",))


def logs(number: int) -> dict[str, float]:
    """Losses as they come: the GAN's join after a warm-up of 20 iterations."""
    gan = {"l_g_gan": 0.01 * number} if number > 20 else {}
    return {"lr": 1e-4, "l_g_pix": 1 / number, **gan}


def run(observer, folder: Path, start: int, stop: int, niter: int = 40) -> None:
    """Iterations start + 1 to stop, with a validation every tenth, as the loop tells them."""
    observer.started(facts(folder, start, niter))
    for number in range(start + 1, stop + 1):
        observer.progress(number, 0.5, 0.5 * (niter - number))
        if number % 5 == 0 or number in (start + 1, stop):
            observer.step(number, logs(number), 0.5, 0.5 * (niter - number))
        if number % 10 == 0:
            observer.validated(number, {**RESULTS, "psnr": 30 + number / 10}, None)


@pytest.fixture()
def folder(tmp_path) -> Path:
    made = tmp_path / "Läufe mit Raum"
    made.mkdir()
    return made


def without_seconds(path: Path) -> list[list[str]]:
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    place = rows[0].index("seconds")
    return [row[:place] + row[place + 1 :] for row in rows]


@pytest.mark.parametrize(("resumed_from", "killed_at"), [(0, 6), (5, 6), (5, 23), (20, 20), (20, 23), (30, 38)])
def test_the_curves_of_a_resumed_run_are_those_of_an_uninterrupted_one(folder, resumed_from, killed_at):
    whole, parted = folder / "whole", folder / "parted"
    whole.mkdir(), parted.mkdir()
    run(CurvesCsv(), whole, 0, 40)
    run(CurvesCsv(), parted, 0, killed_at)
    run(CurvesCsv(), parted, resumed_from, 40)
    assert without_seconds(parted / CSV) == without_seconds(whole / CSV)


VALUES = st.dictionaries(st.sampled_from(["lr", "l_g_pix", "l_d_real", "val_psnr"]), st.floats(-1e6, 1e6), max_size=4)


@given(st.lists(VALUES, min_size=1, max_size=8), st.integers(0, 8), st.integers(0, 8))
def test_a_table_that_goes_on_is_the_table_that_was_never_left(tmp_path_factory, rows, left, kept):
    folder = tmp_path_factory.mktemp("tables")
    whole, parted = CurvesTable(folder / "whole.csv"), CurvesTable(folder / "parted.csv")
    for step, values in enumerate(rows, start=1):
        whole.put(step, values)
        if step <= left:
            parted.put(step, values)
    kept = min(kept, left)
    parted = CurvesTable(folder / "parted.csv", after=kept)
    for step, values in enumerate(rows[kept:], start=kept + 1):
        parted.put(step, values)
    assert (folder / "parted.csv").read_bytes() == (folder / "whole.csv").read_bytes()


def test_there_is_one_row_for_each_printed_iteration_and_validation_joins_it(folder):
    run(CurvesCsv(), folder, 0, 40)
    rows = read_curves(folder / CSV)
    assert [row["step"] for row in rows] == [1, *range(5, 41, 5)]
    assert rows[2]["val_psnr"] == 31 and rows[2]["l_g_pix"] == 0.1 and "val_psnr" not in rows[1]
    assert "l_g_gan" not in rows[4] and rows[5]["l_g_gan"] == 0.25
    assert "val_step" not in rows[2]


def test_seconds_go_on_where_the_run_was_stopped(folder):
    times = iter(range(0, 10_000, 10))
    run(CurvesCsv(clock=lambda: float(next(times))), folder, 0, 20)
    before = read_curves(folder / CSV)[-1]["seconds"]
    run(CurvesCsv(clock=lambda: float(next(times))), folder, 20, 40)
    assert read_curves(folder / CSV)[-1]["seconds"] > before > 0


def test_a_line_that_a_killed_process_left_unfinished_does_not_count(folder):
    table = CurvesTable(folder / CSV)
    table.put(5, {"l_g_pix": 0.5})
    table.put(10, {"l_g_pix": 0.25})
    whole = (folder / CSV).read_bytes()
    (folder / CSV).write_bytes(whole[:-3])
    assert [row["step"] for row in read_curves(folder / CSV)] == [5]
    CurvesTable(folder / CSV, after=10).put(15, {"l_g_pix": 0.125})
    assert [row["step"] for row in read_curves(folder / CSV)] == [5, 15]


def test_a_value_that_is_no_number_leaves_its_cell_empty(folder):
    table = CurvesTable(folder / CSV)
    table.put(1, {"l_g_pix": float("nan"), "lr": 1.0})
    table.put(1, {"val_psnr": 3.0})
    assert read_curves(folder / CSV) == [{"step": 1, "lr": 1.0, "val_psnr": 3.0}]


def test_the_picture_of_the_curves_is_drawn_and_drawn_anew(folder):
    pytest.importorskip("matplotlib")
    run(CurvesCsv(), folder, 0, 20)
    picture = CurvesPicture()
    picture.started(facts(folder))
    picture.saved(10, folder)
    first = (folder / PNG).read_bytes()
    run(CurvesCsv(), folder, 20, 40)
    picture.ended(RunResult(folder, 40, True))
    assert first.startswith(b"\x89PNG") and (folder / PNG).read_bytes() != first
    assert [path.name for path in folder.iterdir() if "tmp" in path.name] == []


def test_drawing_takes_no_more_than_its_share_of_the_time(folder, monkeypatch):
    drawn, now = [], [0.0]

    def draw(rows, path, title):
        now[0] += 1.0
        drawn.append(now[0])

    monkeypatch.setattr(curves, "draw_curves", draw)
    run(CurvesCsv(), folder, 0, 20)
    picture = CurvesPicture(clock=lambda: now[0])
    picture.started(facts(folder))
    for _ in range(1000):
        now[0] += 0.5
        picture.saved(20, folder)
    picture.ended(RunResult(folder, 20, False))
    assert len(drawn) == pytest.approx(500 * curves.SHARE, abs=2)


def test_the_curves_are_read_with_the_standard_library_alone():
    code = (
        "import sys; import CBCTSuperResLib.train.curves;"
        "print(sorted({'torch', 'cv2', 'numpy', 'tqdm', 'matplotlib', 'pandas'} & set(sys.modules)))"
    )
    library = Path(table.__file__).parents[2]
    told = subprocess.run([sys.executable, "-c", code], cwd=library, capture_output=True, text=True, check=True)
    assert told.stdout.strip() in ("[]", "['numpy']")  # the package itself needs numpy


def test_long_runs_are_thinned_for_the_picture():
    rows = [{"step": n, "l_g_pix": 1.0} for n in range(1, 10_001)]
    steps, _ = plot._line(rows, "l_g_pix")
    assert len(steps) <= plot.MOST_POINTS and steps[0] == 1


def test_without_matplotlib_and_tensorboard_one_notice_each_says_what_to_install(folder, monkeypatch):
    told = []
    monkeypatch.setattr(curves, "can_draw", lambda: False)
    monkeypatch.setattr(board.importlib.util, "find_spec", lambda name: None)
    for observer in (CurvesPicture(told.append), TensorBoard(folder, told.append)):
        run(observer, folder, 0, 20)
        observer.ended(RunResult(folder, 20, False))
    assert len(told) == 2 and "pip install matplotlib" in told[0] and "pip install tensorboard" in told[1]
    assert not (folder / PNG).exists() and not (folder / "tb_logger").exists()


def test_tensorboard_gets_scalars_under_the_published_names_and_the_pictures(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pictures = folder / "val_images"
    write_picture(np.zeros((8, 8), np.uint8), pictures / "slice é" / "slice é_10.png")
    observer = TensorBoard(folder)
    observer.started(facts(folder))
    observer.step(5, logs(5), 0.1, 1)
    observer.validated(10, RESULTS, pictures)
    observer.ended(RunResult(folder, 10, False))
    events = accumulator.EventAccumulator(str(folder / "tb_logger" / "Röntgen run"))
    events.Reload()
    assert {"l_g_pix", "lr", "val/psnr", "val/psnr_cubic"} <= set(events.Tags()["scalars"])
    assert "val/images" not in events.Tags()["scalars"]
    assert events.Tags()["images"] == ["val/slice é"]
    assert events.Scalars("l_g_pix")[0].step == 5


def test_what_tensorboard_saw_beyond_the_resumed_iteration_is_hidden(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for start, stop in ((0, 20), (10, 12)):
        run(observer := TensorBoard(folder), folder, start, stop)
        observer.saved(stop, folder)
    events = accumulator.EventAccumulator(str(folder / "tb_logger" / "Röntgen run"))
    events.Reload()
    assert [event.step for event in events.Scalars("l_g_pix")][-2:] == [11, 12]
    assert 20 not in [event.step for event in events.Scalars("l_g_pix")]


def test_the_log_has_the_published_form_and_the_notes(folder):
    run(TrainLog(), folder, 0, 10)
    log = TrainLog()
    log.started(facts(folder, 10))
    log.saved(10, folder / "10.state")
    log.ended(RunResult(folder, 40, True))
    lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} - (INFO|WARNING): .", line) for line in lines)
    text = "\n".join(lines)
    for part in ("begins, of 40", "Mind this.", "<iter:       5, lr:1.000e-04> l_g_pix: 2.0000e-01"):
        assert part in text
    assert "PSNR (dB) 31.00 (cubic 30.50)" in text and "goes on after iteration 10" in text and "finished" in lines[-1]


def test_the_step_line_begins_with_the_epoch_where_it_is_known():
    line = step_line(12345, {"epoch": 3, "lr": 5e-5, "l_d_real": 0.25})
    assert line == "<epoch:  3, iter:  12,345, lr:5.000e-05> l_d_real: 2.5000e-01"


def test_a_validation_without_measures_still_has_a_line():
    assert validation_line(5, {}) == "Validation after iteration 5: nothing to measure"


class Terminal(io.StringIO):
    """A stream that claims to be one."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_the_console_shows_losses_remaining_time_validation_and_the_end(folder, stream):
    console = Console(shown := stream())
    run(console, folder, 0, 20)
    console.ended(RunResult(folder, 20, False))
    text = shown.getvalue()
    for part in ("l_g_pix: 5.0000e-02", "cubic 30.50", "Note: Mind this.", "--resume auto", "to go"):
        assert part in text
    assert ("of 40 |" in text) is (stream is Terminal)


def test_every_run_has_a_log_and_curves_and_tensorboard_where_it_is_wanted(folder):
    for wanted in (True, False):
        options = SimpleNamespace(use_tb_logger=wanted, path=SimpleNamespace(root=str(folder), log_dir=None))
        kinds = [type(observer) for observer in standard_observers(options)]
        assert kinds[:3] == [TrainLog, CurvesCsv, CurvesPicture] and (TensorBoard in kinds) is wanted


def test_events_are_json_and_progress_is_not_told_too_often(folder):
    now = [0.0]
    events = RunEvents(clock=lambda: now[0])
    run(events, folder, 0, 20)
    now[0] = 1.0
    events.progress(21, 0.5, 9.5)
    events.ended(RunResult(folder, 21, False))
    told = EventReader(folder / "events.jsonl").read()
    kinds = [one["event"] for one in told]
    assert kinds.count("progress") == 2 and kinds[0] == "run" and kinds[-1] == "ended"
    assert [one["step"] for one in told if one["event"] == "validated"] == [10, 20]
    assert next(one for one in told if one["event"] == "scalars")["values"]["l_g_pix"] == 1.0


def test_a_resumed_run_begins_its_events_anew_and_whoever_watches_notices(folder):
    reader = EventReader(folder / "events.jsonl")
    run(RunEvents(), folder, 0, 12)
    assert [event["step"] for event in reader.read() if event["event"] == "scalars"] == [1, 5, 10, 12]
    late = EventReader(folder / "events.jsonl", only_new=True)
    assert late.read() == []
    run(RunEvents(), folder, 10, 12)
    for seen in (reader.read(), late.read()):
        assert seen[0]["event"] == "run" and seen[0]["step"] == 10
        assert [event["step"] for event in seen if event["event"] == "scalars"] == [11, 12]


def test_of_a_validation_the_newest_picture_is_told(folder):
    events, pictures = RunEvents(), folder / "val_images"
    events.started(facts(folder))
    events.validated(5, {"psnr": 1.0}, pictures)
    for step in (5, 10):
        (pictures / "slice").mkdir(exist_ok=True, parents=True)
        (pictures / "slice" / f"slice_{step}.png").touch()
        time.sleep(0.02)
    events.validated(10, {"psnr": 1.0}, pictures)
    told = [one for one in EventReader(folder / "events.jsonl").read() if one["event"] == "validated"]
    assert [one["picture"] for one in told] == [None, str(newest_picture(pictures))]
    assert newest_picture(pictures).name == "slice_10.png" and newest_picture(None) is None
