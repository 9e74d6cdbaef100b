# SPDX-License-Identifier: GPL-2.0-only
"""The doorbell handler: what it gives, and that nothing a guest writes gets past its checks."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allocator.gfp import GFP_KERNEL, GFP_THISNODE_BIT, GFP_ZERO_BIT
from allocator.guest_calls import ram_address
from allocator.hypercall import (
    BULK_MAX,
    EBUSY,
    EFAULT,
    EINVAL,
    ENOMEM,
    ENOSYS,
    ERRNO,
    HYPERCALLS,
    INFO,
    PRINT_MAX,
    Hypercalls,
    RunawayCallError,
)
from allocator.init_main import Booted, start_kernel
from allocator.kernel_globals import G_CLOCK
from allocator.layout import (
    MAILBOX_WORDS,
    MAILBOXES,
    NODE_DATA,
    PAGE_OFFSET,
    mailbox_phys,
    page_va,
    signed,
    unsigned,
    word_of_va,
)
from allocator.mm_types import COUNTS_ONE, P_NEXT
from allocator.mmzone import (
    FA_WORDS,
    MAX_ORDER,
    PSET_COUNT,
    PSET_LISTS,
    Z_FREE_AREA,
    Z_PAGESET,
    ZONE_WORDS,
)
from allocator.pcp import page_zone
from allocator.views import Page, for_each_zone
from firmware import power_on
from machine import DOORBELL_PORT, Machine, Topology, Verdict
from machine.walk import ram_table

SCRATCH = 0x200000
"""Physical address of memory that the tests use as a guest's own."""
HOLE = 0xC000_0000


class Caller:
    """A guest's hands: fills in the mailbox of a CPU and rings."""

    def __init__(self, booted: Booted) -> None:
        self.booted = booted
        self.machine = booted.machine
        self.m = booted.m
        self.hypercalls = Hypercalls(booted.machine)
        self.hypercalls.install(booted.stacks)
        self.verdict: Verdict | None = None

    def __call__(self, name: str | int, *args: int, cpu: int = 0) -> tuple[int, int]:
        """Result and errno of a call."""
        box = MAILBOXES + cpu * MAILBOX_WORDS
        self.m[box] = HYPERCALLS[name] if isinstance(name, str) else name
        for index in range(6):
            self.m[box + 1 + index] = signed(args[index]) if index < len(args) else 0
        handler = self.machine.doorbell.handler
        assert handler is not None
        self.verdict = handler(cpu, 0)
        return self.m[box + 7], self.m[box + 8]


def boot(*specs: str) -> Caller:
    machine = Machine(Topology.parse(*specs))
    power_on(machine)
    return Caller(start_kernel(machine))


@pytest.fixture
def call() -> Caller:
    return boot("2x64M")


@pytest.fixture(scope="module")
def sturdy() -> Caller:
    """One that only gets requests that must change nothing."""
    return boot("2x64M")


def free_blocks(m: memoryview) -> list[list[int]]:
    return [zone.nr_free() for zone in for_each_zone(m)]


def ram(call: Caller) -> bytes:
    """All RAM but the mailboxes, for comparing."""
    memory = call.machine.memory
    start = mailbox_phys(0)
    return memory.read(0, start) + memory.read(start + 0x10000, memory.size - start - 0x10000)


# --- pages ----------------------------------------------------------------------------------------
def test_a_page_comes_from_the_node_asked_for_and_can_be_given_back(call: Caller) -> None:
    for nid in (0, 1):
        pfn, errno = call("ALLOC_PAGES", GFP_KERNEL, 0, nid)
        assert errno == 0
        assert Page(call.m, pfn).nid == nid
        assert Page(call.m, pfn).refcount == 1
        assert call("FREE_PAGES", pfn, 0) == (0, 0)
        assert Page(call.m, pfn).refcount == 0


def test_node_minus_one_is_the_node_of_the_cpu_that_asks(call: Caller) -> None:
    for cpu in (0, 1):
        pfn, errno = call("ALLOC_PAGES", GFP_KERNEL, 2, -1, cpu=cpu)
        assert errno == 0
        assert Page(call.m, pfn).nid == cpu


