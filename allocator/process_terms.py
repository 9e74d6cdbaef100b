# SPDX-License-Identifier: GPL-2.0-only
"""How people say what a process asks for: protections, advice, policies; and what its areas are.

`Process` takes names where a system call takes numbers. The tables are here, and `areas`, which
reads the areas of an address space back as /proc/pid/maps shows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from . import madvise, mmap
from .errors import BadRequest
from .mempolicy import MPOL_BIND, MPOL_DEFAULT, MPOL_INTERLEAVE, MPOL_LOCAL, MPOL_PREFERRED
from .mm_struct import (
    MM_MMAP,
    VM_EXEC,
    VM_MAYSHARE,
    VM_OPS_SHMEM,
    VM_READ,
    VM_WRITE,
    VMA_END,
    VMA_FILE,
    VMA_FLAGS,
    VMA_NEXT,
    VMA_OPS,
    VMA_PGOFF,
    VMA_START,
)
from .vma import vma_word

PROTECTIONS = {"r": mmap.PROT_READ, "w": mmap.PROT_WRITE, "x": mmap.PROT_EXEC, "-": 0}
ADVICE = {
    name.removeprefix("MADV_").lower(): value
    for name, value in vars(madvise).items()
    if name.startswith("MADV_")
}
MODES = {
    "default": MPOL_DEFAULT,
    "preferred": MPOL_PREFERRED,
    "bind": MPOL_BIND,
    "interleave": MPOL_INTERLEAVE,
    "local": MPOL_LOCAL,
}


@dataclass(frozen=True)
class Area:
    """One area, as a line of /proc/pid/maps: user addresses [start, end), permissions "rw-p", and
    for files the byte offset, and the name that shared memory has."""

    start: int
    end: int
    permissions: str
    offset: int
    flags: int
    name: str = ""

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"{self.start:08x}-{self.end:08x} {self.permissions} {self.offset:08x}{name}"


def protection_bits(prot: str | int) -> int:
    """PROT_ bits of "rw", "r-x" or a number. Raises BadRequest for other letters."""
    if isinstance(prot, int):
        return prot
    bits = 0
    for letter in prot:
        if letter not in PROTECTIONS:
            raise BadRequest(f"protection {prot!r}: letters of 'rwx'")
        bits |= PROTECTIONS[letter]
    return bits


def areas(m: memoryview, mm: int) -> Iterator[Area]:
    """The areas of the address space `mm` (a word index), by address."""
    vma = vma_word(m[mm + MM_MMAP])
    while vma:
        flags = m[vma + VMA_FLAGS]
        letters = [(VM_READ, "r"), (VM_WRITE, "w"), (VM_EXEC, "x")]
        permissions = "".join(letter if flags & bit else "-" for bit, letter in letters)
        permissions += "s" if flags & VM_MAYSHARE else "p"
        offset = m[vma + VMA_PGOFF] << 12 if m[vma + VMA_FILE] else 0
        name = "/dev/zero (deleted)" if m[vma + VMA_OPS] == VM_OPS_SHMEM else ""
        yield Area(m[vma + VMA_START], m[vma + VMA_END], permissions, offset, flags, name)
        vma = vma_word(m[vma + VMA_NEXT])
