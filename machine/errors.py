# SPDX-License-Identifier: GPL-2.0-only
"""Every error numalab raises on purpose.

One base class, one exit code a class. The codes follow BSD's sysexits.h, so a shell script can tell
a bad command line (64) from a bad image (65), a missing file (66), a machine that cannot be brought
up (69) and a mistake inside (70). How a *guest* ended is not an error: that is `machine.Stop`.

A message is one line and names the culprit: the file and column, the option, the address.
"""

from __future__ import annotations


class NumalabError(Exception):
    """Base of all errors of this project; `exit_code` is what the command exits with."""

    exit_code: int = 70


class TopologyError(NumalabError):
    """A NUMA topology that no machine could have, or that cannot be parsed."""

    exit_code = 64


class UsageError(NumalabError):
    """A command line or an argument of a public function that makes no sense."""

    exit_code = 64


class ImageError(NumalabError):
    """A script, executable or table that is malformed."""

    exit_code = 65


class SnapshotError(NumalabError):
    """A snapshot that is truncated, altered, of a newer version or no snapshot at all, or a machine
    that cannot be kept in one."""

    exit_code = 65


class InputError(NumalabError):
    """A file that is missing or cannot be read."""

    exit_code = 66


class BringUpError(NumalabError):
    """The machine or its kernel cannot be brought up."""

    exit_code = 69


class BusError(NumalabError):
    """A physical access that no device answers: `size` bytes at physical `address`."""

    exit_code = 70

    def __init__(self, address: int, size: int, message: str | None = None) -> None:
        self.address = address
        self.size = size
        super().__init__(
            message or f"bus error: no RAM behind {size} bytes at physical {address:#x}"
        )


class OutputError(NumalabError):
    """A file that cannot be written."""

    exit_code = 73
