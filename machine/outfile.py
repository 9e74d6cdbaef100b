# SPDX-License-Identifier: GPL-2.0-only
"""Files that appear whole or not at all.

What is written goes into a new file in the same directory, is forced to the disk and only then
takes the name; whatever fails before leaves what had the name untouched."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import BinaryIO

from machine.errors import OutputError


@contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """A seekable binary file that becomes `path` when the block ends well, and vanishes when it
    does not. Follows symbolic links. Raises `OutputError` naming `path`."""
    target = os.path.realpath(path)
    try:
        temporary, file = _create(target)
    except OSError as error:
        raise OutputError(f"{os.fspath(path)}: {error.strerror}") from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        _remove(temporary)
        raise OutputError(f"{os.fspath(path)}: {error.strerror or error}") from None
    except BaseException:
        _remove(temporary)
        raise
    _sync_directory(os.path.dirname(target))


def check_writable(path: str | PathLike[str]) -> None:
    """Raise `OutputError` if `replacing` would not even get a file to write to."""
    try:
        temporary, file = _create(os.path.realpath(path))
        file.close()
        os.unlink(temporary)
    except OSError as error:
        raise OutputError(f"{os.fspath(path)}: {error.strerror}") from None


def _create(target: str) -> tuple[str, BinaryIO]:
    """An empty file beside `target`, with the permissions that `target` has or would get."""
    mode = None
    with contextlib.suppress(FileNotFoundError):
        info = os.stat(target)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(0, "not a regular file")  # a device or directory must not be replaced
        mode = stat.S_IMODE(info.st_mode)
    directory, name = os.path.split(target)
    temporary = os.path.join(directory, f".{name[:200]}.{secrets.token_hex(8)}.tmp")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    if mode is not None:
        with contextlib.suppress(OSError):  # a file system without permissions
            os.fchmod(fd, mode)
    return temporary, os.fdopen(fd, "w+b")


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _sync_directory(path: str) -> None:
    """Make the new name last. The file is in place by now: no failure is worth an error."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
