# SPDX-License-Identifier: GPL-2.0-only
"""The child process that finds out whether, and where, the native routines can work.

What they need is not Unicorn's API: that the description of a translation block lies a fixed
distance in front of its code and looks as `nativeir` says, and where the CPU keeps the field that
limits the next block (the one that QEMU's own precise stops use). Nothing tells but trying, and a
wrong guess can bring the process down. So this runs in a child of its own (`nativecode` starts it),
every guess about a field that must be written runs in a child of *that*, and a guess counts as
right only when an engine that uses it counts as Unicorn's own hook does: program after program, in
slices of every length, with accesses that fault and ports that stop it.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from unicorn import unicorn_const as kinds
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

from machine import nativecode
from machine.counting import CountingEngine, block_starts, new_context
from machine.engine import (
    CODE_CALLBACK,
    FILL_CALLBACK,
    IN_CALLBACK,
    INTERRUPT_CALLBACK,
    OUT_CALLBACK,
    Engine,
    bare_engine,
    hook_raw,
)
from machine.nativecode import Layout, Made, Native
from machine.nativeir import CTX, OUT_OF_BUDGET
from machine.physmem import Bank, PhysicalMemory

_LEFT, _LIMIT, _TB, _FLAGS, _AT = (CTX[name] for name in ("left", "limit", "tb", "flags", "at"))
_PAGE = 0x1000
_CODE = bytes.fromhex("90 90 48ffc0 90 ebf8")
"""nop; nop; inc rax; nop; jmp back to the first."""
_BEGINS = [_PAGE, _PAGE + 1, _PAGE + 2, _PAGE + 5, _PAGE + 6]
_MAGIC = 0x5A17_0DD5_EED5
_GUESS_SECONDS = 20

PROGRAMS = (
    "48ffc0 48ffc0 48ffc3 4801d8 ebf2",
    "b905000000 48ffc0 ffc9 75f9 90 e800000000 58 4801c3 50 5b f4",
    "bf00600000 b907000000 fc f3aa 48ffc0 b903000000 f348a5 f4",
    "48ffc0 e642 48ffc0 48ffc3 e443 4801c3 ebf0",
    "48ffc0 e644 48ffc0 e445 4801c3 f4",
    "48ffc0 48ffc3 48a10000000100000000 48ffc0 f4",
    "31c9 48ffc0 f7f1 48ffc0 f4",
    "48ffc0 0f0b 90",
    "90 ffc0 cc 90",
)
"""Loops, calls, REP, ports, a fault, a division by zero, an undefined opcode, a trap."""
STOP_OUT, STOP_IN = 0x44, 0x45
"""Ports whose access ends the run."""


def main() -> None:
    """Say on standard output, as `Made.to_json` does, what there is."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    code, functions = nativecode.compile_source()
    base = nativecode.map_code(code)
    layout = None
    if base:
        with contextlib.suppress(Exception):  # whatever it is: not the Unicorn that we know
            layout = find_layout({name: base + offset for name, offset in functions.items()})
    sys.stdout.write(Made(code, functions, layout).to_json())


def find_layout(routines: dict[str, int]) -> Layout | None:
    """Where this Unicorn keeps things; None when it is one that cannot be counted on."""
    if not hasattr(uclib, "helper_check_exit_request_x86_64"):
        return None
    probe = _Probe(routines)
    head = probe.find_head()
    if head is None:
        return None
    for cpu, field in probe.guesses():
        layout = Layout(head, cpu, field)
        if holds(lambda: probe.limits(layout)) and holds(  # noqa: B023
            lambda: equal_counts(Native(routines, layout))  # noqa: B023
        ):
            atomic = holds(lambda: locks_are_atomic(routines, layout))  # noqa: B023
            return replace(layout, atomic=int(atomic))
    return None