def test_a_nodemask_keeps_the_request_on_its_nodes(call: Caller) -> None:
    pfn, errno = call("ALLOC_PAGES", GFP_KERNEL, 0, 0, 0b10)
    assert errno == 0
    assert Page(call.m, pfn).nid == 1


def test_a_request_that_no_zone_can_serve_is_enomem(call: Caller) -> None:
    while call("ALLOC_PAGES", GFP_KERNEL | GFP_THISNODE_BIT, MAX_ORDER - 1, 1)[1] == 0:
        pass
    assert call("ALLOC_PAGES", GFP_KERNEL | GFP_THISNODE_BIT, MAX_ORDER - 1, 1) == (-1, ENOMEM)


def test_bulk_calls_hand_over_distinct_frames_and_take_them_back(call: Caller) -> None:
    call("DRAIN_ALL_PAGES")
    before = free_blocks(call.m)
    assert call("ALLOC_BULK", GFP_KERNEL, 1, 0, 100, SCRATCH) == (100, 0)
    frames = [call.m[(SCRATCH >> 3) + n] for n in range(100)]
    assert len(set(frames)) == 100
    assert all(Page(call.m, pfn).refcount == 1 for pfn in frames)
    assert call("FREE_BULK", 1, 100, unsigned(PAGE_OFFSET + SCRATCH)) == (100, 0)
    call("DRAIN_ALL_PAGES")
    assert free_blocks(call.m) == before


def test_a_bulk_call_that_runs_dry_says_how_many_it_got(call: Caller) -> None:
    free = call("INFO", INFO["FREE_PAGES"], 1)[0]
    got, errno = call("ALLOC_BULK", GFP_KERNEL | GFP_THISNODE_BIT, 10, 1, BULK_MAX, SCRATCH)
    assert errno == ENOMEM
    assert 0 < got <= free >> 10


def test_a_bulk_free_stops_at_the_first_bad_frame(call: Caller) -> None:
    assert call("ALLOC_BULK", GFP_KERNEL, 0, 0, 3, SCRATCH) == (3, 0)
    call.m[(SCRATCH >> 3) + 1] = 1 << 40
    assert call("FREE_BULK", 0, 3, SCRATCH) == (1, EINVAL)


def test_draining_brings_every_page_from_the_cpu_lists_to_the_free_lists(call: Caller) -> None:
    pfn, _ = call("ALLOC_PAGES", GFP_KERNEL, 0, 0)
    call("FREE_PAGES", pfn, 0)
    zone = next(zone for zone in for_each_zone(call.m) if zone.nid == 0 and zone.name == "DMA32")
    held = zone.pcp_count(0)
    assert held > 0
    on_lists = sum(count << order for order, count in enumerate(zone.nr_free()))
    assert call("DRAIN_ALL_PAGES") == (0, 0)
    assert zone.pcp_count(0) == 0
    assert sum(count << order for order, count in enumerate(zone.nr_free())) == on_lists + held


def test_a_reference_that_is_left_keeps_the_page(call: Caller) -> None:
    pfn, _ = call("ALLOC_PAGES", GFP_KERNEL, 0, 0)
    call.m[Page(call.m, pfn).word + 6] = COUNTS_ONE + (1 << 32)
    assert call("FREE_PAGES", pfn, 0) == (1, 0)
    assert Page(call.m, pfn).refcount == 1


# --- nonsense -------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [0, 12, -1, 1 << 31, -(1 << 63), (1 << 63) - 1])
def test_an_unknown_number_is_enosys(sturdy: Caller, number: int) -> None:
    assert sturdy(number) == (0, ENOSYS)


@pytest.mark.parametrize(
    ("gfp", "order", "nid"),
    [
        (GFP_KERNEL, 11, 0),
        (GFP_KERNEL, -1, 0),
        (GFP_KERNEL, 1 << 62, 0),
        (GFP_KERNEL, 0, 2),
        (GFP_KERNEL, 0, -2),
        (GFP_KERNEL, 0, 64),
        (GFP_KERNEL, 0, 1 << 62),
        (-1, 0, 0),
        (1 << 23, 0, 0),
        (GFP_KERNEL | 0x1 | 0x2, 0, 0),
        (GFP_KERNEL | 0x8 | 0x10, 0, 0),
    ],
)
def test_a_request_that_makes_no_sense_is_einval(
    sturdy: Caller, gfp: int, order: int, nid: int
) -> None:
    before = ram(sturdy)
    assert sturdy("ALLOC_PAGES", gfp, order, nid) == (-1, EINVAL)
    assert sturdy("ALLOC_BULK", gfp, order, nid, 1, SCRATCH) == (0, EINVAL)
    assert ram(sturdy) == before


