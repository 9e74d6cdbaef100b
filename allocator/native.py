# SPDX-License-Identifier: GPL-2.0-only
"""The compiled engine inside the CPUs: doorbell and page walks without Python.

A CPU whose machine is attached asks compiled code first when the guest rings the doorbell and when
it misses its TLB: `guest_calls.serve_mailbox` and `machine.walk.walk`, the sources that Python
interprets otherwise. Only what they do not settle reaches Python: calls that need the machine, an
index out of range in damaged structures, faults. The bytes in RAM, the console and the instruction
counts are the same either way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from machine import Machine

from .engine import Engine

if TYPE_CHECKING:
    from .engine_cache import Code


def attach_native(machine: Machine, engine: Engine) -> bool:
    """Let the CPUs of `machine` ask `engine`'s code directly, if it is compiled; whether it is.

    CPUs started from now on walk page tables with it; the doorbell is answered by it at once, or no
    longer. The machine must hold a kernel whose calls `Hypercalls` serves.
    """
    code = cast("Code", engine.code) if engine.name == "compiled" else None
    for cpu in machine.cpus:
        cpu.native_walk = code.address("walk") if code else 0
        cpu.native_doorbell = code.address("serve_mailbox") if code else 0
    return code is not None
