# SPDX-License-Identifier: GPL-2.0-only
"""Law 5: whatever a guest does, the run ends in a `Stop`, within its budget."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

PIECE_TEXT = """
    0f22c0 0f22d8 0f22e0 0f22d0 440f22c0 0f20c0 0f20d8 0f20e0 0f23f8 0f23c0 0f23c8 0f23f0 0f21f8
    0f30 0f32 0f0114 0f0117 0f011f 0f0112 0f00d8 0f00d0 0f001b 8ed0 8ed8 8ec0 8ee0 8ee8 cf 48cf cb
    48cb ff2b ff1b 48ff2b 0f05 480f07 0f07 0f34 0f35 480f35 0fa2 0f31 0f01f9 0f0139 0f09 0f08 fa fb
    9c 9d 0faa 0fae03 0fae0b 0fae13 0fae33 dd23 9b d9eb d8c1 0f77 0f01d8 0f01d9 0f01da 0f01db 0f01c1
    0f01c8 0f01c9 0f01d0 0f01d1 f390 ec ed ee ef 6c 6d 6e 6f f36c f36e f3a4 f3aa f2ae e400 cd80 cc
    f1 0f0b 0fff 0fc7f0 0fc7f8 0fc70b f00fb10b 0f00c8 0f00e0 c8ff0fff c9 e9fdffffff ebfe 66 67 f0 f2
    f3 48 4c 0fc733 660fc733 0fa0 0fa8 0fa1 0fa9 4831e4 4889dc 4889cb 0f02c3 0f03c3 0fbb03 c4 c5 62
"""
PIECES = [bytes.fromhex(piece) for piece in PIECE_TEXT.split()]
VALUE_TEXT = """
    0 1 ffffffffffffffff 10 18 80050033 50033 33 620 20 6b0 1000 10000 100000 110000 c0000080
    c0000101 1b 277 174 d01 501 ffff888000000000 7ffffffff000 800000000000 e0000000 4e4c 155 402
"""
VALUES = VALUE_TEXT.split()
DESCRIPTORS = [
    0x00AF9B000000FFFF,
    0x00CF93000000FFFF,
    0x00AFFB000000FFFF,
    0x00CFF3000000FFFF,
    0x00CF9A000000FFFF,
    0x0000890000000067,
    0x0000EC0000101000,
]


def snippet(rng: random.Random) -> bytes:
    """Random bytes one time in ten, else system instructions with telling values in registers."""
    if rng.random() < 0.1:
        return rng.randbytes(200)
    out = b""
    for _ in range(rng.randrange(3, 40)):
        if rng.random() < 0.45:
            value = int(rng.choice(VALUES), 16) if rng.random() < 0.8 else rng.getrandbits(64)
            out += bytes((0x48, 0xB8 + rng.randrange(8))) + value.to_bytes(8, "little")
        else:
            out += rng.choice(PIECES)
    return out


@pytest.mark.parametrize("batch", range(4))
def test_no_snippet_crashes_hangs_or_escapes_its_budget(
    guest: Callable[..., Any], batch: int
) -> None:
    for seed in range(100 * batch, 100 * batch + 100):
        rng = random.Random(seed)
        g = guest("1x32M")
        g.put(b"".join(rng.choice(DESCRIPTORS).to_bytes(8, "little") for _ in range(64)), 0x110000)
        machine = g.start(snippet(rng))
        regs = machine.cpus[0].regs
        regs.gdtr_base, regs.gdtr_limit = 0x110000, 0x1FF
        regs.rbx, regs.rdi, regs.rcx = 0x110008, 0x200000, rng.choice((1, 0xC0000080, 1 << 40))
        stop = machine.run(max_instructions=2000, timeout=10)
        assert stop.kind in ("exit", "halt", "fault", "budget"), (seed, stop)
        assert stop.instructions <= 2000
        assert "\n" not in stop.message


@pytest.mark.parametrize("seed", range(40))
def test_a_hostile_guest_makes_the_same_run_twice(guest: Callable[..., Any], seed: int) -> None:
    results = []
    for _ in range(2):
        g = guest("1x32M")
        machine = g.start(snippet(random.Random(1000 + seed)))
        stop = machine.run(max_instructions=500)
        results.append((stop, machine.cpus[0].save(), machine.memory.read(0, 0x400000)))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "code",
    [
        "0f20c0 2500ffff7f 0f22c0 90f4",  # paging off
        "b9800000c0 31c0 31d2 0f30 90f4",  # EFER cleared
        "48c7c00a001000 0f23c0 b803000000 0f23f8 9090f4",  # a breakpoint register armed
        "48c7c000002000 0f23c0 b803000d00 0f23f8 c6042500002000ff f4",  # a watchpoint
        "9c 810c2400010000 9d 9090f4",  # single step
        "48c7c010001000 c60090 ffc0 ebf9",  # rewriting what is being executed
        "b8ffffffff 0f22d8 90",  # CR3 in a hole
        "0f0b0f0b0f0b",
    ],
)
def test_pulling_the_rug_from_under_the_engine_ends_cleanly(
    guest: Callable[..., Any], code: str
) -> None:
    stop = guest().start(code).run(max_instructions=5000, timeout=10)
    assert stop.kind in ("halt", "fault", "budget")
