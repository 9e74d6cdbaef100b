# SPDX-License-Identifier: GPL-2.0-only
"""Guests whose CPUs run in host threads: whatever comes of it, no frame is lost or given twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from allocator.boot_image import Guest, boot_image
from allocator.check import check_frames
from allocator.engine import compiled_available, install_engine, load_engine
from allocator.gfp import parse_gfp
from allocator.kernel_globals import G_STATIC_KEYS
from allocator.layout import NODE_DATA
from allocator.mmzone import NR_FREE_PAGES
from allocator.page_alloc import alloc_pages_nodemask
from allocator.page_alloc import free_pages as free_pages_of
from allocator.pcp import drain_all_pages
from allocator.scripts import find_script
from allocator.views import Page, for_each_zone
from allocator.vmstat import zone_page_state_snapshot
from firmware import load_script
from machine import Machine, Stop, Topology
from tests.allocator.test_native import bend_into_a_ring

from .cpu_guests import EXPECTED
from .test_cpu_guests import begin
from .test_start_up import SCRIPT

SECONDS = 60.0
BATCH = 8
HAMMER = """
    .include "numalab.inc"
    .set ROUNDS, {rounds}
    .globl _start
_start:
    numalab_init
    info    INFO_NR_CPUS
    mov     r12, rax
    mov     ebx, 1
1:  cmp     rbx, r12
    je      2f
    lea     rsi, [rip + other]
    hypercall HC_START_CPU, rbx, rsi, 0, rbx
    inc     rbx
    jmp     1b
2:  mov     dword ptr [rip + gate], 1
    xor     edi, edi
    call    work
3:  pause
    mov     eax, [rip + finished]
    cmp     rax, r12
    jne     3b
    mov     rcx, [rip + wrong]
    exit    rcx
other:
    numalab_init
4:  pause
    cmp     dword ptr [rip + gate], 0
    je      4b
    call    work
    halt

# CPU RDI: by the mailbox a page and a block of 8, by the ring {batch} pages; each gets the CPU's
# name, which must still be there when they go back.
work:
    push    r12
    mov     rbp, rdi
    inc     rbp
    mov     r14d, ROUNDS
1:  hypercall HC_ALLOC_PAGES, GFP_KERNEL, 0, -1, 0
    jnz     9f
    mov     rbx, rax
    pfn_to_virt rsi, rbx
    mov     [rsi], rbp
    hypercall HC_ALLOC_PAGES, GFP_KERNEL, 3, -1, 0
    jnz     9f
    mov     r13, rax
    pfn_to_virt rsi, r13
    mov     [rsi + 0x7000], rbp

    xor     ecx, ecx
2:  mov     rax, [r15 + RING_SQ_TAIL]
    and     eax, RING_ENTRIES - 1
    shl     eax, 6
    lea     rdi, [r15 + rax + RING_SQ]
    mov     qword ptr [rdi + SQE_NUMBER], HC_ALLOC_PAGES
    mov     qword ptr [rdi + SQE_ARG1], GFP_KERNEL
    mov     qword ptr [rdi + SQE_ARG2], 0
    mov     qword ptr [rdi + SQE_ARG3], -1
    mov     qword ptr [rdi + SQE_ARG4], 0
    inc     qword ptr [r15 + RING_SQ_TAIL]
    inc     ecx
    cmp     ecx, {batch}
    jne     2b
    hypercall HC_RING
    cmp     rax, {batch}
    jne     9f
    xor     ecx, ecx
3:  mov     rax, [r15 + RING_CQ_HEAD]
    and     eax, RING_ENTRIES - 1
    shl     eax, 5
    lea     rdi, [r15 + rax + RING_CQ]
    cmp     qword ptr [rdi + CQE_ERRNO], 0
    jne     9f
    mov     rdx, [rdi + CQE_RESULT]
    pfn_to_virt rsi, rdx
    mov     [rsi + 8], rbp
    mov     rax, [r15 + RING_SQ_TAIL]
    and     eax, RING_ENTRIES - 1
    shl     eax, 6
    lea     rdi, [r15 + rax + RING_SQ]
    mov     qword ptr [rdi + SQE_NUMBER], HC_FREE_PAGES
    mov     [rdi + SQE_ARG1], rdx
    mov     qword ptr [rdi + SQE_ARG2], 0
    inc     qword ptr [r15 + RING_SQ_TAIL]
    inc     qword ptr [r15 + RING_CQ_HEAD]
    cmp     [rsi + 8], rbp
    jne     9f
    inc     ecx
    cmp     ecx, {batch}
    jne     3b
    hypercall HC_RING
    cmp     rax, {batch}
    jne     9f
    add     qword ptr [r15 + RING_CQ_HEAD], {batch}

    pfn_to_virt rsi, rbx
    cmp     [rsi], rbp
    jne     9f
    hypercall HC_FREE_PAGES, rbx, 0
    jnz     9f
    pfn_to_virt rsi, r13
    cmp     [rsi + 0x7000], rbp
    jne     9f
    hypercall HC_FREE_PAGES, r13, 3
    jnz     9f
    lock inc qword ptr [rip + total]
    dec     r14
    jnz     1b
    jmp     8f
