"""Faults and load, one after the other, each told with what was found.

    python Testing/faults --kills 50 --previews 2000 --scans 200

Nothing half-written may lie under a final name, nothing finished may be lost, and the next run goes on. POSIX only.
"""

from __future__ import annotations

import argparse
import codecs
import errno
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from CBCTSuperResLib.core import atomic
from scans import make_scan

from .work import Work, all_work, batch, faults_of_volume, killed_after, run_whole, started, tiny_model

LIBRARY = Path(__file__).resolve().parents[2] / "CBCTSuperRes"
SIZES = (200, 5_000, 60_000, 400_000)  # bytes at which the disk is full
NOBODY = 65534
ORPHAN_S = 4.0  # in which a worker notices that the batch which started it is gone


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python Testing/faults", description="Faults and load.")
    parser.add_argument("--kills", type=int, default=50, help="kill -9 at random moments")
    parser.add_argument("--previews", type=int, default=2000, help="previews by one worker")
    parser.add_argument("--scans", type=int, default=200, help="scans of a batch with a poisoned one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="FAULT", help="some of them")
    parsed = parser.parse_args(arguments)
    faults: dict[str, Callable[[Path], tuple[str, list[str]]]] = {
        "kills": lambda folder: kills(folder, parsed.kills, parsed.seed),
        "full-disk": full_disk,
        "read-only": read_only,
        "clock": clock_set_back,
        "two": two_at_once,
        "no-locks": without_locks,
        "poison": lambda folder: poisoned_batch(folder, parsed.scans),
        "soak": lambda folder: soak(folder, parsed.previews),
    }
    failed = 0
    for name in parsed.only or faults:
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
            told, found = faults[name](Path(folder))
        failed += len(found)
        print(f"{name:10} {told} ({time.monotonic() - begin:.0f} s); {len(found)} faults", flush=True)
        for text in found:
            print(f"           {text}", flush=True)
    return 1 if failed else 0


def kills(folder: Path, count: int, seed: int) -> tuple[str, list[str]]:
    """kill -9 at random moments; after the last, each kind of work must come to its end."""
    random_, found, told = random.Random(seed), [], []
    work = [*all_work(folder), batch(folder)]
    for number, one in enumerate(work):
        share = count * (number + 1) // len(work) - count * number // len(work)
        begin = time.monotonic()
        code = run_whole(one.arguments, command=one.command)
        usual = time.monotonic() - begin
        found += [f"{one.name}: undisturbed, exit code {code}"] if code else []
        hits = 0
        for _ in range(share):
            before = one.is_done()
            if one.name not in ("apply", "export", "batch") or random_.random() < 0.5:
                _undo(one, folder)
                before = False
            hits += killed_after(one.arguments, random_.uniform(0.0, usual), one.command)
            if one.name == "batch":
                time.sleep(ORPHAN_S)
            found += [f"{one.name}: {text}" for text in one.faults()]
            if before and not one.is_done():
                found.append(f"{one.name}: the former result is lost")
        code = 0 if one.is_done() else run_whole(one.arguments, command=one.command)
        if code or not one.is_done():
            found.append(f"{one.name}: the run after the kills ended with {code}")
        found += [f"{one.name}: {text}" for text in one.faults()]
        told.append(f"{one.name} {hits} of {share}")
    return f"killed in the middle: {', '.join(told)}", found


def full_disk(folder: Path) -> tuple[str, list[str]]:
    """No file may grow beyond a limit: at each stage of writing there is one that meets it."""
    found, tried = [], 0
    for one in all_work(folder):
        for size in SIZES:
            _undo(one, folder)
            log = folder / "log.txt"
            code = run_whole(
                one.arguments, lambda size=size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)), log
            )
            tried += 1
            text = log.read_text(encoding="utf-8", errors="replace")
            found += [f"{one.name} at {size} bytes: {fault}" for fault in one.faults()]
            if code in (0, 255) and not one.is_done():
                found.append(f"{one.name} at {size} bytes: exit code {code} without a result")
            if "Traceback" in text and size > SIZES[0]:
                found.append(f"{one.name} at {size} bytes: {text.strip().splitlines()[-1]}")
        _undo(one, folder)
        if run_whole(one.arguments):
            found.append(f"{one.name}: does not work with room again")
    return f"{tried} runs on a full disk", found


