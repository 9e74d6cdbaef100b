# SPDX-License-Identifier: GPL-2.0-only
"""The boot scripts of the package, each on each kind of machine."""

from __future__ import annotations

import re
from hashlib import blake2b
from pathlib import Path

import pytest

from allocator.boot_image import Guest, boot_image
from allocator.engine import load_engine
from allocator.guest_calls import SERVED
from allocator.hypercall import HYPERCALLS
from allocator.layout import MAILBOXES, unsigned
from allocator.native import attach_native
from allocator.pcp import drain_all_pages
from allocator.scripts import SCRIPTS
from allocator.views import Page, for_each_node, for_each_zone
from firmware import e820_map, load_script
from machine import Machine, Stop, Topology

from .machines import MACHINES, boot

BUDGET = 50_000_000
FILL_MEMORY = ("oom.S", "swap_storm.S")
"""Scripts that take all of memory: test_processes runs them, on machines with little of it."""
on_every_machine = pytest.mark.parametrize("name", MACHINES)


def run(guest: Guest) -> tuple[Stop, list[str]]:
    """How the guest ended and the lines it printed."""
    stop = guest.machine.run(BUDGET)
    text = guest.machine.console.text
    assert (stop.kind, stop.code) == ("exit", 0), f"{stop.message}\n{text}"
    return stop, text.splitlines()


def blocks(m: memoryview) -> list[tuple[int, int, int, frozenset[int]]]:
    """Every free list as a set, after what the CPUs hold has gone back."""
    drain_all_pages(m, -1)
    return [
        (
            zone.nid,
            zone.zid,
            order,
            frozenset(p for mt in range(6) for p in zone.free_list(order, mt)),
        )
        for zone in for_each_zone(m)
        for order in range(11)
    ]


@on_every_machine
def test_first_light_gets_a_frame_from_every_node_with_memory(name: str) -> None:
    guest = boot(name, "first_light.S")
    before = blocks(guest.booted.m)
    _, lines = run(guest)
    nodes = list(for_each_node(guest.booted.m))
    assert len(lines) == len(nodes)
    for node, line in zip(nodes, lines, strict=True):
        if not node.present_pages:
            assert line == f"node {node.nid}: has no memory"
            continue
        match = re.fullmatch(
            r"node (\d+): frame 0x([0-9a-f]{5,}) wrote (0x4c49474854[0-9a-f]{4}) read back ok", line
        )
        assert match, line
        assert int(match[1]) == node.nid
        pfn = int(match[2], 16)
        assert Page(guest.booted.m, pfn).nid == node.nid
        pattern = 0x4C_4947_4854_0000 | node.nid
        assert int(match[3], 16) == pattern
        assert guest.machine.memory.read(pfn << 12, 4096) == pattern.to_bytes(8, "little") * 512
    assert blocks(guest.booted.m) == before


@on_every_machine
def test_e820_prints_the_map_that_the_firmware_gave(name: str) -> None:
    guest = boot(name, "e820.S")
    _, lines = run(guest)
    entries = e820_map(Topology.parse(*MACHINES[name]))
    assert lines[:-1] == [str(entry) for entry in entries]
    usable = sum(entry.size for entry in entries if entry.type == 1)
    assert lines[-1] == f"{usable >> 10} KiB usable"


@on_every_machine
def test_walk_freelist_counts_what_the_zones_have(name: str) -> None:
    guest = boot(name, "walk_freelist.S")
    _, lines = run(guest)
    zones = list(for_each_zone(guest.booted.m))
    assert len(lines) == len(zones) + 1
    for zone, line in zip(zones, lines, strict=False):
        words = line.split()
        assert words[:4] == ["node", str(zone.nid), "zone", zone.name]
        assert [int(word) for word in words[4:]] == zone.nr_free()
    free = sum(count << order for zone in zones for order, count in enumerate(zone.nr_free()))
    assert lines[-1].startswith(f"{free} pages free")


@on_every_machine
def test_exhaust_takes_all_but_the_reserves_and_gives_it_back(name: str) -> None:
    guest = boot(name, "exhaust.S")
    m = guest.booted.m
    before = blocks(m)
    free = sum(zone.free_pages for zone in for_each_zone(m))
    _, lines = run(guest)
    taken = int(lines[0].split()[0])
    # What stays is what the watermarks and the reserves for lower zones protect.
    kept = sum(zone.watermarks[0] + max(zone.lowmem_reserve) for zone in for_each_zone(m))
    assert free - kept - 2048 <= taken < free
    assert lines[1] == "all given back, the free lists are as they were"
    assert blocks(m) == before