@pytest.mark.parametrize(
    ("pfn", "order"), [(-1, 0), (1 << 40, 0), (1 << 62, 0), (0x8000, 0), (0x3000, 11), (0x3000, -1)]
)
def test_freeing_what_is_no_frame_or_order_is_einval(sturdy: Caller, pfn: int, order: int) -> None:
    assert sturdy("FREE_PAGES", pfn, order) == (0, EINVAL)


def test_a_double_free_is_einval_and_leaves_the_lists_alone(call: Caller) -> None:
    pfn, _ = call("ALLOC_PAGES", GFP_KERNEL, 3, 0)
    assert call("FREE_PAGES", pfn, 3) == (0, 0)
    before = free_blocks(call.m)
    assert call("FREE_PAGES", pfn, 3) == (0, EINVAL)
    assert free_blocks(call.m) == before


@pytest.mark.parametrize("count", [-1, BULK_MAX + 1, 1 << 40, -(1 << 63)])
def test_a_count_beyond_the_limit_is_einval(sturdy: Caller, count: int) -> None:
    assert sturdy("ALLOC_BULK", GFP_KERNEL, 0, 0, count, SCRATCH) == (0, EINVAL)
    assert sturdy("FREE_BULK", 0, count, SCRATCH) == (0, EINVAL)


@pytest.mark.parametrize(
    "address",
    [SCRATCH + 4, HOLE, (128 << 20) - 8, -8, 1 << 62, 0xFFFF_EA00_0000_0000, 0xFFFF_8890_0000_0000],
)
def test_a_buffer_that_is_not_whole_aligned_ram_is_efault(sturdy: Caller, address: int) -> None:
    assert sturdy("ALLOC_BULK", GFP_KERNEL, 0, 0, 2, address) == (0, EFAULT)
    assert sturdy("FREE_BULK", 0, 2, address) == (0, EFAULT)


def test_no_blocks_at_all_is_a_legal_request(sturdy: Caller) -> None:
    assert sturdy("ALLOC_BULK", GFP_KERNEL, 0, 0, 0, SCRATCH) == (0, 0)
    assert sturdy("FREE_BULK", 0, 0, SCRATCH) == (0, 0)


def test_a_guest_address_is_physical_or_direct_map(sturdy: Caller) -> None:
    ram = memoryview(ram_table(sturdy.machine.memory))
    assert ram_address(ram, SCRATCH, 8) == SCRATCH
    assert ram_address(ram, PAGE_OFFSET + SCRATCH, 8) == SCRATCH
    assert ram_address(ram, SCRATCH, 1 << 50) == -1


words = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-2, 70), st.integers(0, 1 << 28)
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    number=st.one_of(st.sampled_from(sorted(HYPERCALLS.values())), words),
    args=st.lists(words, min_size=6, max_size=6),
    cpu=st.sampled_from([0, 1]),
)
def test_no_mailbox_whatever_raises_or_makes_up_an_errno(
    sturdy: Caller, number: int, args: list[int], cpu: int
) -> None:
    if number == HYPERCALLS["START_CPU"]:
        args[0] |= 2  # a CPU that does not exist: the others must stay startable
    result, errno = sturdy(number, *args, cpu=cpu)
    assert errno in (0, *ERRNO.values())
    assert -(1 << 63) <= result < 1 << 63


# --- damaged structures ---------------------------------------------------------------------------
def wild_free_lists(call: Caller) -> None:
    zone = word_of_va(call.m[NODE_DATA]) + ZONE_WORDS
    for order in range(MAX_ORDER):
        for mt in range(6):
            call.m[zone + Z_FREE_AREA + order * FA_WORDS + 2 * mt] = 0x1234


def wild_node(call: Caller) -> None:
    call.m[NODE_DATA] = 0x7FFF_FFFF_FFFF_FFF0


