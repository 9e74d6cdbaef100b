# SPDX-License-Identifier: GPL-2.0-only
"""What counting every instruction costs a guest. Reported, never asserted.

    python -m tests.benchmarks.bench_instructions

Loops of several kinds run on a bare Unicorn engine (its own page walk, nothing counted, no hook)
and on a CPU of this machine, which counts by the block; the aim is that instruction-heavy loops
stay within 15 % of the bare engine. For comparison: the plain engine, which counts with Unicorn's
own hook. Times are those of this thread (CPU time), the two kinds by turns, best of several runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from unicorn import UC_ARCH_X86, UC_MODE_64, Uc
from unicorn import x86_const as x86

from machine import Machine, PageTableBuilder, Topology, counting
from machine.engine import Engine

RUNS = 7
CODE = 0x100000
INSTRUCTIONS = 200_000_000
HOOKED = 2_000_000
"""Instructions for the plain engine, which takes its time."""


def machine_with(code: bytes, mapped: int, page: int) -> tuple[Machine, int]:
    """A machine with `code` at CODE and `mapped` bytes of one-to-one pages; the tables' root."""
    machine = Machine(Topology.parse("1x256M"))
    frames = count(12 << 20, 4096)
    tables = PageTableBuilder(machine.memory, lambda: next(frames))
    for at in range(0, mapped, page):
        tables.map(at, at, page)
    machine.memory.write(CODE, code)
    machine.memory.q[2 << 20 : 20 << 20].sum()  # the host's own page faults are not the guest's
    return machine, tables.root


def ours(code: bytes, mapped: int = 4 << 20, page: int = 2 << 20, walker: int = 0) -> float:
    """Seconds of a run on a CPU of the machine, to its HLT."""
    machine, root = machine_with(code, mapped, page)
    machine.cpus[0].native_walk = walker
    machine.cpus[0].start(CODE, 0x90000, root)
    began = time.thread_time()
    stop = machine.run()
    assert stop.kind == "halt", stop
    return time.thread_time() - began


def bare(code: bytes, mapped: int = 4 << 20, page: int = 2 << 20) -> float:
    """The same on an engine as Unicorn makes it."""
    machine, root = machine_with(code, mapped, page)
    uc: Any = Uc(UC_ARCH_X86, UC_MODE_64)
    uc.ctl_exits_enabled(True)
    for start, end in machine.memory.extents:
        uc.mem_map_ptr(start, end - start, 7, machine.memory.host_address(start))
    uc.reg_write(x86.UC_X86_REG_RSP, 0x90000)
    uc.reg_write(x86.UC_X86_REG_CR4, 0x620)
    uc.reg_write(x86.UC_X86_REG_CR3, root)
    uc.msr_write(0xC000_0080, 0x901)
    uc.reg_write(x86.UC_X86_REG_CR0, 0x8005_0033)
    began = time.thread_time()
    uc.emu_start(CODE, 0)
    return time.thread_time() - began


@contextmanager
def plain_engines() -> Iterator[None]:
    """CPUs started meanwhile count with Unicorn's own hook."""
    usual = counting.new_engine
    counting.new_engine = Engine
    try:
        yield
    finally:
        counting.new_engine = usual


@contextmanager
def python_walks() -> Iterator[None]:
    """CPUs started meanwhile have no page walk but Python's."""
    usual = counting.CountingEngine.own_walker
    counting.CountingEngine.own_walker = 0  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        counting.CountingEngine.own_walker = usual  # type: ignore[method-assign]


def loop(body: str, times: int) -> bytes:
    """`body` (hex) `times` over, then HLT; RCX counts."""
    inner = bytes.fromhex(body)
    back = -(len(inner) + 8) & 0xFFFF_FFFF
    head = b"\xb9" + times.to_bytes(4, "little")
    return head + inner + b"\xff\xc9\x0f\x85" + back.to_bytes(4, "little") + b"\xf4"


def by_turns(*measures: Callable[[], float]) -> list[float]:
    """The best of each."""
    rounds = [[measure() for measure in measures] for _ in range(RUNS)]
    return [min(column) for column in zip(*rounds, strict=True)]


ALU = "4801d8 4831c3 48c1e003 4829d3 4809c2 4889c6"
MULTIPLY = "480fafc3 4801d0 4869db0d661900 4883c301 4831c2"
MEMORY = "48890425 00002000 488b1c25 08002000 48011c25 10002000 50 5b"
CALLS = "e801000000 90 4883c408"
FLAGS = "9c 9d"
BRANCHES = "a801 7402 ffc3 a802 7402 ffc2 d1c8"
LOOPS = (
    ("nothing but DEC and JNZ", "", 2),
    ("simple arithmetic, 8 instructions", ALU, 8),
    ("simple arithmetic, 32 instructions", ALU * 5, 32),
    ("simple arithmetic, 62 instructions", ALU * 10, 62),
    ("multiplications, 12 instructions", MULTIPLY * 2, 12),
    ("multiplications, 52 instructions", MULTIPLY * 10, 52),
    ("5 memory accesses in 7 instructions", MEMORY, 7),
    ("30 memory accesses in 32 instructions", MEMORY * 6, 32),
    ("a call in every round", CALLS, 4),
    ("branches over one instruction", BRANCHES, 8),
    ("flags saved and restored in every round", FLAGS, 4),
)


def shared(code: str, cpus: int, instructions: int) -> float:
    """Seconds that `cpus` CPUs, all in the endless loop `code`, take for so many instructions."""
    machine = Machine(Topology.parse(f"1x64M,cpus={cpus}"))
    frames = count(12 << 20, 4096)
    tables = PageTableBuilder(machine.memory, lambda: next(frames))
    tables.map(0, 0, 4 << 20)
    machine.memory.write(CODE, bytes.fromhex(code))
    for cpu in machine.cpus:
        cpu.start(CODE, 0x90000 - 0x1000 * cpu.cpu_id, tables.root)
    began = time.thread_time()
    assert machine.run(max_instructions=instructions).kind == "budget"
    return time.thread_time() - began


def several_cpus() -> None:
    """What turns cost: CPUs that work, and CPUs that all wait in PAUSE."""
    for name, code in (("work", ALU.replace(" ", "") + "ebeb"), ("wait in PAUSE", "f390ebfc")):
        for cpus in (1, 4):
            seconds = min(shared(code, cpus, 4_000_000) for _ in range(3))
            print(f"{cpus} CPUs that {name}: {seconds / 4e6 * 1e9:.1f} ns an instruction")


def main() -> None:
    """Print a line for every kind of loop."""
    several_cpus()
    for name, body, length in LOOPS:
        slow = body in (MEMORY, MEMORY * 6, CALLS, FLAGS)
        times = INSTRUCTIONS // length // (40 if slow else 1)
        code, few = loop(body, times), loop(body, HOOKED // length)
        own, counted = by_turns(lambda: bare(code), lambda: ours(code))  # noqa: B023
        with plain_engines():
            hooked = min(ours(few) for _ in range(3)) / HOOKED
        total = times * length
        print(
            f"{name}: bare {own / total * 1e9:.2f} ns an instruction, "
            f"counted {counted / total * 1e9:.2f} ns, ratio {counted / own:.2f}; "
            f"by Unicorn's hook {hooked * 1e9:.1f} ns"
        )


if __name__ == "__main__":
    main()