def read_only(folder: Path) -> tuple[str, list[str]]:
    """Folders in which nothing can be written: refused in words, nothing changed."""
    import pydicom  # noqa: F401 - another user may not be able to read what is not imported yet

    found, tried = [], 0
    for encoding in ("ascii", "latin-1", "iso8859"):
        codecs.lookup(encoding)
    for one in all_work(folder):
        _undo(one, folder)
        log = folder / "log.txt"
        log.touch()
        subprocess.run(["chmod", "-R", "a+rX,go-w", str(folder)], check=True)
        log.chmod(0o666)
        before = sorted(path.name for path in folder.iterdir())

        def as_nobody() -> None:
            if os.getuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            else:
                os.chmod(folder, 0o555)

        code = run_whole(one.arguments, as_nobody, log)
        os.chmod(folder, 0o755)
        tried += 1
        text = log.read_text(encoding="utf-8", errors="replace")
        if code in (0, 1, 255) or "Traceback" in text:
            found.append(f"{one.name}: exit code {code}, {text.strip()[-200:]}")
        if sorted(path.name for path in folder.iterdir()) != before:
            found.append(f"{one.name}: something was written")
    return f"{tried} runs in read-only folders", found


def clock_set_back(folder: Path) -> tuple[str, list[str]]:
    """The clock jumps an hour back in the middle of each work, and files of the future lie around."""
    found = []
    for one in all_work(folder):
        _undo(one, folder)

        def set_back() -> None:
            real, begin = time.time, time.time()
            time.time = lambda: real() - (3600 if real() - begin > 0.3 else 0)

        for path in folder.rglob("*"):
            os.utime(path, (time.time() + 1e7, time.time() + 1e7))
        code = run_whole(one.arguments, set_back)
        if code or not one.is_done():
            found.append(f"{one.name}: exit code {code}")
        found += [f"{one.name}: {text}" for text in one.faults()]
    return "five kinds of work with a clock that is set back", found


def two_at_once(folder: Path) -> tuple[str, list[str]]:
    """Two processes on one output, one run folder, one folder of models: one does it, or both, one after the other."""
    found, codes = [], {}
    for one in all_work(folder):
        _undo(one, folder)
        pids = [started(one.arguments) for _ in range(2)]
        ends = sorted(os.WEXITSTATUS(os.waitpid(pid, 0)[1]) for pid in pids)
        codes[one.name] = ends
        if ends[0] != 0 or ends[1] not in (0, 3, 7) or not one.is_done():
            found.append(f"{one.name}: exit codes {ends}")
        found += [f"{one.name}: {text}" for text in one.faults()]
    models = folder / "models"
    models.mkdir()
    file = tiny_model(folder / "other.safetensors")
    os.environ["CBCT_SUPERRES_MODELS"] = str(models)
    for pid in [started(["models", "import", str(file)]) for _ in range(4)]:
        os.waitpid(pid, 0)
    for path in models.iterdir():
        if not path.name.startswith("."):
            found += [f"models: {path.name}"] if path.suffix != ".safetensors" else []
    return f"exit codes {codes}", found


def without_locks(folder: Path) -> tuple[str, list[str]]:
    """A file system that knows no locks, as some network folders."""
    found = []

    def refuse(*_) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    for one in all_work(folder):
        _undo(one, folder)
        log = folder / "log.txt"
        code = run_whole(one.arguments, lambda: setattr(atomic.fcntl, "lockf", refuse) or _refuse_flock(refuse), log)
        if code or not one.is_done():
            found.append(f"{one.name}: exit code {code} {log.read_text(errors='replace').strip()[-200:]}")
    return "five kinds of work in folders without locks", found