9:  mov     qword ptr [rip + wrong], 1
8:  lock inc dword ptr [rip + finished]
    pop     r12
    ret

    .data
    .balign 8
    .globl  total
total:    .quad 0
wrong:    .quad 0
gate:     .long 0
finished: .long 0
"""


@pytest.fixture(params=["python", "compiled"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    name: str = request.param
    if name == "compiled" and not compiled_available():
        pytest.skip("numba is not installed")
    undo = install_engine(load_engine(name))
    yield name
    undo()


def run(guest: Guest) -> Stop:
    return guest.machine.run(timeout=SECONDS, threads=True)


def free_pages(guest: Guest) -> int:
    """Free pages of all zones, those in the CPUs' deltas and lists included."""
    m = guest.booted.m
    drain_all_pages(m, -1)
    return sum(zone_page_state_snapshot(m, z.word, NR_FREE_PAGES) for z in for_each_zone(m))


def hammer(numa: str, rounds: int) -> Guest:
    script = load_script(HAMMER.format(rounds=rounds, batch=BATCH))
    return boot_image(Machine(Topology.parse(numa)), script)


def sound(guest: Guest) -> None:
    report = check_frames(guest.machine.memory)
    assert report.sound, report


def test_smp_ends_as_in_any_other_run(engine: str) -> None:
    guest = boot_image(Machine(Topology.parse("2x128M,cpus=2")), find_script("smp.S"))
    stop = run(guest)
    assert (stop.kind, stop.code) == ("exit", 0), stop
    lines = guest.machine.console.text.splitlines()
    assert lines == [
        f"cpu {cpu} node {cpu // 2}: 16 frames, all from its own node" for cpu in range(4)
    ]
    sound(guest)


@pytest.mark.parametrize("keys", [0, 1])
def test_cpus_that_hammer_the_mailbox_and_the_ring_leave_everything_in_order(
    engine: str, keys: int
) -> None:
    """`keys`: with it all requests take the way on which a CPU is alone."""
    rounds = 300 if engine == "compiled" else 20
    for _ in range(50 if engine == "compiled" and not keys else 3):
        guest = hammer("2x64M,cpus=2", rounds)
        before = free_pages(guest)
        m = guest.booted.m
        m[G_STATIC_KEYS] |= keys << 40  # a key that nobody looks at
        stop = run(guest)
        assert (stop.kind, stop.code) == ("exit", 0), stop
        total = guest.image.symbols["total"] if guest.image else 0
        assert m[total >> 3] == 4 * rounds
        m[G_STATIC_KEYS] &= ~(keys << 40)
        assert free_pages(guest) == before
        sound(guest)


def test_requests_of_compiled_engines_do_not_come_to_python(engine: str) -> None:
    guest = hammer("2x64M,cpus=2", 100)
    run(guest)
    rings = guest.machine.doorbell.rings
    assert rings > 4 * 100 * 6
    if engine == "compiled":
        assert guest.hypercalls.calls < 20
    else:
        assert guest.hypercalls.calls == rings


FREE_TWICE = """
    .include "numalab.inc"
    .set PAGES, 500
    .globl _start
_start:
    numalab_init
    lea     rsi, [rip + other]
    hypercall HC_START_CPU, 1, rsi, 0, 0
    mov     r12d, {rounds}
    xor     r11d, r11d
1:  lea     rbx, [rip + frames]
    hypercall HC_ALLOC_BULK, GFP_KERNEL, {order}, 0, PAGES, rbx
    jnz     9f
    lock inc dword ptr [rip + gate]
    call    free
2:  pause
    cmp     dword ptr [rip + done], 2
    jne     2b
    mov     dword ptr [rip + done], 0
    dec     r12d
    jnz     1b
    exit    0
9:  exit    1
other:
    numalab_init
    xor     r12d, r12d
    xor     r11d, r11d
3:  pause
    cmp     [rip + gate], r12d
    je      3b
    inc     r12d
    call    free
    jmp     3b
free:
    xor     r13d, r13d
    lea     rbx, [rip + frames]
4:  mov     r14, [rbx + r13*8]
    lock inc qword ptr [rip + arrived]      # both at the same time, as nearly as can be
    add     r11, 2
6:  cmp     [rip + arrived], r11
    jb      6b
    hypercall HC_FREE_PAGES, r14, {order}
    jnz     5f
    lock inc qword ptr [rip + total]
5:  inc     r13d
    cmp     r13d, PAGES
    jb      4b
    lock inc dword ptr [rip + done]
    ret
    .data
    .balign 8
    .globl  total
total:  .quad 0
arrived: .quad 0
gate:   .long 0
done:   .long 0
    .bss
    .balign 8
frames: .skip PAGES * 8
"""