@pytest.mark.parametrize("damage", [wild_free_lists, wild_node])
def test_an_allocator_that_falls_into_damage_stops_the_machine_with_a_fault(
    call: Caller, damage: Callable[[Caller], None]
) -> None:
    damage(call)
    call("ALLOC_PAGES", GFP_KERNEL, 3, 0)
    stop = call.machine.run(10)
    assert (stop.kind, stop.code) == ("fault", 76)
    assert "cpu 0 in hypercall ALLOC_PAGES" in stop.message
    assert "\n" not in stop.message


def test_a_call_that_never_ends_can_be_ended_from_outside(call: Caller) -> None:
    pfn, _ = call("ALLOC_PAGES", GFP_KERNEL, 0, 0)
    assert call("FREE_PAGES", pfn, 0) == (0, 0)
    bend_into_a_ring(call, pfn)
    seen: list[tuple[bool, tuple[int, int]]] = []

    def alarm(_number: int, _frame: object) -> None:
        seen.append((call.hypercalls.inside, call.hypercalls.progress))
        if len(seen) == 2:
            raise RunawayCallError("no end after 30 s")

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
    try:
        call("DRAIN_ALL_PAGES")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert [inside for inside, _ in seen] == [True, True]
    assert seen[0][1] == seen[1][1]
    assert not call.hypercalls.inside
    stop = call.machine.run(10)
    assert stop.kind == "fault"
    assert "DRAIN_ALL_PAGES" in stop.message
    assert "no end after 30 s" in stop.message


def bend_into_a_ring(call: Caller, pfn: int) -> None:
    """Frame `pfn`, on a per-cpu list, comes before and after itself, very many times."""
    page = Page(call.m, pfn)
    va = page_va(pfn) + 8
    ps = word_of_va(call.m[page_zone(call.m, page.word) + Z_PAGESET])
    call.m[page.word + P_NEXT] = call.m[page.word + P_NEXT + 1] = va
    call.m[ps + PSET_LISTS] = call.m[ps + PSET_LISTS + 1] = va
    call.m[ps + PSET_COUNT] = 1 << 62


# --- the other calls ------------------------------------------------------------------------------
def test_print_puts_the_bytes_on_the_console(call: Caller) -> None:
    call.machine.memory.write(SCRATCH, b"two \xff words\n")
    assert call("PRINT", SCRATCH, 12) == (12, 0)
    assert call("PRINT", unsigned(PAGE_OFFSET + SCRATCH), 3) == (3, 0)
    assert bytes(call.machine.console.output) == b"two \xff words\ntwo"


@pytest.mark.parametrize(
    ("address", "length", "errno"),
    [
        (SCRATCH, -1, EINVAL),
        (SCRATCH, PRINT_MAX + 1, EINVAL),
        (HOLE, 1, EFAULT),
        ((128 << 20) - 1, 2, EFAULT),
        (-1, 1, EFAULT),
    ],
)
def test_print_refuses_what_is_too_long_or_not_ram(
    sturdy: Caller, address: int, length: int, errno: int
) -> None:
    before = bytes(sturdy.machine.console.output)
    assert sturdy("PRINT", address, length) == (0, errno)
    assert bytes(sturdy.machine.console.output) == before


@pytest.mark.parametrize(
    ("asked", "code"), [(0, 0), (7, 7), (255, 255), (256, 255), (-1, 255), (1 << 40, 255)]
)
def test_exit_codes_that_do_not_fit_do_not_become_success(
    call: Caller, asked: int, code: int
) -> None:
    call("EXIT", asked)
    stop = call.machine.run(10)
    assert (stop.kind, stop.code) == ("exit", code)


def test_yield_ends_the_quantum_and_nothing_else_does(call: Caller) -> None:
    call("YIELD")
    assert call.verdict is Verdict.YIELD
    call("INFO", INFO["NR_CPUS"])
    assert call.verdict is Verdict.CONTINUE


