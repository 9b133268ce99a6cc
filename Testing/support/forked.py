"""Processes that are forked from the one that runs the tests, which has imported everything already.

A Python that starts takes seconds until torch and the training are there. Nothing can be forked on Windows
(`CAN_FORK`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence

import pytest
import torch

CAN_FORK = hasattr(os, "fork")
only_where_forks_are = pytest.mark.skipif(not CAN_FORK, reason="processes cannot be forked here")


def fork(function: Callable[[], int | None], output: int | None = None) -> int:
    """Call a function in a process of its own, and return the process's number.

    Its exit code is what the function returns, 0 for nothing, and 1 after an exception. What it prints goes to the
    file with the number `output`, if there is one.
    """
    torch.optim.Adam([torch.zeros(1)])  # imports for seconds what no forked process need import then
    child = os.fork()
    if child:
        return child
    torch.set_num_threads(1)  # the threads of the process that was forked are not there
    code = 1
    try:
        if output is not None:
            sys.stdout = sys.stderr = os.fdopen(os.dup(output), "w", buffering=1, encoding="utf-8")
        code = function() or 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def exit_code(child: int) -> int:
    """The exit code of a forked process, once it has ended; of one that was killed the signal's number, negative."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _free_port() -> int:
    with socket.socket() as meeting:
        meeting.bind(("127.0.0.1", 0))
        return meeting.getsockname()[1]


class Ranks:
    """Processes as torchrun starts them; if one fails, the others are ended.

    Parameters
    ----------
    count : int
    function : callable
        What each of them does; returns an exit code, or nothing.
    output : int, optional
        Number of the file that takes what they print.
    """

    def __init__(self, count: int, function: Callable[[], int | None], output: int | None = None) -> None:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(count)}

        def part(rank: int) -> int | None:
            os.environ |= {**where, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            return function()

        self._living = [fork(lambda rank=rank: part(rank), output) for rank in range(count)]
        self.pid = self._living[0]
        self.returncode: int | None = None

    def poll(self) -> int | None:
        for child in list(self._living):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                self._left(child, os.waitstatus_to_exitcode(status))
        return None if self._living else self.returncode

    def wait(self) -> int:
        while self._living:
            self._left(self._living[0], exit_code(self._living[0]))
        return self.returncode

    def _left(self, child: int, code: int) -> None:
        self._living.remove(child)
        self.returncode = self.returncode or code
        for other in self._living if code else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(other, signal.SIGKILL)


def instead_of_torchrun(command: Sequence[str], *, stdout, **how) -> Ranks:
    """What `launch` takes for `subprocess.Popen`: the processes of a training that is started in several."""
    from CBCTSuperResLib.train import launch, launched_process

    assert launch.LAUNCHED in command, command
    count = int(command[command.index("--nproc-per-node") + 1])
    return Ranks(count, lambda: launched_process.main(command[-1:]), stdout.fileno())