@pytest.mark.parametrize("order", [0, 1])
def test_of_two_cpus_that_drop_the_last_reference_at_once_one_frees(
    engine: str, order: int
) -> None:
    rounds = 8 if engine == "compiled" else 1
    script = load_script(FREE_TWICE.format(rounds=rounds, order=order))
    guest = boot_image(Machine(Topology.parse("1x128M,cpus=2")), script)
    before = free_pages(guest)
    stop = run(guest)
    assert (stop.kind, stop.code) == ("exit", 0), stop
    total = guest.image.symbols["total"] if guest.image else 0
    assert guest.booted.m[total >> 3] == rounds * 500
    assert free_pages(guest) == before
    sound(guest)


ASK_AND_SPIN = """
    .include "numalab.inc"
    .globl _start
_start:
    numalab_init
    lea     rsi, [rip + spin]
    hypercall HC_START_CPU, 1, rsi, 0, 0
    hypercall {request}
    exit    0
spin: jmp   spin
"""


def ask_and_spin(request: str) -> Guest:
    """One CPU makes a request, another one spins for ever."""
    script = load_script(ASK_AND_SPIN.format(request=request))
    return boot_image(Machine(Topology.parse("2x64M")), script)


def test_damage_to_the_structures_ends_the_run_as_a_fault(engine: str) -> None:
    guest = ask_and_spin("HC_ALLOC_PAGES, GFP_KERNEL, 3, 0")
    guest.booted.m[NODE_DATA] = 0x7FFF_FFFF_FFFF_FFF0
    stop = run(guest)
    assert (stop.kind, stop.cpu) == ("fault", 0)
    assert "cpu 0 in hypercall ALLOC_PAGES: the allocator's structures are damaged" in stop.message


def test_a_request_that_never_ends_is_ended_as_a_fault(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machine.threads.STUCK_SECONDS", 0.3)
    guest = ask_and_spin("HC_DRAIN_ALL_PAGES")
    m = guest.booted.m
    pfn = alloc_pages_nodemask(m, 0, parse_gfp("GFP_KERNEL"), 0, 0, 0)
    assert free_pages_of(m, 0, pfn, 0) == 0
    bend_into_a_ring(m, Page(m, pfn))
    stop = run(guest)
    assert (stop.kind, stop.cpu) == ("fault", 0)
    assert "DRAIN_ALL_PAGES" in stop.message
    assert not guest.machine.in_threads


@pytest.mark.parametrize("name", ["demand_paging.S", "cow_fork.S", "exhaust.S"])
def test_other_scripts_end_as_in_turns(engine: str, name: str) -> None:
    told = []
    for threads in (False, True):
        guest = boot_image(Machine(Topology.parse("2x64M")), find_script(name))
        stop = guest.machine.run(timeout=SECONDS, threads=threads)
        assert (stop.kind, stop.code) == ("exit", 0), stop
        told.append((stop.instructions, guest.machine.console.text))
        sound(guest)
    assert told[0] == told[1]


def test_cpus_come_up_by_init_and_start_up_messages(engine: str) -> None:
    guest = boot_image(Machine(Topology.parse("4x64M,cpus=2")), load_script(SCRIPT))
    stop = run(guest)
    assert (stop.kind, stop.code) == ("exit", 0), stop
    expected = "".join(f"cpu {cpu} node {cpu // 2}\n" for cpu in range(8))
    assert guest.machine.console.text == expected
    sound(guest)


def test_a_pc_guest_sends_interrupts_between_cpus_and_wakes_halted_ones() -> None:
    for _ in range(5):
        machine = begin("SMP")
        stop = machine.run(timeout=SECONDS, threads=True)
        assert (stop.kind, bytes(machine.serial.output)) == ("halt", EXPECTED["SMP"])
