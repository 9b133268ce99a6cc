"""The real worker, with trainings that compute nothing and write down what a run writes; a step takes 20 ms.

A plan takes a second for each step, and a model is exported by copying a file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from CBCTSuperResLib.core import processes

WORKER = f"""
import json, socket, sys, time
from pathlib import Path
sys.path.insert(0, {str(processes.LIBRARY_FOLDER)!r})
from CBCTSuperResLib.jobs import worker
from CBCTSuperResLib.core.errors import Cancelled
from CBCTSuperResLib.core.events import EventWriter
from CBCTSuperResLib.core.atomic import FileLock
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.curves import CurvesTable

def train(job, events, stop):
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
    def tell(state, step):
        facts = {{"state": state, "step": step, "niter": niter, "updated": time.time(), "host": socket.gethostname()}}
        fresh = status.with_suffix(".new")
        fresh.write_text(json.dumps(facts))
        fresh.replace(status)
    run = EventWriter(folder / "events.jsonl")
    facts = {{"name": options.name, "folder": str(folder), "step": done, "niter": niter}}
    run.begin("run", **facts, device="CPU", notes=["A note."])
    events.send("follow", path=run.path)
    for step in range(done + 1, niter + 1):
        tell("running", step)
        how = {{"fraction": step / niter, "message": f"Iteration {{step}}", "remaining_s": 9.0}}
        run.send("progress", **how, step=step, seconds_per_step=0.02)
        table.put(step, {{"l_g_pix": 1 / step}})
        run.send("scalars", step=step, values={{"l_g_pix": 1 / step}})
        if step % 5 == 0:
            measures = {{"psnr": 30.0 + step, "psnr_cubic": 31.0}}
            table.put(step, {{"val_" + name: value for name, value in measures.items()}})
            picture = folder / "val_images" / "a slice" / f"a slice_{{step}}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.touch()
            run.send("validated", step=step, values=measures, picture=str(picture))
            run.send("saved", step=step, path="x")
        if stop():
            tell("stopped", step)
            raise Cancelled(f"Stopped after {{step}}.")
        time.sleep(0.02)
    tell("finished", niter)
    return {{"folder": str(folder), "step": niter, "results": {{}}}}

def plan(job, events, stop):
    seconds = job["options"]["train"]["niter"]
    found = {{"device": "cpu", "missing": [], "problems": [], "seconds": seconds, "memory_bytes": 2e9}}
    return {{"job": job, **found}}

worker.KINDS = {{kind: lambda job, events, stop: {{"job": job}} for kind in worker.KINDS}}
worker.KINDS |= {{"train": train, "plan": plan}}
sys.exit(worker.main())
"""


def write_worker(folder: Path) -> list[str]:
    """The command that runs it."""
    script = folder / "worker.py"
    script.write_text(WORKER, encoding="utf-8")
    return [sys.executable, str(script)]
