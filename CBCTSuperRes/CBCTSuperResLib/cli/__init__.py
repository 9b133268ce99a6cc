"""The command `cbct-superres`: apply, info, batch, train, test, export, prepare, evaluate, phantom, models, engines.

Exit codes: 0 done, 2 wrong options, 3 scan, 4 model, 5 memory or disk, 6 device, 7 output, 8 missing package,
130 cancelled, 1 anything else.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

from .. import NOTICE, __version__
from ..core.errors import Cancelled, DependencyError, SuperResError
from .child import begin_as_child, run_in_child, wants_child
from .terminal import Parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    Without arguments it runs those of the program, and commands that read scans in a child process.
    """
    if arguments is None and wants_child(sys.argv[1:]):
        return run_in_child(sys.argv[1:])
    begin_as_child()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin starve a machine that does other work too
    parsed = make_parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _raise_cancelled)
    try:
        return parsed.run(parsed) or 0
    except SuperResError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        print(
            f"Error: The package {error.name} is not installed. Install it: pip install cbct-superres", file=sys.stderr
        )
        return DependencyError.exit_code
    except KeyboardInterrupt:
        print("Cancelled; nothing was written.", file=sys.stderr)
        return Cancelled.exit_code
    except BrokenPipeError:  # whoever read the output, `head` for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command; imports what the commands need, which whoever waits for a child does not."""
    from .apply import add_apply_commands
    from .batch import add_batch_command
    from .engines import add_engines_command
    from .evaluate import add_evaluate_command
    from .models import add_models_commands
    from .phantom import add_phantom_command
    from .prepare import add_prepare_command
    from .train import add_training_commands

    parser = Parser(prog="cbct-superres", description="Super-resolution of cone-beam CT.", epilog=NOTICE)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add_apply_commands(commands)
    add_batch_command(commands)
    add_training_commands(commands)
    add_prepare_command(commands)
    add_evaluate_command(commands)
    add_phantom_command(commands)
    add_models_commands(commands)
    add_engines_command(commands)
    return parser


def _raise_cancelled(*_) -> None:
    raise KeyboardInterrupt
