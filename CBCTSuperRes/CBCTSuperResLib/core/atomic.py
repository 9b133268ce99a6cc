"""THE way to write a file, and THE lock: a file appears whole or not at all, under a name that nobody can foretell.

What is to become `path` is written to a fresh file beside it, made exclusively (so that neither a planted link nor a
process of the same number on another computer can meet it), flushed to the disk, and renamed. Locks are those of the
operating system, which releases them when their holder dies, however it dies.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
PAUSES_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if os.name == "nt" else ()


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A fresh file beside `path`, with its suffix; what is written there takes the place of `path` if all goes well.

    >>> with replacing("report.json") as scratch:
    ...     scratch.write_text("{}")

    Raises
    ------
    OutputError
        If the writing fails; `path` is then as it was, and nothing is left beside it.
    """
    path = Path(path)
    scratch: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = fresh_file(path)
        yield scratch
        flush_file(scratch)
        _rename(scratch, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"The file {path} cannot be written: {reason}.", "Choose another folder.") from error
    finally:
        if scratch is not None:
            with suppress(OSError):
                scratch.unlink()


@contextmanager
def replacing_all(paths: Sequence[str | Path], folders: Sequence[Path] = ()) -> Iterator[list[Path]]:
    """`replacing` for files that belong together: all of them take their places if all goes well, otherwise none.

    The first is the report of the others, the last the result. Killed at any moment, no report stands beside a result
    that it does not describe: where a result is replaced, its report is put away before and the new one comes last;
    where none was, the report comes first, and the result, last, tells that all is there.

    Parameters
    ----------
    paths : sequence of path
        In one folder.
    folders : sequence of Path
        Those of `paths` that are folders to be made, which may exist if they are empty.

    Raises
    ------
    OutputError
        As `replacing`; what was there before is there again.
    """
    paths = [Path(path) for path in paths]
    scratches: dict[Path, Path] = {}
    formers: dict[Path, Path] = {}
    path = paths[0]
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            scratches[path] = _fresh_folder(path) if path in folders else fresh_file(path)
        yield list(scratches.values())
        for path, scratch in scratches.items():
            if path not in folders:
                flush_file(scratch)
        report, *others = paths
        order = [*others, report] if others and others[-1].is_file() else paths
        changed = []
        try:
            if order is not paths:
                _put_away(report, formers)
            for path in order:
                if path in folders:
                    with suppress(FileNotFoundError):
                        path.rmdir()
                elif path == paths[-1]:
                    _keep(path, formers)
                else:
                    _put_away(path, formers)
                changed.append(path)
                _rename(scratches[path], path)
        except BaseException:
            for new in changed:
                is_all_there_is = order is not paths and new == paths[-1] and new not in formers
                if not scratches[new].exists() and not is_all_there_is:
                    shutil.rmtree(new) if new in folders else new.unlink(missing_ok=True)
            for new, former in formers.items():
                if former.exists():
                    _rename(former, new)
            raise
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"The file {path} cannot be written: {reason}.", "Choose another folder.") from error
    finally:
        for left in (*scratches.values(), *formers.values()):
            with suppress(OSError):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _put_away(path: Path, formers: dict[Path, Path]) -> None:
    """Rename a file, if it is there, to a hidden name, from where it can come back."""
    if path.exists() and path not in formers:
        former = fresh_file(path)
        formers[path] = former
        try:
            _rename(path, former)
        except OSError:
            del formers[path]
            former.unlink(missing_ok=True)
            raise


def _keep(path: Path, formers: dict[Path, Path]) -> None:
    """A second, hidden name for a file that is about to be replaced at once, where the file system has such."""
    former = _hidden_beside(path)
    with suppress(OSError, NotImplementedError):
        os.link(path, former)
        formers[path] = former


