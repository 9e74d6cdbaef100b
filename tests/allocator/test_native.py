# SPDX-License-Identifier: GPL-2.0-only
"""A guest cannot tell which engine serves it: RAM, console, clock and counts are the same bytes."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator
from ctypes import CFUNCTYPE, c_int64, c_void_p, cast
from itertools import pairwise
from typing import Any

import pytest

from allocator import engine
from allocator.boot_image import Guest, boot_image
from allocator.engine import install_engine, load_engine
from allocator.guest_calls import BOX_ARGS, BOX_ERRNO, BOX_RESULT, SERVED_LATER
from allocator.hypercall import RunawayCallError
from allocator.kernel_globals import G_CLOCK
from allocator.layout import MAILBOXES, NODE_DATA, page_va, word_of_va
from allocator.mm_types import P_NEXT
from allocator.mmzone import PSET_COUNT, PSET_LISTS, Z_PAGESET
from allocator.native import attach_native
from allocator.pcp import page_zone
from allocator.views import Page
from machine import Machine, Stop, Topology
from machine.nativecode import load as native_routines
from tests.allocator.ring_guests import boot_program, mailbox, ring

pytestmark = [
    pytest.mark.skipif(not engine.compiled_available(), reason="numba is not installed"),
    pytest.mark.skipif(native_routines() is None, reason="this host has no native routines"),
]

SCRIPTS = (
    ("first_light.S", "2x64M"),
    ("exhaust.S", "2x48M"),
    ("smp.S", "2x64M,cpus=2"),
    ("walk_freelist.S", "2x64M"),
    ("e820.S", "2x64M"),
)
PROGRAMS = {
    "mailbox": mailbox(200, 1),
    "ring": ring(20),
    "bulk": """
    lea     rbx, [rip + buffer]
    hypercall HC_ALLOC_BULK, GFP_KERNEL, 0, -1, 300, rbx
    hypercall HC_FREE_BULK, 0, 300, rbx
    hypercall HC_DRAIN_ALL_PAGES
    hypercall HC_ALLOC_BULK, GFP_KERNEL, 0, -1, 300, -8
    hypercall HC_ALLOC_PAGES, -1, 0, -1, 0
    hypercall HC_FREE_PAGES, -1, 0
    hypercall 12345
    info    INFO_CLOCK
    mov     [rip + buffer], rax
    exit    0
    .bss
    .balign 8
buffer: .skip 4096
    """,
    "too many": mailbox(9000),
}


@pytest.fixture(params=["python", "compiled"])
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    undo = install_engine(load_engine(request.param))
    yield request.param
    undo()


def everything(guest: Guest, stop: Stop) -> dict[str, Any]:
    """All that a run leaves behind."""
    machine = guest.machine
    return {
        "stop": stop,
        "ram": hashlib.sha256(machine.memory.bytes[: machine.memory.size]).hexdigest(),
        "console": bytes(machine.console.output),
        "board": machine.save_board(),
        "cpus": [cpu.save() for cpu in machine.cpus],
        "rings": machine.doorbell.rings,
    }


def both(make: Callable[[], Guest]) -> tuple[dict[str, Any], dict[str, Any], Guest]:
    """What both engines leave behind of the guest that `make` boots, and the compiled one's."""
    results = []
    for kind in ("python", "compiled"):
        undo = install_engine(load_engine(kind))
        try:
            guest = make()
            results.append(everything(guest, guest.machine.run(200_000_000)))
        finally:
            undo()
    return results[0], results[1], guest


@pytest.mark.parametrize(("script", "numa"), SCRIPTS)
def test_a_script_makes_the_same_run_on_both_engines(script: str, numa: str) -> None:
    python, compiled, _ = both(lambda: boot_image(Machine(Topology.parse(numa)), script))
    assert compiled == python
    assert (python["stop"].kind, python["stop"].code) == ("exit", 0)
    assert python["rings"] > 0


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_makes_the_same_run_on_both_engines(program: str) -> None:
    python, compiled, guest = both(lambda: boot_program(PROGRAMS[program]))
    assert compiled == python
    assert (python["stop"].kind, python["stop"].code) == ("exit", 0)
    assert guest.hypercalls.calls < python["rings"]


def test_budgets_cut_a_run_at_the_same_instructions_on_both_engines() -> None:
    seen = []
    for kind in ("python", "compiled"):
        undo = install_engine(load_engine(kind))
        guest = boot_program(mailbox(30))
        stops: list[tuple[Any, ...]] = []
        while not stops or stops[-1][0] == "budget":
            stop = guest.machine.run(37)
            clock = guest.machine.memory.words[G_CLOCK]
            stops.append((stop.kind, stop.instructions, stop.rip, clock, guest.machine.clock.now))
        seen.append(stops)
        undo()
    assert seen[0] == seen[1]
    assert len(seen[0]) > 10


