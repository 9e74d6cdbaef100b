# SPDX-License-Identifier: GPL-2.0-only
"""What guest code pays: page requests, instructions, page walks. Reported, never asserted.

    python -m tests.benchmarks.bench_guest_calls

Figures aimed at, on the compiled engine: 8 million page requests a second from guest code through
the ring and 4 million through the mailbox; random reads over 128 MiB within 1.5 times the engine's
own page walk; straight guest loops within 15 % of an engine that does not count. Times are those
of this thread (CPU time), best of several runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

from unicorn import UC_ARCH_X86, UC_MODE_64, Uc
from unicorn import x86_const as x86

from allocator.engine import compiled_available, install_engine, load_engine
from machine import Machine, PageTableBuilder, Topology
from tests.allocator.ring_guests import BATCH, boot_program, mailbox, ring

RUNS = 5
CODE = 0x100000
READS = 1_000_000


def best(measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(RUNS))


def request_seconds(body: str) -> float:
    guest = boot_program(body, "2x128M")
    began = time.thread_time()
    stop = guest.machine.run()
    seconds = time.thread_time() - began
    assert (stop.kind, stop.code) == ("exit", 0), stop
    return seconds


def requests() -> None:
    for name in ("python", "compiled") if compiled_available() else ("python",):
        rounds = 200_000 if name == "compiled" else 4_000
        undo = install_engine(load_engine(name))
        for order in (0, 3):
            seconds = best(lambda: request_seconds(mailbox(rounds, order)))  # noqa: B023
            print(f"{name:8} mailbox order {order}: {2 * rounds / seconds:12,.0f} requests/s")
            turns = rounds // BATCH
            seconds = best(lambda: request_seconds(ring(turns, order)))  # noqa: B023
            rate = 2 * BATCH * turns / seconds
            print(f"{name:8} ring    order {order}: {rate:12,.0f} requests/s")
        undo()


def machine_with(code: bytes, mapped: int, page: int) -> tuple[Machine, int]:
    machine = Machine(Topology.parse("1x256M"))
    frames = count(12 << 20, 4096)
    tables = PageTableBuilder(machine.memory, lambda: next(frames))
    for at in range(0, mapped, page):
        tables.map(at, at, page)
    machine.memory.write(CODE, code)
    machine.memory.q[2 << 20 : 20 << 20].sum()  # the host's own page faults are not the guest's
    return machine, tables.root


def ours(code: bytes, mapped: int, page: int, walker: int) -> float:
    machine, root = machine_with(code, mapped, page)
    machine.cpus[0].native_walk = walker
    machine.cpus[0].start(CODE, 0x90000, root)
    began = time.thread_time()
    assert machine.run().kind == "halt"
    return time.thread_time() - began


def bare(code: bytes, mapped: int, page: int) -> float:
    """The engine as Unicorn makes it: its own page walk, nothing counted."""
    machine, root = machine_with(code, mapped, page)
    uc: Any = Uc(UC_ARCH_X86, UC_MODE_64)
    uc.ctl_exits_enabled(True)
    for start, end in machine.memory.extents:
        uc.mem_map_ptr(start, end - start, 7, machine.memory.host_address(start))
    uc.reg_write(x86.UC_X86_REG_CR4, 0x620)
    uc.reg_write(x86.UC_X86_REG_CR3, root)
    uc.msr_write(0xC000_0080, 0x901)
    uc.reg_write(x86.UC_X86_REG_CR0, 0x8005_0033)
    began = time.thread_time()
    uc.emu_start(CODE, 0)
    return time.thread_time() - began


def loop(body: str, times: int) -> bytes:
    """`body` (hex) `times` over, then HLT; RCX counts."""
    inner = bytes.fromhex(body)
    back = -(len(inner) + 8) & 0xFFFF_FFFF
    head = b"\xb9" + times.to_bytes(4, "little")
    return head + inner + b"\xff\xc9\x0f\x85" + back.to_bytes(4, "little") + b"\xf4"


def page_walks() -> None:
    # rax = rax * rbx + 1; rsi = word at 16 MiB + random offset below 128 MiB
    body = "480fafc3 48ffc0 4889c2 48c1ea20 81e2f8ffff07 488bb200000001"
    setup = bytes.fromhex("48bb2d7f954c2df45158 48b8efcdab8967452301")
    code = setup + loop(body, READS)
    walker = load_engine("compiled").code.address("walk") if compiled_available() else 0  # type: ignore[attr-defined]
    for page, name in ((4096, "4K"), (2 << 20, "2M")):
        size = 160 << 20
        own = best(lambda: bare(code, size, page))  # noqa: B023
        native = best(lambda: ours(code, size, page, walker))  # noqa: B023
        print(f"random reads, {name} pages: engine {own / READS * 1e9:.0f} ns, ", end="")
        print(f"ours {native / READS * 1e9:.0f} ns, ratio {native / own:.2f}")


def instructions() -> None:
    alu = "4801d8 4831c3 48c1e003 4829d3 4809c2 4889c6"
    memory = "48890425 00002000 488b1c25 08002000 48011c25 10002000 50 5b"
    for name, body, length in (
        ("2 instructions", "", 2),
        ("8 instructions", alu, 8),
        ("32 instructions", alu * 5, 32),
        ("62 instructions", alu * 10, 62),
        ("7 with 5 memory accesses", memory, 7),
        ("37 with 30 memory accesses", memory * 7, 37),
    ):
        times = 40_000_000 // length
        code = b"\xbc" + (0x90000).to_bytes(4, "little") + loop(body, times)
        own = best(lambda: bare(code, 4 << 20, 2 << 20))  # noqa: B023
        counted = best(lambda: ours(code, 4 << 20, 2 << 20, 0))  # noqa: B023
        total = times * length
        print(f"loop of {name}: bare {own / total * 1e9:.2f} ns an instruction, ", end="")
        print(f"counted {counted / total * 1e9:.2f} ns, ratio {counted / own:.2f}")


if __name__ == "__main__":
    requests()
    page_walks()
    instructions()
