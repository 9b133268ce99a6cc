"""Run benchmarks: python Testing/benchmarks/run.py [net|slice|tiles|...|all] [--quick]; --help names them all."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
OWN_NAMES_HIDE_OTHERS = str(HERE)  # python puts a script's folder on the path: "cuda" would be found there
sys.path = [
    str(HERE.parent),
    str(HERE.parents[1] / "CBCTSuperRes"),
    *[entry for entry in sys.path if entry != OWN_NAMES_HIDE_OTHERS],
]

BENCHMARKS = {
    "net": "the full-size network against a plain forward pass, on the CPU",
    "slice": "memory for a whole slice with the full-size network",
    "engines": "shipped models by PyTorch, ONNX Runtime and OpenVINO, in float32 and bfloat16",
    "tiles": "tiles against MONAI's sliding window",
    "pipeline": "everything but the network",
    "batch": "scans an hour: a process a scan, a batch, Dask's workers",
    "ticks": "what the panel does at once, against copying a result at once",
    "data": "samples a second of the data pipeline",
    "training_step": "a training step against a plain one",
    "cone_beam": "projection and reconstruction against RTK",
    "arssr": "the encoder once for a block, against once for each output slice",
    "cuda": "the full-size network on a GPU",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Benchmarks; the exit code is 1 if a result is wrong.",
        epilog="; ".join(f"{name}: {text}" for name, text in BENCHMARKS.items()),
    )
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, "all"], default="all", metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="smaller images, fewer rounds")
    arguments = parser.parse_args()
    names = BENCHMARKS if "all" in arguments.names else arguments.names

    from benchmarks.measure import load

    wrong = []
    for name in names:
        print(f"\n{name}: {BENCHMARKS[name]} (load {load()})", flush=True)
        if not import_module(f"benchmarks.{name}").run(arguments.quick):
            wrong.append(name)
        print(f"load afterwards {load()}", flush=True)
    if wrong:
        print(f"\nWrong results in: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    from CBCTSuperResLib.core.processes import with_large_pages

    environment = with_large_pages(os.environ)
    if environment != os.environ:  # as the processes that compute for users are started
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)
    sys.exit(main())
