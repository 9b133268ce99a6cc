"""Workers whose trainings compute nothing and write down what a run writes; a step takes 20 ms.

A plan takes a second for each step, and all other jobs end at once with what they were given. All else is the real
worker's.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "CBCTSuperRes"))

import ready_workers
from CBCTSuperResLib.core import processes
from CBCTSuperResLib.core.atomic import FileLock
from CBCTSuperResLib.core.errors import Cancelled
from CBCTSuperResLib.core.events import EventWriter
from CBCTSuperResLib.train.curves import CurvesTable
from CBCTSuperResLib.train.options_file import read_options


def start_in_own_group(command: Sequence[str], log: Path):
    """What `core.processes.start_in_own_group` does, with a quick worker in place of the real one."""
    if ready_workers.CAN_FORK:
        return ready_workers.ReadyWorker(command[-1], log, take_over)
    return processes.start_in_own_group([sys.executable, __file__, command[-1]], log)


def take_over() -> None:
    """Let the jobs of this process be quick."""
    from CBCTSuperResLib.jobs import worker

    worker.KINDS = {kind: lambda job, events, stop: {"job": job} for kind in worker.KINDS}
    worker.KINDS |= {"train": train, "plan": plan}


def plan(job: dict, events, stop) -> dict:
    """A second for each step."""
    seconds = job["options"]["train"]["niter"]
    return {"job": job, "device": "cpu", "missing": [], "problems": [], "seconds": seconds, "memory_bytes": 2e9}


def train(job: dict, events, stop) -> dict:
    """The files and events of a run."""
    options = read_options(job["options"])
    folder, niter = options.run_folder, options.train.niter
    status = folder / "status.json"
    done = json.loads(status.read_text())["step"] if job["resume"] else 0
    if not job["resume"] and folder.exists():
        folder.rename(folder.with_name(folder.name + "_archived"))
    for part in (folder / "training_state", folder / "models"):
        part.mkdir(parents=True, exist_ok=True)
    (folder / "training_state" / "1.state").touch()
    (folder / "models" / "latest_G.safetensors").touch()
    lock = FileLock(folder / "lock")
    lock.acquire()
    (folder / "options.json").write_text(json.dumps(options.to_json()))
    table = CurvesTable(folder / "curves.csv", after=done)

    def tell(state: str, step: int) -> None:
        facts = {"state": state, "step": step, "niter": niter, "updated": time.time(), "host": socket.gethostname()}
        fresh = status.with_suffix(".new")
        fresh.write_text(json.dumps(facts))
        fresh.replace(status)

    run = EventWriter(folder / "events.jsonl")
    run.begin("run", name=options.name, folder=str(folder), step=done, niter=niter, device="CPU", notes=["A note."])
    events.send("follow", path=run.path)
    for step in range(done + 1, niter + 1):
        tell("running", step)
        how = {"fraction": step / niter, "message": f"Iteration {step}", "remaining_s": 9.0}
        run.send("progress", **how, step=step, seconds_per_step=0.02)
        table.put(step, {"l_g_pix": 1 / step})
        run.send("scalars", step=step, values={"l_g_pix": 1 / step})
        if step % 5 == 0:
            measures = {"psnr": 30.0 + step, "psnr_cubic": 31.0}
            table.put(step, {f"val_{name}": value for name, value in measures.items()})
            picture = folder / "val_images" / "a slice" / f"a slice_{step}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.touch()
            run.send("validated", step=step, values=measures, picture=str(picture))
            run.send("saved", step=step, path="x")
        if stop():
            tell("stopped", step)
            raise Cancelled(f"Stopped after {step}.")
        time.sleep(0.02)
    tell("finished", niter)
    return {"folder": str(folder), "step": niter, "results": {}}


if __name__ == "__main__":
    from CBCTSuperResLib.jobs import worker

    take_over()
    sys.exit(worker.main())