def _refuse_flock(refuse: Callable) -> None:
    atomic.fcntl.flock = refuse


def poisoned_batch(folder: Path, count: int) -> tuple[str, list[str]]:
    """A batch in which one scan kills its worker: the others are made, and it is named."""
    model, scans = tiny_model(folder / "tiny.safetensors"), folder / "scans"
    scans.mkdir()
    make_scan().write(scans / "scan000.nrrd")
    for number in range(1, count):
        shutil.copy(scans / "scan000.nrrd", scans / f"scan{number:03d}.nrrd")
    poison = folder / "site"
    poison.mkdir()
    (poison / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "def poisoned(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).endswith('scan001.nrrd'):\n"
        "        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "if 'CBCTSuperResLib.jobs.worker' in sys.orig_argv:\n"
        "    sys.addaudithook(poisoned)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(poison), str(LIBRARY)])}
    command = [
        sys.executable,
        "-m",
        "CBCTSuperResLib.batch",
        "--input",
        str(scans),
        "--output-folder",
        str(folder / "out"),
    ]
    done = subprocess.run(
        [*command, "--model", str(model), "--device", "cpu"], capture_output=True, text=True, env=environment
    )
    results = sorted((folder / "out").glob("*.nrrd"))
    found = [f"{path.name}: {text}" for path in results for text in faults_of_volume(path)]
    if len(results) != count - 1 or "scan001" not in done.stdout + done.stderr or done.returncode == 0:
        found.append(f"{len(results)} of {count - 1} results, exit code {done.returncode}: {done.stdout[-300:]}")
    return f"{len(results)} results of {count} scans, one of them poisoned", found


def soak(folder: Path, count: int) -> tuple[str, list[str]]:
    """Many previews by one worker: its memory, files and processes stay as they are."""
    from CBCTSuperResLib.apply.preview import PreviewRequest
    from CBCTSuperResLib.core.options import Options
    from CBCTSuperResLib.jobs.preview import PreviewSession

    model, volume = tiny_model(folder / "tiny.safetensors"), make_scan((6, 48, 48))
    session, seen = PreviewSession(folder), []
    try:
        for number in range(count):
            window, place = (0.0, 4000.0 + number % 7), number % 6
            box = ((0, 48), (0, 48), (place, place + 1))
            request = PreviewRequest(str(model), Options(window=window, device="cpu"), 2, box, (20, 20, 2))
            session.ask(volume, 1, request)
            _settle(session)
            if number in (count // 5, count - 1):
                seen.append(_size_of(session))
    finally:
        session.close()
    (memory, files, threads), (later, files_later, threads_later) = seen
    found = []
    if later > memory * 1.05 + 20_000_000:
        found.append(f"memory grew from {memory / 1e6:.0f} to {later / 1e6:.0f} MB")
    if files_later > files + 2 or threads_later > threads + 1:
        found.append(f"{files} files and {threads} threads became {files_later} and {threads_later}")
    told = f"{count} previews; {memory / 1e6:.0f} and {later / 1e6:.0f} MB, {files} and {files_later} files, "
    return f"{told}{threads} and {threads_later} threads, after a fifth of them and at the end", found


def _settle(session) -> None:
    deadline = time.monotonic() + 120
    while session.is_busy and time.monotonic() < deadline:
        session.poll()
        time.sleep(0.002)


def _size_of(session) -> tuple[int, int, int]:
    """Resident bytes, open files and threads of the worker."""
    process = Path(f"/proc/{session._worker._worker['pid']}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line)
    return int(status["VmRSS"].split()[0]) * 1024, len(list((process / "fd").iterdir())), int(status["Threads"])


def _undo(work: Work, folder: Path) -> None:
    """Remove what the work has made."""
    made = {
        "apply": ["result.nrrd", "result.nrrd.json"],
        "apply to DICOM": ["series", "series.json"],
        "train": ["experiments"],
        "prepare": ["pairs"],
        "export": ["exported.safetensors"],
        "batch": ["results"],
    }
    for name in made[work.name]:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
