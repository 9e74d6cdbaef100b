# SPDX-License-Identifier: GPL-2.0-only
"""Counting instructions by the block: an engine that is exact at a fraction of the price.

Unicorn's own counting calls native code in front of every instruction. Here a routine of ours
(`nativecode`) runs in front of every translation block and takes the block's length off what may
still run. That is exact because all that can happen in mid-block is known:

- the limit lies inside the next block: the engine stops in front of it, and is told to translate
  just as many instructions as are left, once (the field that QEMU uses for this);
- an instruction faults, or asks Python or the doorbell: the engine's table of the block tells
  how many instructions begin in front of it;
- a port's callback wants the CPU to stop: RIP is moved behind the instruction and the engine is
  left at once, through its own exit. (INS and OUTS, which have more to do after the callback, end
  with their block.)
- a store hits its own block: the engine leaves the block and does that instruction again, alone;
  what had not run of the block is given back. It counts once.

None of this is Unicorn's API. Where its structs keep these fields, a throwaway engine shows once a
process, with known code whose every count is checked; if anything is not as expected, or there can
be no native code, `new_engine` gives the plain engine, which counts the same."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from unicorn import unicorn_const as kinds
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

from machine import nativecode
from machine.doorbell import DOORBELL_PORT
from machine.engine import FILL_CALLBACK, OK, Engine, bare_engine, hook_raw
from machine.errors import BringUpError
from machine.nativecode import CTX, CTX_WORDS, LOST, OUT_OF_BUDGET
from machine.walk import ram_table

if TYPE_CHECKING:
    from machine.engine import ControlReader
    from machine.physmem import PhysicalMemory

_LEFT, _LIMIT, _TB, _FLAGS, _AT = (CTX[name] for name in ("left", "limit", "tb", "flags", "at"))
_LEAVE, _BEGUN, _RINGS = CTX["leave"], CTX["begun"], CTX["rings"]
_ANY_BLOCK = 0xFFFF_FFFF
_STRING_IO = (0x6C, 0x6D, 0x6E, 0x6F)
_PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))


def new_engine(memory: PhysicalMemory) -> Engine:
    """The fastest engine that this host and this Unicorn allow."""
    layout = _find_layout()
    return Engine(memory) if layout is None else CountingEngine(memory, layout)


class CountingEngine(Engine):
    """An engine that counts by the block; see `Engine` for what it promises. `context` are the
    words that the native routines work on (`nativecode.CTX`)."""

    counts_itself = False

    def __init__(self, memory: PhysicalMemory, layout: tuple[int, int, int]) -> None:
        super().__init__(memory)
        routines = nativecode.load()
        assert routines is not None
        tb_head, cpu_field, flags_field = layout
        cpu = ctypes.c_uint64.from_address(self._handle.value + cpu_field).value
        self._next_block = ctypes.c_uint32.from_address(cpu + flags_field)
        self.context = _new_context(tb_head)
        self._address = ctypes.addressof(self.context)
        self._routines = routines
        self._begun = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(
            routines["begun"]
        )
        self._held: int | None = None
        self._ram = ram_table(memory)
        self._describe_ram(memory)
        hook_raw(self.uc, kinds.UC_HOOK_BLOCK, routines["block"], self._address)

    @property
    def counter(self) -> int:
        context = self.context
        if context[_FLAGS] and not context[_LEFT]:
            return int(context[_LIMIT]) + 1
        return int(context[_BEGUN] or self._begun(self._handle, self._address))

    @property
    def entered(self) -> int:
        return int(self.context[_LIMIT] - self.context[_LEFT])

    @property
    def behind(self) -> int:
        return int(self.context[_LIMIT] - self.context[_LEFT])

    def run(self, rip: int, limit: int) -> int:
        context, handle = self.context, self._handle
        context[_LEFT] = context[_LIMIT] = limit
        context[_TB] = context[_FLAGS] = context[_LEAVE] = context[_BEGUN] = 0
        self._held = None
        self._next_block.value = _ANY_BLOCK
        status: int = uclib.uc_emu_start(handle, rip, 0, 0, 0)
        while status == OK and context[_FLAGS] and context[_LEFT] > 0:
            if context[_FLAGS] == LOST:
                raise BringUpError("the engine's translation blocks are not where they were")
            context[_FLAGS] = 0
            self._next_block.value = context[_LEFT]
            status = uclib.uc_emu_start(handle, context[_AT], 0, 0, 0)
        if self._held is not None:
            context[_LEFT], context[_FLAGS] = self._held, 0
        return status

    def leave(self, code_at: Callable[[int, int], bytes]) -> bool:
        context = self.context
        rip = self.uc.reg_read(x86.UC_X86_REG_RIP)
        if _is_string_io(code_at(rip, 15)):
            # Nothing fits into no budget: the next block is the end.
            self._held = context[_LEFT]
            context[_LEFT] = context[_TB] = 0
            return False
        starts, end = _starts(context[_TB])
        later = [start for start in starts if start > rip]
        context[_LEFT] += len(later)
        context[_TB] = 0
        self.uc.reg_write(x86.UC_X86_REG_RIP, later[0] if later else end)
        context[_LEAVE] = 1
        return True

    def fetch_refused(self) -> None:
        self.context[_TB] = 0

    def hook_ports(self, out: Any, into: Any) -> None:
        self._callbacks += [out, into]
        for name, callback, instruction in (
            ("python_out", out, x86.UC_X86_INS_OUT),
            ("python_in", into, x86.UC_X86_INS_IN),
        ):
            self.context[CTX[name]] = ctypes.cast(callback, ctypes.c_void_p).value or 0
            routine = self._routines[name.replace("python", "port")]
            hook_raw(self.uc, kinds.UC_HOOK_INSN, routine, self._address, instruction)

    def _describe_ram(self, memory: PhysicalMemory) -> None:
        context = self.context
        context[CTX["words"]] = memory.host_address()
        context[CTX["word_count"]] = memory.size >> 3
        context[CTX["ram"]], context[CTX["ram_count"]] = self._ram.buffer_info()

    def serve_doorbell(self, function: int, cpu: int) -> None:
        self.context[CTX["cpu"]], self.context[CTX["serve"]] = cpu, function

    def walk_with(self, function: int, controls: ControlReader) -> None:
        context = self.context
        context[CTX["walk"]] = function
        context[CTX["control_ids"]] = ctypes.addressof(controls.ids)
        context[CTX["control_pointers"]] = ctypes.addressof(controls.pointers)
        context[CTX["controls"]] = ctypes.addressof(controls.values)
        self._callbacks.append(controls)
        hook_raw(self.uc, kinds.UC_HOOK_TLB_FILL, self._routines["fill"], self._address)

    def start_clock(self, now: int) -> None:
        self.context[CTX["clock"]] = now

    def take_rings(self) -> int:
        rings: int = self.context[_RINGS]
        self.context[_RINGS] = 0
        return rings

    def take_answer(self) -> int:
        answer: int = self.context[CTX["answer"]]
        self.context[CTX["answer"]] = 0
        return answer


def _new_context(tb_head: int) -> Any:
    context = (ctypes.c_int64 * CTX_WORDS)()
    context[CTX["tb_head"]] = tb_head
    context[CTX["doorbell"]] = DOORBELL_PORT
    for name in ("uc_emu_stop", "uc_reg_read", "uc_reg_read_batch"):
        context[CTX[name]] = ctypes.cast(getattr(uclib, name), ctypes.c_void_p).value or 0
    helper = uclib.helper_check_exit_request_x86_64
    context[CTX["check_exit"]] = ctypes.cast(helper, ctypes.c_void_p).value or 0
    return context


def _is_string_io(code: bytes) -> bool:
    for byte in code:
        if byte not in _PREFIXES and byte >> 4 != 4:
            return byte in _STRING_IO
    return False


def _starts(tb: int) -> tuple[list[int], int]:
    """Where the instructions of the block described at `tb` begin, and where it ends; its table
    holds three numbers an instruction, the first being the distance from the one before."""
    pc, _, _, size, count = struct.unpack("<QQIHH", ctypes.string_at(tb, 24))
    code, code_size = struct.unpack("<QQ", ctypes.string_at(tb + nativecode.TB_CODE, 16))
    table = ctypes.string_at(code + code_size, 30 * count)
    starts, at, here = [], 0, pc
    for index in range(3 * count):
        value = shift = 0
        while True:
            byte = table[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if index % 3 == 0:
            here += value - (1 << shift if byte & 0x40 else 0)
            starts.append(here)
    return starts, pc + size


_PAGE = 0x1000
_CODE = bytes.fromhex("90 90 48ffc0 90 ebf8")
"""nop; nop; inc rax; nop; jmp back to the first."""
_BEGINS = [_PAGE, _PAGE + 1, _PAGE + 2, _PAGE + 5, _PAGE + 6]


@cache
def _find_layout() -> tuple[int, int, int] | None:
    """Bytes from a block's description to its code, byte offset of the pointer to the CPU in the
    engine's struct, byte offset in the CPU of the flags for the next block; None when this
    Unicorn is another one than we know how to count on."""
    routines = nativecode.load()
    if routines is None or not hasattr(uclib, "helper_check_exit_request_x86_64"):
        return None

    def fill(_uc: object, va: int, _access: int, entry: Any, _data: object) -> bool:
        entry.contents.paddr = va
        entry.contents.perms = 7
        return va == _PAGE

    def memory_map(uc: Any) -> None:
        uc.mem_map(_PAGE, 0x1000)
        uc.mem_write(_PAGE, _CODE)

    uc = bare_engine(memory_map, counts=False)
    callback = FILL_CALLBACK(fill)
    hook_raw(uc, kinds.UC_HOOK_TLB_FILL, ctypes.cast(callback, ctypes.c_void_p).value or 0)
    context = _new_context(0)
    hook_raw(uc, kinds.UC_HOOK_BLOCK, routines["block"], ctypes.addressof(context))

    def run(limit: int) -> None:
        context[_LEFT] = context[_LIMIT] = limit
        context[_TB] = context[_FLAGS] = 0
        uclib.uc_emu_start(uc._uch, _PAGE, 0, 0, 0)

    for head in range(64, 512, 64):
        context[CTX["tb_head"]] = head
        run(10)
        if context[_FLAGS] == OUT_OF_BUDGET:
            break
    else:
        return None
    run(5)
    again = context[_FLAGS] == OUT_OF_BUDGET and context[_LEFT] == 0 and context[_AT] == _PAGE
    if not again:
        return None
    context[_TB] = 0
    probe = _last_block(context, uc)
    if probe != (_BEGINS, _PAGE + len(_CODE)):
        return None
    found = _find_next_block(uc, context, run)
    return None if found is None else (head, *found)


def _last_block(context: Any, uc: Any) -> tuple[list[int], int] | None:
    """The block at _PAGE as its own table has it."""
    seen: list[tuple[list[int], int]] = []

    def stop(_uc: object, _address: int, _size: int, _data: object) -> None:
        seen.append(_starts(context[_TB]))

    from machine.engine import CODE_CALLBACK

    callback = CODE_CALLBACK(stop)
    hook_raw(uc, kinds.UC_HOOK_CODE, ctypes.cast(callback, ctypes.c_void_p).value or 0, only=_PAGE)
    uc.ctl_flush_tb()
    context[_LEFT] = context[_LIMIT] = 5
    uclib.uc_emu_start(uc._uch, _PAGE, 0, 0, 0)
    return seen[0] if seen else None


def _find_next_block(uc: Any, context: Any, run: Callable[[int], None]) -> tuple[int, int] | None:
    """Byte offsets of the CPU in the engine's struct and of its field that limits the next block.

    The CPU is what holds, early on, a pointer to registers among which RIP is; the field is one
    that is -1 at rest and, set to 2, makes a block of two instructions."""
    magic = 0x5A17_0DD5_EED5
    uc.reg_write(x86.UC_X86_REG_RIP, magic)
    words = (ctypes.c_uint64 * 256).from_address(uc._uch.value)
    with open("/proc/self/mem", "rb", buffering=0) as host:
        for index, cpu in enumerate(words):
            head = _peek(host.fileno(), cpu, 1024)
            for at in range(0, len(head) - 7, 8):
                (registers,) = struct.unpack_from("<Q", head, at)
                if not cpu < registers < cpu + (1 << 20):
                    continue
                if magic.to_bytes(8, "little") not in _peek(host.fileno(), registers, 512):
                    continue
                for field in range(0, at, 4):
                    if head[field : field + 4] == b"\xff" * 4:
                        cell = ctypes.c_uint32.from_address(cpu + field)
                        cell.value = 2
                        run(2)
                        limited = context[_LEFT] == 0 and context[_AT] == _BEGINS[2]
                        cell.value = _ANY_BLOCK
                        if limited:
                            return 8 * index, field
    return None


def _peek(host: int, address: int, length: int) -> bytes:
    """Bytes of this process, as many as there are; none where nothing is mapped."""
    if not 0x10000 <= address < 1 << 47 or address & 7:
        return b""
    try:
        return os.pread(host, length, address)
    except OSError:
        return b""
