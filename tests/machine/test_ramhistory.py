# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import random

import pytest

from machine import Bank, PhysicalMemory, UsageError, hostmap
from machine.ramhistory import RamCheckpoint
from machine.topology import MIB

PAGES = 24
FAR = 96 * MIB


@pytest.fixture(params=["scan", "pagemap", ""])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> PhysicalMemory:
    """RAM with a hole and two banks, kept in every way a host may allow."""
    if request.param:
        try:
            if not hostmap._works(request.param):
                raise OSError
        except OSError:
            pytest.skip(f"this host has no {request.param}")
    monkeypatch.setattr(hostmap, "find_method", lambda: request.param)
    far = 0x40000 if not request.param else FAR  # plain memory is looked through as a whole
    banks = [Bank(0, PAGES << 12, "low"), Bank(far, far + (PAGES << 12), "high")]
    return PhysicalMemory(banks)


def contents(memory: PhysicalMemory) -> bytes:
    return b"".join(memory.read(start, end - start) for start, end in memory.extents)


def scribble(memory: PhysicalMemory, rng: random.Random) -> None:
    for _ in range(rng.choice((0, 1, 3, 10))):
        start, end = rng.choice(memory.extents)
        memory.words[rng.randrange(start, end) >> 3] = rng.choice((0, rng.getrandbits(60)))


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_checkpoints_rewinds_and_discards_gives_the_bytes_of_the_moment(
    memory: PhysicalMemory, seed: int
) -> None:
    rng = random.Random(seed)
    held: list[tuple[RamCheckpoint, bytes]] = []
    for _ in range(120):
        scribble(memory, rng)
        action = rng.randrange(10)
        if action < 4:
            held.append((memory.checkpoint(), contents(memory)))
        elif held and action < 8:
            index = rng.randrange(len(held))
            memory.rewind(held[index][0])
            del held[index + 1 :]
            assert contents(memory) == held[index][1]
        elif held:
            before = contents(memory)
            moment, _ = held.pop(rng.randrange(len(held)))
            if action == 8:
                memory.history.discard(moment)
            else:
                moment.abandoned = True
            assert contents(memory) == before
    for moment, bytes_then in reversed(held):
        memory.rewind(moment)
        assert contents(memory) == bytes_then


def test_one_checkpoint_can_be_gone_back_to_many_times(memory: PhysicalMemory) -> None:
    memory.words[8] = 1
    moment = memory.checkpoint()
    for value in range(5):
        memory.words[8] = memory.words[1024] = value
        memory.rewind(moment)
        assert (memory.words[8], memory.words[1024]) == (1, 0)
    assert memory.rewinds == 5


def test_going_back_ends_the_checkpoints_taken_after(memory: PhysicalMemory) -> None:
    outer = memory.checkpoint()
    inner = memory.checkpoint()
    memory.rewind(outer)
    assert (outer.alive, inner.alive) == (True, False)
    for attempt in (memory.rewind, memory.history.discard):
        with pytest.raises(UsageError, match="has ended"):
            attempt(inner)


def test_an_abandoned_checkpoint_gives_its_memory_back(memory: PhysicalMemory) -> None:
    moment = memory.checkpoint()
    memory.words[0] = 1
    moment.abandoned = True
    memory.checkpoint()
    assert len(memory.history.levels) == 1
    assert not moment.alive


def test_views_and_addresses_stay_good(memory: PhysicalMemory) -> None:
    views = memory.words, memory.bytes, memory.q, memory.u8, memory.host_address()
    moment = memory.checkpoint()
    memory.words[2] = 5
    assert (views[0][2], views[1][16], views[2][2], views[3][16]) == (5, 5, 5, 5)
    memory.rewind(moment)
    assert (views[0][2], views[1][16], views[2][2], views[3][16]) == (0, 0, 0, 0)
    assert memory.host_address() == views[4]
