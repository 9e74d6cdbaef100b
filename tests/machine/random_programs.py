# SPDX-License-Identifier: GPL-2.0-only
"""Random guest programs, and what becomes of them when they are run in slices.

`plain` holds straight code, memory accesses, branches and calls; `mixed` also string and port
instructions, CPUID and RDTSC, flag and segment loads, exceptions, and stores into the program
itself. A device at ports DEVICE ends the slice at every second access, in mid-block.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count

from machine import Machine, PageTableBuilder, Topology
from machine.bus import State
from machine.vcpu import VCPU, SliceEnd

CODE, DATA, STACK = 0x100000, 0x200000, 0x90000
DEVICE = 0xA8
MAPPED = 4 << 20

_PLAIN_TEXT = """
    48ffc0 48ffc3 4801d8 4831c3 48c1e003 4829d3 4809c2 4889c6 50 5b 51 59 90 f8 f9 fc f390 0fb6c3
    480fafc3 99 0f1f440000 666690 fec8 ffc9 eb00 7502 7503 e344 e2f4 e800000000 66480f6ec0
    66480f7ec3 f20f58c1 d9e8 48890425@ 488b1c25@ 48011c25@
"""
_MIXED_TEXT = """
    f3aa f348a5 f3a6 6c 6e f36e e6aa e4ab ec 66ed ef 0fa2 0f31 9c 9d fb fa 8ed0 48f7e3 c8100000
    0fae0425@ 48c70425@90909090
"""
_RARE_TEXT = "cc f4 0f0b 48f7f1 cd80 c3 0f22c0 0f22d8 c9"
_PLAIN = _PLAIN_TEXT.split()
_MIXED = [*_PLAIN, *_MIXED_TEXT.split()]
_RARE = _RARE_TEXT.split()


def plain(rng: random.Random, length: int) -> bytes:
    """A loop of about `length` bytes of code without anything that an engine could be asked for."""
    return _program(rng, length, _PLAIN, 0)


def mixed(rng: random.Random, length: int) -> bytes:
    """A loop with everything."""
    return _program(rng, length, _MIXED + (_RARE if rng.random() < 0.5 else []), 0.1)


def _program(rng: random.Random, length: int, pieces: list[str], own: float) -> bytes:
    out = bytearray()
    while len(out) < length:
        at = rng.choice((DATA, DATA + 8, DATA + 0x1FF8)) + rng.randrange(64)
        if rng.random() < own:
            at = CODE + rng.randrange(length)
        out += bytes.fromhex(rng.choice(pieces).replace("@", at.to_bytes(4, "little").hex()))
    back = -(len(out) + 8) & 0xFFFF_FFFF
    return bytes(out) + b"\xff\xcd\x0f\x85" + back.to_bytes(4, "little") + b"\xf4"


class Interrupting:
    """A device of eight ports that ends the slice of the CPU at every second access."""

    name = "interrupting"
    width = 4

    def __init__(self) -> None:
        self.cpu: VCPU | None = None
        self.accesses = 0

    def _access(self) -> int:
        self.accesses += 1
        assert self.cpu is not None
        if self.accesses % 2 == 0:
            self.cpu.end_slice(SliceEnd.YIELD)
        if self.accesses % 7 == 0:
            self.cpu.flush_code()
        return self.accesses

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        return self._access() & ((1 << 8 * size) - 1)

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._access()

    def save(self) -> State:
        return {}

    def load(self, state: State) -> None:
        pass


def machine_with(code: bytes) -> tuple[Machine, VCPU]:
    """A machine about to run `code` on CPU 0, with `Interrupting` at DEVICE."""
    machine = Machine(Topology.parse("1x32M"))
    frames = count(24 << 20, 4096)
    tables = PageTableBuilder(machine.memory, lambda: next(frames))
    for at in range(0x40000, MAPPED, 4096):
        tables.map(at, at, 4096, flags=7)
    machine.memory.write(CODE, code)
    device, cpu = Interrupting(), machine.cpus[0]
    device.cpu = cpu
    machine.ports.attach(DEVICE, 8, device)
    cpu.start(CODE, STACK, tables.root)
    regs = cpu.regs
    regs.rdi, regs.rsi, regs.rcx, regs.rdx, regs.rbp = DATA, DATA + 0x1000, 37, DEVICE + 4, 5
    return machine, cpu


def run_to(code: bytes, total: int, length: Callable[[], int]) -> tuple[object, ...]:
    """Run `code` until `total` instructions have retired or it can run no more, in slices of
    `length()` instructions: the CPU's state, what ended it, RAM."""
    machine, cpu = machine_with(code)
    for _ in range(4 * total):
        if cpu.state == "halted":
            cpu.wake()
        if cpu.state != "running" or cpu.retired >= total:
            break
        cpu.run_slice(min(length(), total - cpu.retired))
    return cpu.save(), str(cpu.fault), machine.memory.read(0, MAPPED)


def run_slices(code: bytes, lengths: list[int]) -> list[object]:
    """What every slice did, and the state at the end."""
    machine, cpu = machine_with(code)
    seen: list[object] = []
    for length in lengths:
        if cpu.state == "halted":
            cpu.wake()
        if cpu.state != "running":
            break
        end, retired = cpu.run_slice(length)
        seen.append((end, retired, cpu.rip, str(cpu.fault)))
    return [*seen, cpu.save(), machine.memory.read(0, MAPPED)]
