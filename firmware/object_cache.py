# SPDX-License-Identifier: GPL-2.0-only
"""Assembled scripts kept from run to run, under the user's cache directory.

Starting LLVM takes longer than everything else on the way to the first instruction, so what a
script assembled to is kept in `$XDG_CACHE_HOME/numalab/objects` (`~/.cache` by default) under the
hash of its text, its includes and the assembler. A file holds its own hash: one that was cut short
or altered is not used. Files appear whole or not at all, the oldest go when there are too many, and
a cache that cannot be read or written is as good as none - nothing here ever raises."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

MAX_FILES = 256
MAX_BYTES = 16 << 20
"""Larger results are not kept."""

_MAGIC = b"numalab object 1\n"


def directory() -> Path | None:
    """Where the files are; None when there is no home to put them in."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base, "numalab", "objects") if os.path.isabs(base) else None


def load(key: str) -> bytes | None:
    """What was stored under `key`, None when there is nothing sound."""
    folder = directory()
    if folder is None:
        return None
    try:
        with open(folder / key, "rb") as stream:
            content = stream.read(MAX_BYTES + 1024)
    except (OSError, ValueError):
        return None
    head = len(_MAGIC) + 32
    payload = content[head:]
    if content[:head] != _MAGIC + hashlib.sha256(key.encode() + payload).digest():
        return None
    return payload


def store(key: str, payload: bytes) -> None:
    """Keep `payload` under `key`, a plain file name."""
    folder = directory()
    if folder is None or len(payload) > MAX_BYTES:
        return
    temporary = folder / f".{key}.{os.getpid()}.{os.urandom(4).hex()}"
    digest = hashlib.sha256(key.encode() + payload).digest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(_MAGIC + digest + payload)
            os.replace(temporary, folder / key)
        except OSError:
            temporary.unlink(missing_ok=True)
            return
        _prune(folder)
    except (OSError, ValueError):
        return


def _prune(folder: Path) -> None:
    """Delete the files written longest ago when there are more than `MAX_FILES`."""
    entries = list(os.scandir(folder))
    if len(entries) <= MAX_FILES:
        return
    ages = []
    for entry in entries:
        with contextlib.suppress(OSError):
            if entry.is_file(follow_symlinks=False):
                ages.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.path))
    for _, path in sorted(ages)[: len(ages) - MAX_FILES * 3 // 4]:
        with contextlib.suppress(OSError):
            os.unlink(path)