@on_every_machine
def test_smp_every_cpu_gets_frames_of_its_own_node(name: str) -> None:
    guest = boot(name, "smp.S")
    before = blocks(guest.booted.m)
    _, lines = run(guest)
    with_memory = {node.nid for node in for_each_node(guest.booted.m) if node.present_pages}
    assert len(lines) == len(guest.machine.cpus)
    for cpu, line in enumerate(lines):
        match = re.fullmatch(r"cpu (\d+) node (\d+): 16 frames, (.*)", line)
        assert match, line
        assert int(match[1]) == cpu
        own = int(match[2]) in with_memory
        said = "all from its own node" if own else "from other nodes: its own has no memory"
        assert match[3] == said
    assert all(cpu.retired > 0 for cpu in guest.machine.cpus)
    assert blocks(guest.booted.m) == before


@pytest.mark.parametrize("quantum", [1, 7, 100, 10_000_000])
def test_smp_prints_the_same_however_the_cpus_interleave(quantum: int) -> None:
    outputs = []
    for value in (quantum, 10_000):
        machine = Machine(Topology.parse("2x64M,cpus=2"), quantum=value)
        guest = boot_image(machine, "smp.S")
        run(guest)
        outputs.append(guest.machine.console.text)
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize(
    "script", sorted(path.name for path in SCRIPTS.glob("*.S") if path.name not in FILL_MEMORY)
)
def test_two_runs_leave_the_same_bytes_everywhere(script: str) -> None:
    seen = []
    for _ in range(2):
        guest = boot("2x128M", script)
        stop, _ = run(guest)
        digest = blake2b(guest.machine.memory.bytes).hexdigest()
        seen.append((digest, bytes(guest.machine.console.output), stop, guest.booted.log))
    assert seen[0] == seen[1]


# --- scripts that must notice damage --------------------------------------------------------------
def test_walk_freelist_notices_a_link_that_was_broken() -> None:
    guest = boot("1x64M", "walk_freelist.S")
    m = guest.booted.m
    zone = list(for_each_zone(m))[-1]
    page = Page(m, zone.free_list(10, 1)[1])
    m[page.word + 2] = m[page.word + 1]
    stop = guest.machine.run(BUDGET)
    assert (stop.kind, stop.code) == ("exit", 1)
    assert "does not point back" in guest.machine.console.text


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        (6, 0xFFFFFFFF, "does not head a free block"),
        (5, 3, "does not head a free block"),
        (0, 2 << 58, "belongs to another zone"),
    ],
)
def test_walk_freelist_notices_a_struct_page_that_was_written_over(
    field: int, value: int, complaint: str
) -> None:
    guest = boot("1x64M", "walk_freelist.S")
    m = guest.booted.m
    zone = list(for_each_zone(m))[-1]
    m[Page(m, zone.free_list(10, 1)[0]).word + field] = value
    stop = guest.machine.run(BUDGET)
    assert (stop.kind, stop.code) == ("exit", 1)
    assert complaint in guest.machine.console.text


def test_walk_freelist_notices_a_wrong_count() -> None:
    guest = boot("1x64M", "walk_freelist.S")
    zone = list(for_each_zone(guest.booted.m))[-1]
    guest.booted.m[zone.word + 18 + 10 * 13 + 12] += 1
    assert zone.nr_free()[10] == len(zone.free_list(10, 1)) + 1
    stop = guest.machine.run(BUDGET)
    assert (stop.kind, stop.code) == ("exit", 1)
    assert "nr_free says otherwise" in guest.machine.console.text


def test_exhaust_notices_a_frame_that_is_handed_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = boot("1x64M", "exhaust.S")
    attach_native(guest.machine, load_engine("python"))  # requests shall come this way
    honest, m = guest.hypercalls.serve, guest.booted.m

    def twice(cpu: int, now: int) -> int:
        said = honest(cpu, now)
        if m[MAILBOXES] == HYPERCALLS["ALLOC_BULK"] and m[MAILBOXES + 7] > 1:
            buffer = m[MAILBOXES + 5] >> 3
            m[buffer + 1] = m[buffer]
        return said

    monkeypatch.setattr(guest.hypercalls, "serve", twice)
    stop = guest.machine.run(BUDGET)
    assert (stop.kind, stop.code) == ("exit", 1)
    assert "handed out twice" in guest.machine.console.text


