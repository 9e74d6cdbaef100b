# SPDX-License-Identifier: GPL-2.0-only
"""The page walk interpreted and as native code: the same answers, the same bits in the tables."""

from __future__ import annotations

import random
import zlib
from ctypes import CFUNCTYPE, POINTER, c_int64
from itertools import count
from typing import Any

import pytest

from machine import Bank, Machine, PageTableBuilder, PhysicalMemory, Topology
from machine import walk as words
from machine.counting import CountingEngine
from machine.nativecode import load
from machine.walk import (
    CR0_PG,
    CR0_WP,
    CR4_PAE,
    CR4_PSE,
    EFER_LMA,
    EFER_NXE,
    PTE_A,
    PTE_D,
    PTE_P,
    PTE_PS,
    PTE_RW,
    PTE_US,
    SIGNED_NX,
    ram_table,
)

native = load()
pytestmark = pytest.mark.skipif(native is None, reason="this host has no native routines")

CODE, STACK, TABLES = 0x100000, 0x90000, 16 << 20
PAGES = 0x40_0000
"""Where the pages lie that are accessed: 64 of 4 KiB."""
HOLE = 0x3FFF_F000
FLIPS = (PTE_P, PTE_RW, PTE_US, PTE_A, PTE_D, PTE_PS, SIGNED_NX, 1 << 47, 1 << 13)
FRAMES = 64
"""Pages of RAM in which random tables are made."""


def random_tables(rng: random.Random, m: memoryview) -> None:
    """Fill RAM with entries that mostly lead on, in 64-bit and 32-bit form."""
    for index in range(FRAMES * 512):
        entry = rng.randrange(FRAMES) << 12 | 7
        for flip in FLIPS:
            if rng.random() < 0.04:
                entry ^= flip
        if rng.random() < 0.02:
            entry = rng.getrandbits(64)
        if rng.random() < 0.3:
            entry = entry & 0xFFFF_FFFF | (rng.randrange(FRAMES) << 12 | 7) << 32
        m[index] = entry - (entry >> 63 << 64) if entry >= 0 else entry


def random_walk(rng: random.Random) -> tuple[int, ...]:
    """Arguments of a walk behind the arrays, in any mode."""
    va = rng.getrandbits(48) if rng.random() < 0.9 else rng.getrandbits(64)
    va |= -1 << 48 if va >> 47 & 1 and rng.random() < 0.9 else 0
    va -= (va >> 63 & 1) << 64 if va >= 0 else 0
    cr0 = (CR0_PG if rng.random() < 0.95 else 0) | rng.choice((0, CR0_WP))
    cr4 = rng.choice((0, CR4_PSE, CR4_PAE, CR4_PAE | CR4_PSE))
    efer = rng.choice((0, EFER_LMA, EFER_LMA)) | rng.choice((0, EFER_NXE))
    cr3 = rng.randrange(FRAMES + 1) << 12
    return va, rng.randrange(3), rng.randrange(2), cr0, cr3, cr4, efer


@pytest.mark.parametrize("seed", range(4))
def test_random_walks_in_every_mode_end_alike(seed: int) -> None:
    assert native is not None
    rng = random.Random(seed)
    pages = POINTER(c_int64)
    walk = CFUNCTYPE(c_int64, pages, pages, *(c_int64 for _ in range(7)))(native.routines["walk"])
    memories = [PhysicalMemory([Bank(0, FRAMES << 12, "ram")]) for _ in range(2)]
    random_tables(rng, memories[0].words)
    memories[1].write(0, memories[0].read(0, FRAMES << 12))
    table = ram_table(memories[0])
    ram = memoryview(table)
    here = (c_int64 * 2)(memories[1].host_address(), len(memories[1].words))
    bounds = (c_int64 * 2)(*table.buffer_info())
    answers: set[int] = set()
    for _ in range(3000):
        arguments = random_walk(rng)
        expected = words.walk(memories[0].words, ram, *arguments)
        assert walk(here, bounds, *arguments) == expected, arguments
        answers.add(min(expected, 0))
    assert memories[1].read(0, FRAMES << 12) == memories[0].read(0, FRAMES << 12)
    assert answers >= {0, words.NOT_PRESENT, words.PROTECTION, words.RESERVED, words.BUS_PAGE}


def program(rng: random.Random) -> bytes:
    """Reads, writes and calls, in any order, of addresses in PAGES and some beyond."""
    out = b""
    for _ in range(60):
        address = PAGES + rng.randrange(64 * 4096 - 8)
        if rng.random() < 0.02:
            address = rng.choice((0xFFFF_8000_0000_0000 - 4, 1 << 50, HOLE, PAGES + (1 << 21)))
        # mov rbx, address; then one of: mov rax, [rbx]; mov [rbx], rax; lock inc [rbx]; call rbx
        access = rng.choices(("488b03", "488903", "f048ff03", "ffd3"), (5, 5, 2, 1))[0]
        out += b"\x48\xbb" + address.to_bytes(8, "little") + bytes.fromhex(access)
    return out + b"\xf4"


def run(seed: int) -> tuple[Any, ...]:
    """A guest that accesses pages whose entries have been tampered with: all that it leaves."""
    rng = random.Random(seed)
    machine = Machine(Topology.parse("1x32M"))
    frames = count(TABLES, 4096)
    tables = PageTableBuilder(machine.memory, lambda: next(frames))
    for at in range(0, 8 << 20, 4096):
        tables.map(at, at, 4096, flags=rng.choice((3, 7)))
    machine.memory.write(PAGES, b"\xc3" * (64 * 4096))  # every call returns
    m = machine.memory.words
    table = tables.root
    for shift in (39, 30, 21):
        table = m[(table >> 3) + (PAGES >> shift & 511)] & 0x3FFF_FFFF_F000
    leaves = (table >> 3) + (PAGES >> 12 & 511)
    for _ in range(rng.randrange(12)):
        m[leaves + rng.randrange(64)] ^= rng.choice(FLIPS)
    if rng.random() < 0.3:
        m[leaves + rng.randrange(64)] = HOLE | 3
    machine.memory.write(CODE, program(rng))
    machine.cpus[0].start(CODE, STACK, tables.root)
    stop = machine.run(10_000)
    return stop, machine.cpus[0].save(), zlib.crc32(machine.memory.bytes[: 20 << 20])


@pytest.mark.parametrize("batch", range(4))
def test_a_guest_makes_the_same_run_with_either_walk(
    monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    kinds = set()
    for seed in range(10 * batch, 10 * batch + 10):
        ours = run(seed)
        with monkeypatch.context() as patch:
            patch.setattr(CountingEngine, "own_walker", 0)
            assert run(seed) == ours, seed
        kinds.add(ours[0].message.rsplit(": ", 1)[-1])
    assert len(kinds) > 1


def test_python_hears_only_of_what_the_native_walk_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    walk = words.walk

    def noting(*arguments: Any) -> int:
        asked.append(arguments[2])
        return walk(*arguments)

    monkeypatch.setattr("machine.hooks.walk", noting)
    stop = run(1)[0]
    refused = len(asked)
    monkeypatch.setattr(CountingEngine, "own_walker", 0)
    run(1)
    assert refused <= (stop.kind == "fault") < 10 < len(asked)
