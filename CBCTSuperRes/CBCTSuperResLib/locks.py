"""Locks on files that the operating system releases when their holder dies, however it dies."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


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
