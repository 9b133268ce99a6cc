"""One process of a training in several, started by `launch` through torchrun."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ..core.atomic import FileLock
from ..core.errors import Cancelled, SuperResError
from .launch import (
    EVENTS,
    JOB,
    PARENT,
    STOP,
    Relay,
)
from .options_file import read_options
from .run import train


class _Asked:
    """Whether the starting process asks for a stop, or has died."""

    def __init__(self, folder: Path) -> None:
        self._stop, self._parent = folder / STOP, FileLock(folder / PARENT)
        self.orphaned = False

    def __call__(self) -> bool:
        self.orphaned = self.orphaned or self._parent.acquire()
        return self.orphaned or self._stop.exists()


def main(arguments: Sequence[str]) -> int:
    """Do this process's part of the job and write down its outcome."""
    folder = Path(arguments[0]).parent
    job, asked = json.loads((folder / JOB).read_text(encoding="utf-8")), _Asked(folder)
    try:
        result = train(
            read_options(job["options"]),
            resume=job["resume"],
            accept_changes=job["accept"],
            device=job["device"],
            observers=[Relay(folder / EVENTS)],
            cancelled=asked if os.environ["RANK"] == "0" else None,
        )
    except SuperResError as error:
        _tell(folder, _failure(error))
        return 0 if isinstance(error, Cancelled) else error.exit_code
    except SystemExit:  # the first process tells the reason
        return 0
    except Exception as error:
        crash = SuperResError(f"The program failed: {type(error).__name__}: {error}.", "Report it with the details.")
        _tell(folder, {**_failure(crash), "detail": traceback.format_exc()})
        return crash.exit_code
    finally:
        if asked.orphaned:
            shutil.rmtree(folder, ignore_errors=True)
    _tell(folder, {"result": {**asdict(result), "folder": str(result.folder)}})
    return 0


def _failure(error: SuperResError) -> dict:
    return {
        "what": error.what,
        "advice": error.advice,
        "exit_code": error.exit_code,
        "changes": getattr(error, "changes", []),
        "detail": "",
        "time": time.time(),
    }


def _tell(folder: Path, outcome: Mapping) -> None:
    if "result" in outcome and os.environ["RANK"] != "0":
        return
    path = folder / f"outcome-{os.environ['RANK']}.json"
    path.write_text(json.dumps(outcome, ensure_ascii=False, default=str), encoding="utf-8")


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of gloo that are still there have been seen to abort the interpreter's own end
