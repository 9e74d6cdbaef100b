# SPDX-License-Identifier: GPL-2.0-only
"""Counting instructions by the block: an engine that is exact at a fraction of the price.

Unicorn's own counting calls native code in front of every instruction. Here a routine of ours
(`nativeir`) runs in front of every translation block and takes the block's length off what may
still run. That is exact because all that can happen in mid-block is known:

- the limit lies inside the next block: the engine stops in front of it, and is told to translate
  just as many instructions as are left, once (the field that QEMU uses for this);
- an instruction faults, or asks Python or the doorbell: the engine's table of the block tells
  how many instructions begin in front of it;
- a port's callback wants the CPU to stop: RIP is moved behind the instruction and the engine is
  left at once, through its own exit. (INS and OUTS have more to do after the callback. With REP
  they end their block; without, the engine is left in front of them, too, and does them again,
  alone and without another access to the port.)
- a device in memory is accessed: the page walk refuses that in mid-block, and the instruction is
  done alone; so all is known about it, and the run can end behind it.
- a store hits its own block: the engine leaves the block and does that instruction again, alone;
  what had not run of the block is given back. It counts once. (Unicorn's own hook, which the plain
  engine counts with, sees such a store begin twice.)

None of this is Unicorn's API. Where its structs keep these fields, a child process has found out
and tried (`nativeprobe`); without such findings `new_engine` gives the plain engine. Every block's
description is compared with the address that the engine announces: at the first difference the
engine goes over to Unicorn's own counting, in mid-run and for good."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unicorn import unicorn_const as kinds
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

from machine import nativeir
from machine.doorbell import DOORBELL_PORT
from machine.engine import OK, Engine, hook_raw
from machine.exchange import make_atomic
from machine.nativecode import Native, load
from machine.nativeir import ASIDE, CTX, CTX_WORDS, LOST, OUT_OF_BUDGET, PARALLEL
from machine.walk import ram_table

if TYPE_CHECKING:
    from machine.engine import ControlReader
    from machine.physmem import PhysicalMemory

_LEFT, _LIMIT, _TB, _FLAGS, _AT = (CTX[name] for name in ("left", "limit", "tb", "flags", "at"))
_LEAVE, _BEGUN, _RINGS, _AGAIN = (CTX[name] for name in ("leave", "begun", "rings", "again"))
_ANY_BLOCK = 0xFFFF_FFFF
_NO_LIMIT = 1 << 62
_STRING_IO = (0x6C, 0x6D, 0x6E, 0x6F)
_PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))


def _decline(*_: int) -> int:
    """A walker that leaves every miss to Python."""
    return -1


decline_walk = ctypes.CFUNCTYPE(ctypes.c_int64, *(ctypes.c_int64 for _ in range(9)))(_decline)


def new_engine(memory: PhysicalMemory) -> Engine:
    """The fastest engine that this host and this Unicorn allow."""
    native = load()
    return Engine(memory) if native is None else CountingEngine(memory, native)


class CountingEngine(Engine):
    """An engine that counts by the block; see `Engine` for what it promises. `context` are the
    words that the native routines work on (`nativeir.CTX`)."""

    counts_itself = False

    def __init__(self, memory: PhysicalMemory, native: Native) -> None:
        super().__init__(memory)
        layout, routines = native.layout, native.routines
        cpu = ctypes.c_uint64.from_address(self._handle.value + layout.cpu).value
        self._next_block = ctypes.c_uint32.from_address(cpu + layout.next_block)
        self.context = new_context(layout.tb_head)
        self._address = ctypes.addressof(self.context)
        self._routines = routines
        self._begun = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(
            routines["begun"]
        )
        self._held: int | None = None
        self._again: int | None = None
        self._for_device = self._stepping = False
        self._left_soon = self._soon = False
        self._walk = 0
        self._aside = False
        self._before = 0
        self._ram = ram_table(memory)
        self._kind = 0
        self._describe_ram(memory)
        self.context[CTX["next_block"]] = cpu + layout.next_block
        self._atomic = layout.atomic
        self._hook = hook_raw(self.uc, kinds.UC_HOOK_BLOCK, routines["block"], self._address)

    @property
    def by_block(self) -> bool:
        """False once the engine has gone over to Unicorn's own counting."""
        return not self._aside

    def run_beside_others(self, on: bool) -> bool:
        if not on and not self._kind:
            return True
        if on and not (self._atomic and self.by_block and make_atomic()):
            return False
        if on != bool(self._kind):
            uclib.uc_hook_del(self._handle, ctypes.c_size_t(self._hook))
            routine = self._routines["block_parallel" if on else "block"]
            self._hook = hook_raw(self.uc, kinds.UC_HOOK_BLOCK, routine, self._address)
            self._kind = PARALLEL if on else 0
            self._next_block.value = _ANY_BLOCK
            self.flush_code()
        return True

    def step_undivided(self, rip: int, limit: int = 1) -> int:
        if self._aside:
            return super().step_undivided(rip, limit)
        kind, self._kind = self._kind, 0
        self.context[_LEFT] = self.context[_LIMIT] = 1
        self.context[_LEAVE] = self.context[_BEGUN] = 0
        self._held = self._again = None
        self._for_device = self._soon = False
        self._next_block.value = _ANY_BLOCK
        status = self._step(rip)
        if self._left_soon and not self._aside:
            self.context[_FLAGS] = OUT_OF_BUDGET
        self._kind = kind
        return status

    @property
    def counter(self) -> int:
        if self._aside:
            return self._before + super().counter
        context = self.context
        if context[_FLAGS] and not context[_LEFT] and self._held is None:
            return int(context[_LIMIT]) + 1
        return int(context[_BEGUN] or self._begun(self._handle, self._address))

    @property
    def entered(self) -> int:
        if self._aside:
            return self.counter
        return int(self.context[_LIMIT] - self.context[_LEFT])

    @property
    def behind(self) -> int:
        if self._aside:
            return self._before + super().behind
        return int(self.context[_LIMIT] - self.context[_LEFT])

    def run(self, rip: int, limit: int) -> int:
        if self._aside:
            self._before = 0
            return super().run(rip, limit)
        context = self.context
        context[_LEFT] = context[_LIMIT] = limit
        context[_LEAVE] = context[_BEGUN] = 0
        self._held = self._again = None
        self._for_device = self._soon = False
        status = self._start(rip)
        while self._for_device and not self._aside:
            self._for_device = False
            status = self._step(self.uc.reg_read(self.rip_register))
            self.flush_tlb()
            if not self._left_soon or self._soon or self._again is not None:
                break
            if not context[_LEFT]:
                context[_FLAGS] = OUT_OF_BUDGET
                break
            status = self._start(self._rip)
        if self._again is not None and not self._aside:
            context[_AGAIN] = 1
            status = self._step(self._again)
            context[_AGAIN] = 0
        self._release()
        return status

    def _start(self, rip: int) -> int:
        """Run from `rip` until something happens or nothing is left."""
        context = self.context
        context[_TB] = context[_FLAGS] = 0
        if self._kind:
            self._next_block.value = self._kind
        status = self._go(rip)
        while status == OK and context[_FLAGS] == OUT_OF_BUDGET and context[_LEFT] > 0:
            if self._next_block.value not in (_ANY_BLOCK, self._kind):
                return self._go_aside()
            context[_FLAGS] = 0
            self._next_block.value = context[_LEFT] | self._kind
            status = self._go(self._rip)
        return self._go_aside() if context[_FLAGS] == LOST else status

    @property
    def _rip(self) -> int:
        """Where to go on in front of a block: RIP, which is not the linear address that the engine
        announces when CS has a base."""
        return int(self.uc.reg_read(self.rip_register))

    def _step(self, rip: int) -> int:
        """Run the one instruction at `rip`, of which there must be one left. `_left_soon` tells
        whether it has come to its end."""
        self._release()
        context = self.context
        self._hold(context[_LEFT] - 1)
        context[_TB] = context[_FLAGS] = 0
        if self._next_block.value not in (_ANY_BLOCK, self._kind):
            return self._go_aside()
        self._stepping = True
        self._next_block.value = 1 | self._kind
        status = self._go(rip)
        self._stepping = False
        if context[_FLAGS] == LOST:
            return self._go_aside()
        self._release()
        return status

    def _hold(self, instructions: int) -> None:
        """Let the limit come so many instructions earlier, until `_release`."""
        self._held = instructions + (self._held or 0)
        self.context[_LIMIT] -= instructions
        self.context[_LEFT] -= instructions

    def _release(self) -> None:
        context, held = self.context, self._held
        if held is not None:
            self._left_soon = bool(context[_FLAGS])
            context[_LIMIT] += held
            context[_LEFT] += held
            context[_FLAGS] = 0
            self._held = None

    def _go_aside(self) -> int:
        """In front of a block that cannot be counted: let Unicorn count what is left of the run,
        and all later ones."""
        context = self.context
        self._release()
        context[_AGAIN] = 0
        left = context[_LEFT]
        self._before = context[_LIMIT] - left
        self._aside = True
        context[CTX["serve"]] = 0
        context[_FLAGS], context[_LEFT], context[_TB] = ASIDE, _NO_LIMIT, 0
        self.flush_code()
        return super().run(self._rip, left)

    def leave(self, code_at: Callable[[int, int], bytes]) -> bool:
        context = self.context
        if self._aside or not context[_TB]:
            return super().leave(code_at)
        # The block's addresses are linear, RIP is an offset into CS.
        base = block_base(context[_TB])
        rip = base + self.uc.reg_read(self.rip_register)
        starts, end = block_starts(context[_TB])
        later = [start for start in starts if start > rip]
        if not _is_string_io(code_at(rip, 15)):
            context[_LEFT] += len(later)
            self.uc.reg_write(self.rip_register, (later[0] if later else end) - base)
        elif later:
            context[_LEFT] += len(later) + 1
            self._again = rip - base
            self.uc.reg_write(self.rip_register, self._again)
        else:
            # Nothing fits into no budget: the next block is the end.
            self._hold(context[_LEFT])
            return False
        context[_TB] = 0
        context[_LEAVE] = 1
        return self._again is None

    def alone(self) -> bool:
        context = self.context
        if self._aside or self._stepping or not context[_TB]:
            return True
        # The instruction has not begun then, and what lies behind it in its block neither.
        context[_LEFT] = context[_LIMIT] - self._begun(self._handle, self._address) + 1
        context[_TB] = 0
        self._for_device = True
        return False

    def leave_soon(self) -> None:
        if self._aside:
            super().leave_soon()
        elif not self._soon:
            self._soon = True
            if self._held is None:
                # Nothing fits into no budget: the next block is the end.
                self._hold(self.context[_LEFT])

    @property
    def left_soon(self) -> bool:
        return self._aside or self._left_soon

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
        if not self._aside:
            self.context[CTX["cpu"]], self.context[CTX["serve"]] = cpu, function

    def walk_with(self, function: int, controls: ControlReader) -> None:
        context = self.context
        context[CTX["walk"]] = self._walk = function
        context[CTX["control_ids"]] = ctypes.addressof(controls.ids)
        context[CTX["control_pointers"]] = ctypes.addressof(controls.pointers)
        context[CTX["controls"]] = ctypes.addressof(controls.values)
        self._callbacks.append(controls)
        hook_raw(self.uc, kinds.UC_HOOK_TLB_FILL, self._routines["fill"], self._address)

    @property
    def own_walker(self) -> int:
        return self._routines["walk"]

    def native_walk_on(self, on: bool) -> None:
        decline = ctypes.cast(decline_walk, ctypes.c_void_p).value or 0
        self.context[CTX["walk"]] = self._walk if on else decline

    def start_clock(self, now: int) -> None:
        self.context[CTX["clock"]] = now

    @property
    def tired(self) -> bool:
        return bool(self.context[_RINGS] >= nativeir.MANY_RINGS)

    @property
    def rings(self) -> int:
        return int(self.context[_RINGS])

    def take_rings(self) -> int:
        rings: int = self.context[_RINGS]
        self.context[_RINGS] = 0
        return rings

    def take_answer(self) -> int:
        answer: int = self.context[CTX["answer"]]
        self.context[CTX["answer"]] = 0
        return answer


def new_context(tb_head: int) -> Any:
    """The words of one CPU, for an engine whose blocks' descriptions lie `tb_head` bytes in front
    of their code."""
    context = (ctypes.c_int64 * CTX_WORDS)()
    context[CTX["tb_head"]] = tb_head
    context[CTX["doorbell"]] = DOORBELL_PORT
    context[CTX["rip_register"]] = Engine.rip_register
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


def block_base(tb: int) -> int:
    """Linear address of the code segment that the block described at `tb` was translated in."""
    return ctypes.c_uint64.from_address(tb + nativeir.TB_CS_BASE).value


def block_starts(tb: int) -> tuple[list[int], int]:
    """Linear addresses where the instructions of the block described at `tb` begin, and where it
    ends; its table holds three numbers an instruction, the first being the distance from the one
    before."""
    (pc,) = struct.unpack("<Q", ctypes.string_at(tb, 8))
    size, count = struct.unpack("<HH", ctypes.string_at(tb + nativeir.TB_SIZE, 4))
    code, code_size = struct.unpack("<QQ", ctypes.string_at(tb + nativeir.TB_CODE, 16))
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