def test_info_tells_what_the_machine_is() -> None:
    call = boot("node,mem=64M,cpus=0", "node,cpus=1", "node,mem=64M")
    assert call("INFO", INFO["NR_CPUS"]) == (2, 0)
    assert call("INFO", INFO["NR_NODES"]) == (3, 0)
    assert call("INFO", INFO["NODE_MASK"]) == (0b111, 0)
    assert [call("INFO", INFO["THIS_NODE"], cpu=cpu)[0] for cpu in (0, 1)] == [0, 1]
    assert call("INFO", INFO["PGLIST_DATA"], 1) == (call.m[NODE_DATA + 1], 0)
    assert call("INFO", INFO["FREE_PAGES"], 1) == (0, 0)
    assert call("INFO", INFO["FREE_PAGES"], 3) == (0, EINVAL)
    assert call("INFO", INFO["PGLIST_DATA"], -1) == (0, EINVAL)
    assert call("INFO", 7) == (0, EINVAL)


def test_free_pages_of_a_node_are_those_on_its_lists(call: Caller) -> None:
    for _ in range(3):
        call("ALLOC_PAGES", GFP_KERNEL, 0, 0)
    listed = sum(
        count << order
        for zone in for_each_zone(call.m)
        if zone.nid == 0
        for order, count in enumerate(zone.nr_free())
    )
    assert call("INFO", INFO["FREE_PAGES"], 0) == (listed, 0)


def test_the_clock_goes_on_where_bring_up_left_it(call: Caller) -> None:
    booted_at = call.m[G_CLOCK]
    assert booted_at > 0
    assert call("INFO", INFO["CLOCK"]) == (booted_at, 0)
    call.machine.clock.advance(5)
    assert call("INFO", INFO["CLOCK"]) == (booted_at + 5, 0)


def test_a_cpu_is_started_once_with_the_kernels_tables_and_its_own_stack(call: Caller) -> None:
    assert call("START_CPU", 1, 0x100000, 0, 0xABC) == (0, 0)
    cpu = call.machine.cpus[1]
    assert cpu.state == "running"
    assert cpu.rip == 0x100000
    assert cpu.regs["rsp"] == call.booted.stacks[1]
    assert cpu.regs["rdi"] == 0xABC
    assert cpu.regs["cr3"] == call.booted.pgd
    assert call("START_CPU", 1, 0x100000, 0, 0) == (0, EBUSY)


@pytest.mark.parametrize(
    ("cpu", "rip", "errno"),
    [(2, 0, EINVAL), (-1, 0, EINVAL), (1 << 40, 0, EINVAL), (0, 0, EBUSY), (1, 1 << 60, EINVAL)],
)
def test_a_cpu_that_cannot_be_started_is_refused(
    sturdy: Caller, cpu: int, rip: int, errno: int
) -> None:
    assert sturdy("START_CPU", cpu, rip, 0, 0) == (0, errno)
    assert sturdy.machine.cpus[1].state == "stopped"


def test_a_cpu_the_kernel_left_offline_can_neither_start_nor_ask() -> None:
    machine = Machine(Topology.parse("1x64M,cpus=2"))
    power_on(machine, "maxcpus=1")
    call = Caller(start_kernel(machine))
    assert call("START_CPU", 1, 0x100000, 0, 0) == (0, EINVAL)
    assert call("ALLOC_PAGES", GFP_KERNEL, 0, 0, cpu=1) == (-1, EINVAL)


def test_zeroed_pages_are_zero(call: Caller) -> None:
    pfn, _ = call("ALLOC_PAGES", GFP_KERNEL, 0, 0)
    call.machine.memory.write(pfn << 12, b"\xaa" * 4096)
    call("FREE_PAGES", pfn, 0)
    again, _ = call("ALLOC_PAGES", GFP_KERNEL | GFP_ZERO_BIT, 0, 0)
    assert again == pfn
    assert call.machine.memory.read(pfn << 12, 4096) == bytes(4096)


def test_install_connects_doorbell_and_cpuid(call: Caller) -> None:
    assert call.machine.mailbox_address is not None
    assert call.machine.mailbox_address(1) == mailbox_phys(1)
    call.m[MAILBOXES] = 99
    call.machine.ports.write(0, DOORBELL_PORT, 2, 0)
    assert call.m[MAILBOXES + 8] == ENOSYS


def test_a_pageset_that_claims_endless_pages_cannot_hold_the_host(call: Caller) -> None:
    zone = word_of_va(call.m[NODE_DATA]) + ZONE_WORDS
    pageset = word_of_va(call.m[zone + Z_PAGESET])
    call.m[pageset + PSET_COUNT] = 1 << 60
    assert call("DRAIN_ALL_PAGES")[1] == 0
