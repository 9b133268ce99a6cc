"""Errors that a user can understand, each with the exit code of a command that ends with it."""

from __future__ import annotations

import traceback


def printable(text: str) -> str:
    """A text that may quote a file's name or content, without what a terminal would obey; line breaks stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


class SuperResError(Exception):
    """Something the user can act on.

    Parameters
    ----------
    what : str
        What happened and why, in one or two sentences.
    advice : str
        What to do about it. Shown after `what`.

    Attributes
    ----------
    detail : str
        For people who report problems: a traceback, the last lines of a log.
    """

    exit_code = 1
    detail = ""

    def __init__(self, what: str, advice: str = "") -> None:
        self.what = printable(what)
        self.advice = printable(advice)
        super().__init__(f"{self.what} {self.advice}".strip())


class InputError(SuperResError):
    """The scan cannot be read or is not a volume this program can improve."""

    exit_code = 3


class ModelError(SuperResError):
    """The model file is missing, damaged, of an unknown kind, or does not fit the request."""

    exit_code = 4


class ResourceError(SuperResError):
    """The result would not fit into memory or onto the disk."""

    exit_code = 5


class DeviceError(SuperResError):
    """The named device is absent or failed."""

    exit_code = 6


class OutputError(SuperResError):
    """The result cannot be written where it was asked for."""

    exit_code = 7


class OptionError(SuperResError):
    """An option has a value that makes no sense; 2 is also what argparse exits with."""

    exit_code = 2


class DependencyError(SuperResError):
    """A package that the work needs is not installed."""

    exit_code = 8


class Cancelled(SuperResError):
    """The user asked to stop; 130 is what a shell reports for Ctrl-C."""

    exit_code = 130

    def __init__(self, what: str = "Cancelled.", advice: str = "") -> None:
        super().__init__(what, advice)


def explained(error: Exception, less_memory: str = "close other programs") -> SuperResError:
    """What a user is told of anything that was raised; its traceback is the detail.

    Parameters
    ----------
    less_memory : str
        What helps where the memory is full, see `core.memory.less_memory`.
    """
    if isinstance(error, SuperResError):
        told = error
    elif isinstance(error, MemoryError):
        what = f"The memory is full: {error}." if str(error) else "The memory is full."
        told = ResourceError(what, f"{less_memory[0].upper()}{less_memory[1:]}.")
    else:
        told = SuperResError(f"The program failed: {type(error).__name__}: {error}.", "Report it with the details.")
    told.detail = told.detail or "".join(traceback.format_exception(error))
    return told
