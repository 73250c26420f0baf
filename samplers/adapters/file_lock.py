"""The system's lock on a file, which ends with the process: no kill leaves one behind."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

TAKEN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Whether this process alone holds the file, made where it is missing, meanwhile. Raises OSError, also where the
    disk (of a network, say) knows no locks."""
    with open(path, "a+b") as file:
        try:
            _lock(file)
        except OSError as error:
            if error.errno not in TAKEN:
                raise OSError(error.errno, f"this disk does not lock files ({error.strerror})", str(path)) from error
            yield False
            return
        try:  # else the file of another process that has just deleted it
            yield path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
        finally:
            with contextlib.suppress(OSError):
                _unlock(file)


if os.name == "nt":
    import msvcrt

    def _lock(file):
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _unlock(file):
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(file):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file):
        fcntl.flock(file, fcntl.LOCK_UN)
