# SPDX-License-Identifier: GPL-2.0-only
"""Watches for the few instructions that the engine cannot be left alone with.

- `LTR`: Unicorn calls abort() - the whole process ends - when a guest in user mode calls through a
  gate while TR holds no present TSS. A CPU starts with a present one and only LTR of a null
  selector takes it away (on real hardware that is a #GP). So TR is looked at behind each LTR.
- `STI`, `POPF`, `IRET`, `SYSRET`: the CPU may take interrupts from here on. The engine has no
  notion of interrupts; when one is waiting, it must stop here. (Each of them ends its block, so the
  last bytes of a block are all there is to look at.)
- `RDMSR`, `WRMSR` of the local APIC's base and of the time stamp counter, `MOV CR8`: Unicorn has
  neither APIC nor clock, so they are done in its place.

Each block of code is searched for them when it is translated; such an address gets a breakpoint,
whose callback stops the engine in front of the instruction, if need be. `step` then gets it over
with. Other code pays a few microseconds a translated block, and nothing when it runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from unicorn import unicorn_const as kinds

from machine.engine import BLOCK_CALLBACK, CODE_CALLBACK
from machine.mmu import translate_as

if TYPE_CHECKING:
    from machine.engine import ControlReader, Engine
    from machine.hidden import HiddenState
    from machine.physmem import PhysicalMemory
    from machine.registers import Registers

AVAILABLE_TSS, TSS_LIMIT = 0x8900, 0x67
"""Flags and limit of the TSS a CPU starts with: present, available as the engine wants it."""
_PRESENT = 0x8000
_MSR_APIC_BASE, _MSR_TSC = 0x1B, 0x10
_LTR = re.compile(rb"\x0f\x00[\x18-\x1f\x58-\x5f\x98-\x9f\xd8-\xdf]")
_MSR = re.compile(rb"\x0f[\x30\x32]|[\x44-\x47]\x0f[\x20\x22][\xc0-\xc7]")
_CR8 = re.compile(rb"[\x44-\x47]\x0f[\x20\x22][\xc0-\xc7]")
_PREFIXES = b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3" + bytes(range(0x40, 0x50))
_ENDINGS = (b"\xfb", b"\x9d", b"\xcf")
"""STI, POPF, IRET."""
_POPF = b"\x9d"
_SS, _BIG, _IF_UPPER = 2, 1 << 22, 2
"""Number of SS, its flag for 32-bit stacks, IF in the flags' second byte."""
_MAX_WATCHED = 4096
"""Addresses with a breakpoint in one engine, from which on only LTR is watched: interrupts are then
taken where a slice ends at the latest."""


