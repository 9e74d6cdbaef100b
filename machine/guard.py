# SPDX-License-Identifier: GPL-2.0-only
"""Keeps a guest from aborting the engine through the task register.

Unicorn calls abort() - the whole process ends - when a guest in user mode calls through a gate
while TR holds no present TSS. A CPU starts with a present one and only `LTR` of a null selector
takes it away (on real hardware that is a #GP). So each block of code is searched, when it is
translated, for what could be an LTR; such an address gets a breakpoint, and past it the CPU goes
one instruction at a time until TR has been looked at. Code without LTR pays a few microseconds a
translated block, and nothing when it runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from unicorn import unicorn_const as kinds

from machine.engine import BLOCK_CALLBACK, CODE_CALLBACK
from machine.mmu import translate

if TYPE_CHECKING:
    from machine.engine import Engine
    from machine.physmem import PhysicalMemory
    from machine.registers import Registers

AVAILABLE_TSS, TSS_LIMIT = 0x8900, 0x67
"""Flags and limit of the TSS a CPU starts with: present, available as the engine wants it."""
_PRESENT = 0x8000
_LTR = re.compile(rb"\x0f\x00[\x18-\x1f\x58-\x5f\x98-\x9f\xd8-\xdf]")


class TaskRegisterGuard:
    """Watches one engine for LTR. `pending` tells that the engine has stopped because of it: in
    front of an LTR (`step` then executes it) or, with `found` filled, to have breakpoints set."""

    def __init__(self, engine: Engine, regs: Registers, memory: PhysicalMemory) -> None:
        self._engine = engine
        self._regs = regs
        self._memory = memory
        self._armed: set[int] = set()
        self._found: set[int] = set()
        self._stepping = False
        self.pending = False
        self.begun = 0
        """Instructions retired when the engine was stopped."""
        engine.hook(kinds.UC_HOOK_EDGE_GENERATED, BLOCK_CALLBACK(self._translated))

    def _translated(self, _uc: object, block: Any, _before: object, _data: object) -> None:
        start, size = block.contents.pc, block.contents.size
        code = self.code(start, size)
        suspects = {start + match.start() for match in _LTR.finditer(code)} - self._armed
        if suspects:
            self._found |= suspects
            self._stop(self._engine.entered)

    def _reached(self, _uc: object, _address: int, _size: int, _data: object) -> None:
        if not self._stepping:
            self._stop(self._engine.counter - 1)

    def _stop(self, begun: int) -> None:
        self.pending = True
        self.begun = begun
        self._engine.stop()

    def code(self, start: int, size: int) -> bytes:
        """The `size` bytes of guest code at virtual `start`, as far as they are there."""
        out = b""
        while size > 0:
            here = translate(self._memory, self._regs.cr3, start) if self._paged() else None
            phys = here.phys if here else start
            length = min(size, 4096 - (start & 0xFFF))
            if self._memory.is_ram(phys, length):
                out += self._memory.read(phys, length)
            start += length
            size -= length
        return out

    def _paged(self) -> bool:
        return bool(self._regs.cr0 >> 31)

    def arm(self) -> bool:
        """Outside the engine: set the breakpoints found necessary; True when there were any."""
        new, self._found = self._found, set()
        for address in new:
            self._engine.hook(
                kinds.UC_HOOK_CODE, CODE_CALLBACK(self._reached), only=address & ((1 << 64) - 1)
            )
        self._armed |= new
        if new:
            self._engine.flush_code()
        return bool(new)

    def step(self) -> int:
        """Outside the engine, in front of the LTR: execute it and see to TR. The engine's
        status."""
        self._stepping = True
        try:
            status = self._engine.run(self._regs.rip, 1)
        finally:
            self._stepping = False
        if not self._regs.tr_flags & _PRESENT:
            self._regs.tr_flags = AVAILABLE_TSS  # and limit 0: a call through a gate is a #TS
        return status