def test_requests_that_need_only_ram_do_not_reach_python(name: str) -> None:
    guest = boot_program(mailbox(50))
    stop = guest.machine.run()
    assert (stop.kind, stop.code) == ("exit", 0)
    assert guest.machine.doorbell.rings == 101
    assert guest.hypercalls.calls == (101 if name == "python" else 1)


def test_after_very_many_requests_python_is_asked_for_one() -> None:
    undo = install_engine(load_engine("compiled"))
    guest = boot_program(mailbox(10_000))
    stop = guest.machine.run()
    undo()
    assert (stop.kind, stop.code, guest.machine.doorbell.rings) == ("exit", 0, 20_001)
    assert guest.hypercalls.calls == 2


def test_time_that_the_kernel_waits_passes_for_the_machine_before_the_next_request() -> None:
    guest = boot_program(mailbox(3))
    machine, m = guest.machine, guest.machine.memory.words
    began: list[int] = []

    def serve(_words: int, _ram: int, _cpu: int, now: int) -> int:
        began.append(now)
        m[G_CLOCK] = now + 1_000_000
        m[MAILBOXES + BOX_RESULT] = m[MAILBOXES + BOX_ERRNO] = 0
        return SERVED_LATER

    callback = CFUNCTYPE(c_int64, c_void_p, c_void_p, c_int64, c_int64)(serve)
    machine.cpus[0].native_doorbell = cast(callback, c_void_p).value or 0
    before = machine.clock.now
    stop = machine.run(80)
    assert len(began) > 2
    assert all(1_000_000 < b - a < 1_000_100 for a, b in pairwise(began))
    assert machine.clock.now - before == len(began) * 1_000_000 + stop.instructions


def test_a_request_that_never_ends_can_be_ended_from_outside_and_stops_the_machine() -> None:
    undo = install_engine(load_engine("compiled"))
    guest = boot_program("""
        hypercall HC_ALLOC_PAGES, GFP_KERNEL, 0, -1, 0
        hypercall HC_FREE_PAGES, rax, 0
        mov     ecx, 1000
    1:  dec     ecx
        jnz     1b
        hypercall HC_DRAIN_ALL_PAGES
        exit    0
    """)
    machine, m = guest.machine, guest.machine.memory.words
    machine.run(200)
    page = Page(m, m[MAILBOXES + BOX_ARGS])
    bend_into_a_ring(m, page)
    inside: list[bool] = []

    def alarm(_number: int, _frame: object) -> None:
        inside.append(guest.hypercalls.inside)
        if len(inside) == 2:
            raise RunawayCallError("no end in sight")

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
    try:
        stop = machine.run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        undo()
    assert inside == [True, True]
    assert (stop.kind, stop.code) == ("fault", 76)
    assert "cpu 0 in hypercall DRAIN_ALL_PAGES" in stop.message
    assert "no end in sight" in stop.message


def bend_into_a_ring(m: memoryview, page: Page) -> None:
    """The page, on a per-cpu list, comes before and after itself, very many times."""
    va = page_va(page.pfn) + 8
    ps = word_of_va(m[page_zone(m, page.word) + Z_PAGESET])
    m[page.word + P_NEXT] = m[page.word + P_NEXT + 1] = va
    m[ps + PSET_LISTS] = m[ps + PSET_LISTS + 1] = va
    m[ps + PSET_COUNT] = 1 << 62


def test_an_index_out_of_range_in_compiled_code_stops_the_machine() -> None:
    stops = []
    for kind in ("python", "compiled"):
        undo = install_engine(load_engine(kind))
        guest = boot_program("hypercall HC_ALLOC_PAGES, GFP_KERNEL, 3, -1, 0")
        guest.machine.memory.words[NODE_DATA] = 0x7FFF_FFFF_FFFF_FFF0
        stops.append(guest.machine.run())
        undo()
    assert [(stop.kind, stop.code, stop.rip) for stop in stops] == [("fault", 76, stops[0].rip)] * 2
    assert all("cpu 0 in hypercall ALLOC_PAGES" in stop.message for stop in stops)


def test_a_machine_without_compiled_code_is_not_attached() -> None:
    machine = Machine(Topology.parse("1x64M"))
    assert not attach_native(machine, load_engine("python"))
    assert machine.cpus[0].native_doorbell == 0
    assert attach_native(machine, load_engine("compiled"))
    assert machine.cpus[0].native_doorbell != 0
    assert not attach_native(machine, load_engine("python"))
    assert machine.cpus[0].native_doorbell == 0