class Guard:
    """Watches one engine. `pending` tells that the engine has stopped because of it: in front of
    such an instruction (`step` then executes it) or to have breakpoints set (`arm`)."""

    def __init__(
        self,
        engine: Engine,
        regs: Registers,
        memory: PhysicalMemory,
        controls: ControlReader,
        cpu: GuardedCpu,
    ) -> None:
        self._engine = engine
        self._regs = regs
        self._memory = memory
        self._controls = controls
        self._cpu = cpu
        self._armed: set[int] = set()
        self._found: set[int] = set()
        self._others: set[int] = set()
        """Where something was found that is not a matter of interrupts alone."""
        self._stepping = False
        self.pending = False
        self.begun = 0
        """Instructions retired when the engine was stopped."""
        engine.hook(kinds.UC_HOOK_EDGE_GENERATED, BLOCK_CALLBACK(self._translated))

    def _translated(self, _uc: object, block: Any, _before: object, _data: object) -> None:
        start, size = block.contents.pc, block.contents.size
        code = self.code(start, size)
        watched = len(self._armed) < _MAX_WATCHED
        others = _addresses(_LTR, code, start)
        if watched:
            others |= _addresses(_MSR, code, start)
        self._others |= others
        setters = self._flag_setters(code, start) if watched else set()
        suspects = (others | setters) - self._armed
        if suspects:
            self._found |= suspects
            if not self._stepping:
                self._stop(self._engine.entered)

    def _flag_setters(self, code: bytes, start: int) -> set[int]:
        """Where a block may end with an instruction that lets interrupts in."""
        end = start + len(code)
        if code[-1:] in _ENDINGS:
            return {end - 1, end - 2} if _prefixed(code) else {end - 1}
        return {end - 2, end - 3} if code.endswith(b"\x0f\x07") else set()

    def _reached(self, _uc: object, address: int, size: int, _data: object) -> None:
        if self._stepping or (address not in self._others and not self._cpu.attentive):
            return
        code = self.code(address, min(size, 15)).lstrip(_PREFIXES)
        if code[:1] in _ENDINGS or code[:2] == b"\x0f\x07":
            if self._cpu.attentive and not (code[:1] == _POPF and self._pops_disabled()):
                self._stop(self._engine.counter - 1)
        elif code[:2] in (b"\x0f\x30", b"\x0f\x32"):
            if self._regs.rcx & 0xFFFFFFFF in (_MSR_APIC_BASE, _MSR_TSC):
                self._stop(self._engine.counter - 1)
        elif code[:1] == b"\x0f":
            self._stop(self._engine.counter - 1)

    def _pops_disabled(self) -> bool:
        """In front of POPF: the flags on the stack have interrupts off. (Code that saves and
        restores its flags in a loop would otherwise stop in every round while one waits.)"""
        hidden = self._cpu.hidden
        hidden.load()
        _, base, _, flags = hidden.segment(_SS)
        sp = hidden.rsp
        if not hidden.code64:
            sp = base + (sp & (0xFFFFFFFF if flags & _BIG else 0xFFFF)) & 0xFFFFFFFF
        top = self.code(sp, 2)
        return len(top) == 2 and not top[1] & _IF_UPPER

    def _stop(self, begun: int) -> None:
        self.pending = True
        self.begun = begun
        self._engine.stop()

    def code(self, start: int, size: int) -> bytes:
        """The `size` bytes of guest code at linear `start`, as far as they are there."""
        cr0, cr3, cr4, efer, _ = self._controls.read()
        out = b""
        while size > 0:
            length = min(size, 4096 - (start & 0xFFF))
            here = translate_as(self._memory, cr0, cr3, cr4, efer, start)
            phys = -1 if here is None else here.phys & self._cpu.a20_mask
            if not self._memory.is_ram(phys, length):
                break
            out += self._memory.read(phys, length)
            start += length
            size -= length
        return out

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

    def emulate(self) -> bool:
        """Outside the engine, in front of the instruction: do it here, if it is one that the engine
        does not know. It has retired then."""
        hidden = self._cpu.hidden
        hidden.load()
        if hidden.cpl:
            return False
        code = self.code(hidden.segment(1)[1] + hidden.rip, 15)
        bare = code.lstrip(_PREFIXES)
        length = len(code) - len(bare)
        if bare[:2] in (b"\x0f\x30", b"\x0f\x32"):
            if bare[1] == 0x30:
                self._cpu.write_msr(hidden.gpr(1) & 0xFFFFFFFF, _pair(hidden.gpr(0), hidden.gpr(2)))
            else:
                value = self._cpu.read_msr(hidden.gpr(1) & 0xFFFFFFFF)
                hidden.set_gpr(0, value & 0xFFFFFFFF)
                hidden.set_gpr(2, value >> 32)
            length += 2
        elif _CR8.match(code) and hidden.code64:
            register = code[3] & 7 | (code[0] & 1) << 3
            if code[2] == 0x20:
                hidden.set_gpr(register, self._cpu.read_priority())
            elif hidden.gpr(register) > 15:
                return False
            else:
                self._cpu.write_priority(hidden.gpr(register))
            length = 4
        else:
            return False
        hidden.rip += length
        hidden.inhibited = False
        hidden.store()
        return True

    def step(self) -> int:
        """Outside the engine, in front of the instruction: execute it, see to TR, and note an IRET.
        The engine's status."""
        rip = self._regs.rip
        code = self.code(self._regs.cs_base + rip, 15).lstrip(_PREFIXES)
        self._stepping = True
        try:
            status = self._engine.run(rip, 1)
        finally:
            self._stepping = False
        self.arm()
        if not self._regs.tr_flags & _PRESENT:
            self._regs.tr_flags = AVAILABLE_TSS  # and limit 0: a call through a gate is a #TS
        self._cpu.task_loaded()
        if code[:1] == b"\xcf" and status == 0:
            self._cpu.returned()
        return status


class GuardedCpu(Protocol):
    """What the guard asks of its CPU."""

    a20_mask: int

    @property
    def attentive(self) -> bool:
        """An interrupt waits for its flag, or an NMI for the end of the one before."""

    @property
    def hidden(self) -> HiddenState:
        """The copy of the registers."""

    def read_msr(self, number: int) -> int:
        """RDMSR."""

    def write_msr(self, number: int, value: int) -> None:
        """WRMSR."""

    def read_priority(self) -> int:
        """CR8."""

    def write_priority(self, value: int) -> None:
        """CR8."""

    def returned(self) -> None:
        """An IRET has retired."""

    def task_loaded(self) -> None:
        """TR may have been loaded."""


def _addresses(pattern: re.Pattern[bytes], code: bytes, start: int) -> set[int]:
    """Where in the `code` at `start` an instruction of that kind may begin, prefixes included."""
    found: set[int] = set()
    for match in pattern.finditer(code):
        at = match.start()
        found.add(start + at)
        while at and code[at - 1] in _PREFIXES:
            at -= 1
            found.add(start + at)
    return found


def _prefixed(code: bytes) -> bool:
    """True when the last byte but one may be a prefix of the last."""
    return len(code) > 1 and code[-2] in _PREFIXES


def _pair(low: int, high: int) -> int:
    return (high & 0xFFFFFFFF) << 32 | low & 0xFFFFFFFF