def test_exhaust_notices_a_page_that_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = boot("1x64M", "exhaust.S")
    attach_native(guest.machine, load_engine("python"))  # requests shall come this way
    honest, m = guest.hypercalls.serve, guest.booted.m
    calls = []

    def forgetful(cpu: int, now: int) -> int:
        if m[MAILBOXES] == HYPERCALLS["FREE_PAGES"]:
            calls.append(now)
            if len(calls) == 5:
                m[MAILBOXES + 7] = m[MAILBOXES + 8] = 0
                return SERVED
        return honest(cpu, now)

    monkeypatch.setattr(guest.hypercalls, "serve", forgetful)
    stop = guest.machine.run(BUDGET)
    assert (stop.kind, stop.code) == ("exit", 1)
    assert "not as it was" in guest.machine.console.text


# --- one memory, three ways to look at it ---------------------------------------------------------
SHOW_STRUCT_PAGES = """
    .include "numalab.inc"
    .globl _start
_start:
    numalab_init
    xor     r12d, r12d
1:  info    INFO_PGLIST_DATA, r12
    jnz     2f
    cmp     qword ptr [rax + PGLIST_DATA_node_present_pages], 0
    je      2f
    hypercall HC_ALLOC_PAGES, GFP_KERNEL | __GFP_THISNODE | __GFP_COMP, 1, r12, 0
    jnz     2f
    mov     rbx, rax
    mov     [rip + frame], rbx
    pfn_to_page rsi, rbx
    lea     rdi, [rip + copy]
    mov     ecx, 2 * SIZEOF_PAGE / 8
    rep movsq                           # through the vmemmap, as the kernel itself sees them
    lea     rsi, [rip + frame]
    mov     ecx, 8 + 2 * SIZEOF_PAGE
    hypercall HC_PRINT, rsi, rcx
2:  inc     r12
    cmp     r12, MAX_NUMNODES
    jb      1b
    exit    0

    .bss
    .balign 8
frame: .skip 8
copy:  .skip 2 * SIZEOF_PAGE
"""


@on_every_machine
def test_guest_python_and_raw_dump_see_the_same_struct_pages(name: str, tmp_path: Path) -> None:
    machine = Machine(Topology.parse(*MACHINES[name]))
    guest = boot_image(machine, load_script(SHOW_STRUCT_PAGES))
    assert guest.machine.run(BUDGET).kind == "exit"
    output = bytes(machine.console.output)
    m = guest.booted.m
    count = sum(1 for node in for_each_node(m) if node.present_pages)
    assert len(output) == count * (8 + 128)
    for at in range(0, len(output), 136):
        pfn = int.from_bytes(output[at : at + 8], "little")
        by_guest = output[at + 8 : at + 136]
        word = Page(m, pfn).word
        by_python = b"".join(unsigned(m[word + n]).to_bytes(8, "little") for n in range(16))
        with open("/proc/self/mem", "rb") as raw:  # no code of ours between us and the mapping
            raw.seek(machine.memory.host_address(word << 3))
            dumped = raw.read(128)
        assert by_guest == by_python == dumped
        assert Page(m, pfn).refcount == int.from_bytes(by_guest[52:56], "little") == 1
    if machine.memory.size <= 64 << 20:
        path = tmp_path / "ram.img"
        path.write_bytes(machine.memory.bytes)
        word = Page(m, int.from_bytes(output[:8], "little")).word
        assert path.read_bytes()[word << 3 : (word << 3) + 128] == output[8:136]


@on_every_machine
def test_file_cache_uses_the_disk_when_it_must_and_only_then(name: str) -> None:
    guest = boot(name, "file_cache.S")
    _, lines = run(guest)
    assert lines == [
        "wrote 256 KiB: no disk",
        "fsync: the disk took its time",
        "read it back: no disk",
        "mapped shared: one page, two ways to it",
        "mapped private: a written page is its own",
        "cut and made longer: zeroes where it was cut",
        "no name, but mapped: it lives",
        "gone",
    ]


@on_every_machine
def test_numa_policy_gets_pages_from_where_it_asks(name: str) -> None:
    guest = boot(name, "numa_policy.S")
    free = [node.nid for node in for_each_node(guest.booted.m) if node.present_pages]
    _, lines = run(guest)
    assert lines[: len(free)] == [f"bound to node {nid}: 16 pages, all there" for nid in free]
    given = [line.split()[-1] for line in lines[len(free) : -1]]
    assert sum(map(int, given)) == 16
    assert lines[-1] == f"moved to node {free[0]}: all there, nothing lost"
