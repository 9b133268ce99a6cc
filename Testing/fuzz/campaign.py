"""The campaign: mutated files against the readers, in a process that may crash, until so many were tried.

    python Testing/fuzz --headers 1000000 --reads 10000 --out FOLDER

An input is a number: target, number and seed give the same file everywhere. A finding is an exception that is none of
ours, a crash, more memory than the limit, or more than `PATIENCE_S` seconds; its file is kept in the folder, and put
into Testing/fuzz/regressions once it is fixed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

from CBCTSuperResLib.core.errors import SuperResError

from .mutations import mutated
from .targets import Target, all_targets

PATIENCE_S = 20
MEMORY_BYTES = 6_000_000_000  # of addresses: torch takes some of them for itself
CHUNK = 50_000
ROOT = Path(__file__).resolve().parents[2]


class Hang(Exception):
    """An input that takes too long."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python Testing/fuzz", description="Mutated files against the readers.")
    parser.add_argument("--headers", type=int, default=1_000_000, help="mutated headers through the gate")
    parser.add_argument("--reads", type=int, default=10_000, help="mutated files that are read whole")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="TARGET", help="some of the targets")
    parser.add_argument("--out", type=Path, default=Path("fuzzed"), help="folder of the findings")
    parser.add_argument("--chunk", help=argparse.SUPPRESS)  # what a child tries: JSON
    parsed = parser.parse_args(arguments)
    parsed.out.mkdir(parents=True, exist_ok=True)
    if parsed.chunk:
        return _child(json.loads(parsed.chunk), parsed.out)
    targets = all_targets(parsed.only)
    begin, total, refused = time.monotonic(), {"gate": 0, "read": 0}, 0
    for way, wanted in (("gate", parsed.headers), ("read", parsed.reads)):
        chosen = [target for target in targets if way == "gate" or target.read]
        weights = sum(target.weight for target in chosen)
        for target in chosen:
            count = -(-wanted * target.weight // weights)
            tried, found = _try(target.name, way, count, parsed.seed, parsed.out)
            total[way] += tried
            refused += found
            print(f"{way:5} {target.name:12} {tried:9} tried, {found:9} refused", flush=True)
    findings = sorted(path.name for path in parsed.out.glob("*.txt"))
    print(
        f"{total['gate']} headers and {total['read']} whole files in {time.monotonic() - begin:.0f} s: {refused} "
        f"refused with a reason, {sum(total.values()) - refused} read, {len(findings)} findings {' '.join(findings)}"
    )
    return 1 if findings else 0


def input_of(target: Target, number: int, seed: int = 0) -> bytes:
    data = mutated(target.seeds, number, target.name, seed)
    return target.repair(data) if target.repair and number % 2 else data


def attempt(target: Target, way: str, path: Path) -> bool:
    """Let a target read a file: True if it was refused with a reason. What else is raised is a finding."""
    try:
        (target.gate if way == "gate" else target.read)(path)
    except SuperResError:
        return True
    return False


def _try(name: str, way: str, count: int, seed: int, out: Path) -> tuple[int, int]:
    """Try `count` inputs in children; returns how many were tried and refused."""
    done = refused = 0
    while done < count:
        task = {"target": name, "way": way, "start": done, "stop": min(done + CHUNK, count), "seed": seed}
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
            command = [sys.executable, str(ROOT / "Testing" / "fuzz"), "--out", str(out), "--chunk"]
            child = subprocess.run(
                [*command, json.dumps({**task, "folder": folder})], capture_output=True, text=True, cwd=ROOT
            )
            with suppress(OSError, ValueError):
                state = json.loads((Path(folder) / "state").read_text())
                done, refused = state["next"], refused + state["refused"]
            if child.returncode:
                print(
                    f"{way} {name}: input {done} ended the process ({child.returncode}) {child.stderr[-600:]}",
                    flush=True,
                )
                for path in Path(folder).glob("input*"):
                    (out / f"{name}-{way}-{done}{path.suffix}").write_bytes(path.read_bytes())
                (out / f"{name}-{way}-{done}.txt").write_text(f"exit {child.returncode}\n{child.stderr[-2000:]}")
                done += 1
    return count, refused


def _child(task: dict, out: Path) -> int:
    (target,) = all_targets([task["target"]])
    folder, way = Path(task["folder"]), task["way"]
    path, refused = folder / f"input{target.suffix}", 0
    _files_beside(folder)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _hang)
    state = folder / "state"
    for number in range(task["start"], task["stop"]):
        path.write_bytes(input_of(target, number, task["seed"]))
        if way == "read" or number % 50 == 0:
            state.write_text(json.dumps({"next": number, "refused": refused}))
        signal.alarm(PATIENCE_S)
        try:
            refused += attempt(target, way, path)
        except BaseException as error:
            signal.alarm(0)
            _keep(out, target, way, number, path, error)
        finally:
            signal.alarm(0)
    state.write_text(json.dumps({"next": task["stop"], "refused": refused}))
    return 0


def _files_beside(folder: Path) -> None:
    """What detached headers name."""
    from .targets import VOXELS

    (folder / "seed.raw").write_bytes(VOXELS.tobytes())
    for k, plane in enumerate(VOXELS):
        (folder / f"s{k:02d}.raw").write_bytes(plane.tobytes())


def _keep(out: Path, target: Target, way: str, number: int, path: Path, error: BaseException) -> None:
    """Keep one file for each kind of finding: the exception and the last line of ours that it passed."""
    lines = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
    ours = [line for line in lines if not line.startswith(("campaign.py", "<"))]
    kind = f"{target.name}-{type(error).__name__}-{'-'.join(ours[-2:])}".replace(":", "_").replace("/", "_")
    report = out / f"{kind}.txt"
    if not report.exists():
        (out / f"{kind}{target.suffix}").write_bytes(path.read_bytes())
        report.write_text(f"{way} {number}\n{''.join(traceback.format_exception(error))}")


def _hang(*_) -> None:
    raise Hang(f"more than {PATIENCE_S} s")
