# SPDX-License-Identifier: GPL-2.0-only
"""Services called with anything in the registers, over a data area that may hold anything."""

from __future__ import annotations

import random

import pytest

from firmware.bios.rom import SERVICES
from machine.drive import Drive
from tests.firmware.bios.pc import CODE, STACK, Pc

VECTORS = (*SERVICES, 0x08, 0x09, 0x19)
_NAMES = ("ax", "bx", "cx", "dx", "si", "di", "bp")
_ENDS = ("halt", "budget", "fault", "exit", "reset")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("wrecked", [False, True])
def test_no_call_harms_the_host(seed: int, wrecked: bool) -> None:
    rng = random.Random(f"{seed} {wrecked}")
    drives = {0: Drive(bytes(512), floppy=True), 0x80: Drive(bytes(51_200), floppy=False)}
    board = Pc("1x32M", drives)
    for _ in range(120):
        if wrecked:
            place = rng.randrange(0x400, 0x500)
            board.memory.write(place, rng.randbytes(min(8, 0x500 - place)))
        vector = rng.choice(VECTORS)
        registers = {name: rng.getrandbits(16) for name in _NAMES}
        registers |= {name: rng.getrandbits(16) for name in ("ds", "es")}
        if rng.random() < 0.8:
            registers["ax"] = rng.choice([*range(0x20), 0x41, 0x42, 0x43, 0x48, 0x87, 0xE8]) << 8
            registers["ax"] |= rng.getrandbits(8)
            registers["dx"] = rng.choice([0, 0x80, registers["dx"]])
        board.memory.write(CODE, bytes((0xCD, vector, 0xFA, 0xF4)))
        board.machine.code_written(CODE, 4)
        board.machine.cpus[0].start_real(0, CODE, sp=STACK, **registers)
        assert board.machine.run(2000).kind in _ENDS
        board.bios.post()
