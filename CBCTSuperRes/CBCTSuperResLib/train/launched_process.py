"""One process of a training in several, started by `launch` through torchrun."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..core.errors import Cancelled, explained
from ..core.events import EventWriter
from ..core.memory import less_memory
from ..core.processes import ParentWatch
from .launch import ENDS, STOP
from .options_file import read_options
from .run import train


class StopWanted:
    """Whether the starting process asks for a stop, or has died."""

    def __init__(self, folder: Path, parent: dict) -> None:
        self._stop, self._parent = folder / STOP, ParentWatch(parent)
        self.is_orphan = False

    def __call__(self) -> bool:
        self.is_orphan = self.is_orphan or self._parent.has_died()
        return self.is_orphan or self._stop.exists()


def main(arguments: Sequence[str]) -> int:
    """Do this process's part of the job and tell its end."""
    file, is_first = Path(arguments[0]), os.environ["RANK"] == "0"
    job, ends = json.loads(file.read_text(encoding="utf-8")), EventWriter(file.with_name(ENDS))
    stop = StopWanted(file.parent, job["parent"])

    try:
        result = train(
            read_options(job["options"]),
            resume=job["resume"],
            accept_changes=job["accept"],
            device=job["device"],
            cancelled=stop if is_first else None,
        )
    except SystemExit:  # the first process tells the reason
        return 0
    except Exception as error:
        told = explained(error, less_memory("train"))
        facts = {"what": told.what, "advice": told.advice, "exit_code": told.exit_code}
        detail = "" if told is error else told.detail  # of several, one without is told
        ends.send("error", **facts, changes=getattr(told, "changes", []), detail=detail)
        return 0 if isinstance(told, Cancelled) else told.exit_code
    finally:
        if stop.is_orphan:
            shutil.rmtree(file.parent, ignore_errors=True)
    if is_first:
        ends.send("done", result=asdict(result))
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of gloo that are still there have been seen to abort the interpreter's own end
