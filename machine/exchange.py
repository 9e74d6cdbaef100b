# SPDX-License-Identifier: GPL-2.0-only
"""Makes the engine's XCHG atomic, for CPUs that run in threads.

An engine that runs beside others does what has a LOCK prefix with atomic instructions of the host:
all but XCHG with memory, which locks without a prefix and which spin locks are made of. Unicorn
2.1.4 reads and then writes there, in four small functions, one for each size. `make_atomic` puts an
XCHG in the place of those two instructions, in this process's copy of the library; it has just the
room. It looks first whether each function is, byte for byte, the one that is known; if any is not,
or the host does not let code be changed, nothing is touched, and CPUs do not run in threads."""

from __future__ import annotations

import ctypes
import mmap
from functools import cache

from unicorn.unicorn_py3.unicorn import uclib

_CALL = "e8 ........"
_HEAD = "53 {} 89ca 488b4c2408 " + _CALL
"""push rbx; mov rbx, the new value; the arguments of the look-up, which gives RAX = the place."""
_FUNCTIONS = {
    # movzx edx, byte [rax]; mov [rax], bl       xchg [rax], bl; mov edx, ebx; nop
    "xchgb": (_HEAD.format("89d3"), "0fb610 8818", "8618 89da 90", "5b 0fb6c2 c3"),
    # movzx edx, word [rax]; mov [rax], bx       xchg [rax], bx; mov edx, ebx; nop
    "xchgw_le": (_HEAD.format("89d3"), "0fb710 668918", "668718 89da 90", "5b 0fb7c2 c3"),
    # mov r8d, [rax]; mov [rax], ebx             xchg [rax], ebx; mov r8d, ebx
    "xchgl_le": (_HEAD.format("89d3"), "448b00 8918", "8718 4189d8", "5b 4489c0 c3"),
    # mov r8, [rax]; mov [rax], rbx              xchg [rax], rbx; mov r8, rbx
    "xchgq_le": (_HEAD.format("4889d3"), "4c8b00 488918", "488718 4989d8", "5b 4c89c0 c3"),
}
"""What comes before, the two instructions, what takes their place, what comes behind."""


@cache
def make_atomic() -> bool:
    """From now on XCHG is atomic in all engines of this process that run beside others. False, and
    nothing has changed, if that cannot be done."""
    places = [_place(name, *parts) for name, parts in _FUNCTIONS.items()]
    if not all(places):
        return False
    return all(_replace(*place) for place in places if place)


def _place(name: str, head: str, old: str, new: str, tail: str) -> tuple[int, bytes] | None:
    """Where in the function the two instructions are, and what to put there."""
    symbol = getattr(uclib, f"helper_atomic_{name}_x86_64", None)
    if symbol is None:
        return None
    start = ctypes.cast(symbol, ctypes.c_void_p).value or 0
    pattern = (head + old + tail).replace(" ", "")
    code = ctypes.string_at(start, len(pattern) // 2).hex()
    if any(known not in (".", found) for known, found in zip(pattern, code, strict=True)):
        return None
    return start + len(head.replace(" ", "")) // 2, bytes.fromhex(new)


def _replace(address: int, code: bytes) -> bool:
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    first = address & -mmap.PAGESIZE
    length = address + len(code) - first
    executable = mmap.PROT_READ | mmap.PROT_EXEC
    if protect(first, length, executable | mmap.PROT_WRITE):
        return False
    ctypes.memmove(address, code, len(code))
    return not protect(first, length, executable)