def holds(question: Callable[[], bool]) -> bool:
    """Ask `question` in a child process: a crash, an exception and a hang are a no."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        signal.alarm(_GUESS_SECONDS)
        answer = 1
        try:
            answer = 0 if question() else 1
        finally:
            os._exit(answer)
    _, status = os.waitpid(child, 0)
    return status == 0


class _Probe:
    """A throwaway engine with the routine `block` in it, over one page of known code."""

    def __init__(self, routines: dict[str, int]) -> None:
        def fill(_uc: object, va: int, _access: int, entry: Any, _data: object) -> bool:
            entry.contents.paddr = va
            entry.contents.perms = 7
            return va == _PAGE

        def memory_map(uc: Any) -> None:
            uc.mem_map(_PAGE, 0x1000)
            uc.mem_write(_PAGE, _CODE)

        self.uc = bare_engine(memory_map, counts=False)
        self._fill = FILL_CALLBACK(fill)
        function = ctypes.cast(self._fill, ctypes.c_void_p).value or 0
        hook_raw(self.uc, kinds.UC_HOOK_TLB_FILL, function)
        self.context = new_context(0)
        hook_raw(self.uc, kinds.UC_HOOK_BLOCK, routines["block"], ctypes.addressof(self.context))

    def run(self, limit: int) -> None:
        context = self.context
        context[_LEFT] = context[_LIMIT] = limit
        context[_TB] = context[_FLAGS] = 0
        uclib.uc_emu_start(self.uc._uch, _PAGE, 0, 0, 0)

    def find_head(self) -> int | None:
        """Bytes from a block's description to its code: that with which the loop of five is seen
        to be one, twice, and its table tells where its instructions begin."""
        context = self.context
        for head in range(64, 512, 64):
            context[CTX["tb_head"]] = head
            self.run(10)
            if context[_FLAGS] == OUT_OF_BUDGET:
                break
        else:
            return None
        self.run(5)
        twice = context[_FLAGS] == OUT_OF_BUDGET and context[_LEFT] == 0
        if not twice or context[_AT] != _PAGE:
            return None
        return head if self._block_seen() == (_BEGINS, _PAGE + len(_CODE)) else None

    def _block_seen(self) -> tuple[list[int], int] | None:
        """The block at _PAGE as its own table has it."""
        seen: list[tuple[list[int], int]] = []

        def reached(_uc: object, _address: int, _size: int, _data: object) -> None:
            seen.append(block_starts(self.context[_TB]))

        self._reached = CODE_CALLBACK(reached)  # kept: the hook stays as long as the engine
        function = ctypes.cast(self._reached, ctypes.c_void_p).value or 0
        hook_raw(self.uc, kinds.UC_HOOK_CODE, function, only=_PAGE)
        self.uc.ctl_flush_tb()
        self.run(5)
        return seen[0] if seen else None

    def guesses(self) -> Iterator[tuple[int, int]]:
        """Byte offsets of what may be the CPU in the engine's struct, and of its fields that are -1
        at rest. The CPU holds, early on, a pointer to registers among which RIP is."""
        self.uc.reg_write(x86.UC_X86_REG_RIP, _MAGIC)
        wanted = _MAGIC.to_bytes(8, "little")
        words = list((ctypes.c_uint64 * 256).from_address(self.uc._uch.value))
        with open("/proc/self/mem", "rb", buffering=0) as host:
            for index, cpu in enumerate(words):
                head = _peek(host.fileno(), cpu, 1024)
                for at in range(0, len(head) - 7, 8):
                    (registers,) = struct.unpack_from("<Q", head, at)
                    if not cpu < registers < cpu + (1 << 20):
                        continue
                    if wanted not in _peek(host.fileno(), registers, 512):
                        continue
                    for field in range(0, at, 4):
                        if head[field : field + 4] == b"\xff" * 4:
                            yield 8 * index, field

    def limits(self, layout: Layout) -> bool:
        """Does the field, set to 2, make a block of two instructions?"""
        cpu = ctypes.c_uint64.from_address(self.uc._uch.value + layout.cpu).value
        ctypes.c_uint32.from_address(cpu + layout.next_block).value = 2
        self.context[CTX["tb_head"]] = layout.tb_head
        self.run(2)
        return bool(self.context[_LEFT] == 0 and self.context[_AT] == _BEGINS[2])


def _peek(host: int, address: int, length: int) -> bytes:
    """Bytes of this process, as many as there are; none where nothing is mapped."""
    if not 0x10000 <= address < 1 << 47 or address & 7:
        return b""
    try:
        return os.pread(host, length, address)
    except OSError:
        return b""


def equal_counts(native: Native) -> bool:
    """Does an engine that counts by the block do what one does that counts by instruction: for all
    of PROGRAMS, in slices of every length up to 24?"""
    for program in PROGRAMS:
        code = bytes.fromhex(program)
        for length in range(1, 25):
            if trace(code, length, native) != trace(code, length, None):
                return False
    return True


def locks_are_atomic(routines: dict[str, int], layout: Layout) -> bool:
    """Does an engine that runs beside others count all of PROGRAMS as one that is alone, and do a
    locked instruction in one piece or, where the host cannot, not at all? (Where it could not, that
    is to say at an odd address, its own code would do it in pieces.)"""
    layout = replace(layout, atomic=1)
    native = Native(routines, layout)
    for program in PROGRAMS:
        for length in (1, 2, 3, 7, 24):
            code = bytes.fromhex(program)
            if trace(code, length, native, beside=True) != trace(code, length, None):
                return False
    done = [word for word in (0x6000, 0x6001) if _locked_increment(native, word) == 1]
    return done == [0x6000]


def _locked_increment(native: Native, address: int) -> int:
    """What a locked increment of the word at `address` makes of 0."""
    memory = PhysicalMemory([Bank(0, 1 << 16, "probe")])
    memory.write(_PAGE, bytes.fromhex("f0ff0425") + address.to_bytes(4, "little") + b"\xf4")
    engine = CountingEngine(memory, native)
    _connect(engine)
    engine.run_beside_others(True)
    engine.run(_PAGE, 20)
    return int.from_bytes(memory.read(address, 4), "little")


def trace(
    code: bytes, length: int, native: Native | None, beside: bool = False
) -> list[tuple[int, ...]]:
    """What 40 slices of `length` instructions of `code` do: status, instructions begun, registers
    and all of RAM, after every slice; at the end an empty row if it gave up counting by the block.
    Without `native`: as the engine that counts itself does. `beside`: as one beside others."""
    memory = PhysicalMemory([Bank(0, 1 << 16, "probe")])
    memory.write(_PAGE, code)
    engine = Engine(memory) if native is None else CountingEngine(memory, native)
    left = _connect(engine)
    if beside:
        engine.run_beside_others(True)
    engine.uc.reg_write(x86.UC_X86_REG_RSP, 0x8000)
    rip = _PAGE
    seen: list[tuple[int, ...]] = []
    for _ in range(40):
        left.clear()
        status = engine.run(rip, length)
        begun = engine.behind if left else engine.counter
        rip = engine.uc.reg_read(x86.UC_X86_REG_RIP)
        rax, rbx = (engine.uc.reg_read(r) for r in (x86.UC_X86_REG_RAX, x86.UC_X86_REG_RBX))
        seen.append((status, begun, rip, rax, rbx, hash(bytes(memory.bytes))))
        if status or (begun <= length and not left):
            break
    if isinstance(engine, CountingEngine) and not engine.by_block:
        seen.append(())
    return seen


def _connect(engine: Engine) -> list[int]:
    """A flat address space of 64 KiB, ports of which two end the run, exceptions that do. The
    list gets the port whose access has ended a run."""
    left: list[int] = []

    def fill(_uc: object, va: int, access: int, entry: Any, _data: object) -> bool:
        entry.contents.paddr = va
        entry.contents.perms = 7
        if va >= 1 << 16 and access == kinds.UC_MEM_FETCH:
            engine.fetch_refused()
        return va < 1 << 16

    def code_at(address: int, size: int) -> bytes:
        return engine.memory.read(address, size)

    def out(_uc: object, port: int, _size: int, _value: int, _data: object) -> None:
        if port == STOP_OUT:
            left.append(port)
            engine.leave(code_at)

    def into(_uc: object, port: int, _size: int, _data: object) -> int:
        if port == STOP_IN:
            left.append(port)
            if engine.leave(code_at):
                low = engine.uc.reg_read(x86.UC_X86_REG_RAX) & ~0xFF
                engine.uc.reg_write(x86.UC_X86_REG_RAX, low | port)
        return port

    def interrupt(_uc: object, _vector: int, _data: object) -> None:
        engine.stop()

    engine.hook(kinds.UC_HOOK_TLB_FILL, FILL_CALLBACK(fill))
    engine.hook(kinds.UC_HOOK_INTR, INTERRUPT_CALLBACK(interrupt))
    engine.hook_ports(OUT_CALLBACK(out), IN_CALLBACK(into))
    return left