@contextmanager
def replacing_folder(folder: str | Path) -> Iterator[Path]:
    """A fresh hidden folder beside `folder` that takes its place if all goes well, and vanishes otherwise.

    >>> with replacing_folder("pairs") as scratch:
    ...     (scratch / "report.json").write_text("{}")

    Raises
    ------
    OutputError
        If `folder` exists and is not an empty folder, or the writing fails.
    """
    folder = Path(folder).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file.", "Name a folder to be made.")
    if folder.is_dir() and any(folder.iterdir()):
        raise OutputError(f"{folder} exists and is not empty.", "Choose another folder, or remove it first.")
    scratch: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = _fresh_folder(folder)
        yield scratch
        if folder.exists():
            folder.rmdir()
        _rename(scratch, folder)
    except OSError as error:
        raise OutputError(f"Writing {folder} failed: {error}.", "Check the disk, or choose another folder.") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write a UTF-8 text with `replacing`.

    Raises
    ------
    OutputError
    """
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def write_json(path: str | Path, value: object, indent: int | None = 2) -> Path:
    """Write JSON with `replacing`; what JSON does not know becomes text.

    Raises
    ------
    OutputError
    """
    return write_text(path, json_text(value, indent))


def json_text(value: object, indent: int | None = 2) -> str:
    """JSON of anything; bytes of names that are no UTF-8 become escapes, with which they are read back."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def json_of(text: str) -> object:
    """What a JSON text says, whoever wrote it.

    Raises
    ------
    ValueError
        If it is none, or nested deeper than Python follows.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("It is nested too deeply.") from error


def fresh_file(path: Path) -> Path:
    """Make an empty file beside `path` under a new hidden name that ends as `path` does; for whoever renames it.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    while True:
        fresh = _hidden_beside(path)
        with suppress(FileExistsError):
            os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            return fresh


def _fresh_folder(path: Path) -> Path:
    """As `fresh_file`, a folder."""
    while True:
        fresh = _hidden_beside(path)
        with suppress(FileExistsError):
            fresh.mkdir()
            return fresh


def _hidden_beside(path: Path) -> Path:
    """A hidden name that nobody can foretell and that ends as `path` does."""
    return path.with_name(f".{secrets.token_hex(8)}.{path.name[-100:]}")


def flush_file(path: Path) -> None:
    """Have the system write a file to its disk, so that a power cut after the rename does not leave an empty one."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _rename(scratch: Path, path: Path) -> None:
    """Rename a file over another; Windows refuses that as long as somebody has the other one open, to read it."""
    for pause in PAUSES_S:
        with suppress(PermissionError):
            os.replace(scratch, path)
            return
        time.sleep(pause)
    os.replace(scratch, path)


class FileLock:
    """A lock that one process at a time can hold. Nothing has to be cleaned up after a process that was killed.

    >>> lock = FileLock("result.nrrd.lock")
    >>> if lock.acquire():
    ...     try:
    ...         write()
    ...     finally:
    ...         lock.release()
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False if another holds it. On a file system without locks it is always given.

        Raises
        ------
        OSError
            If the lock's file cannot be created.
        """
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            if not _lock(descriptor):
                os.close(descriptor)
                return False
            if self._is_still_the_file(descriptor):
                self._descriptor = descriptor
                return True
            os.close(descriptor)

    def release(self) -> None:
        if self._descriptor is None:
            return
        if fcntl:  # while it is held, so that nobody waits on a file that has gone
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None
        if not fcntl:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _is_still_the_file(self, descriptor: int) -> bool:
        """False if the former holder removed the file between our opening and our locking it."""
        with suppress(OSError):
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        return False


def _lock(descriptor: int) -> bool:
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        return error.errno not in HELD
    return True


def locks_work(folder: str | Path) -> bool:
    """Whether a lock that is held keeps others out in this folder; on some network drives every lock is given.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    file = fresh_file(Path(folder) / "locks")
    held, second = FileLock(file), FileLock(file)
    try:
        if not held.acquire():
            return False
        return not second.acquire()
    finally:
        second.release()
        held.release()
        with suppress(OSError):
            file.unlink(missing_ok=True)


def no_locks_warning(folder: str | Path) -> str:
    """What a user should know of a folder in which `locks_work` is False."""
    return (
        f"The file system of {folder} has no locks. Whether another process works there is told by process numbers "
        "and signs of life, which is less sure: do not start the same work there from two computers."
    )
