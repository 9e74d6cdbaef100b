# SPDX-License-Identifier: GPL-2.0-only
"""Guests nobody would write: random boot sectors and random long-mode snippets, from a seed.

Half of what they are made of means something - system instructions, telling values, tables that
almost make sense - because plain noise ends at its first invalid opcode. `run_batch` runs a range
of seeds in this process and says how each ended; whoever wants to survive an engine that does not
runs this module as a program of its own:

    python -m tests.guests.hostile boot 0 100"""

from __future__ import annotations

import random
import sys
from collections import Counter

from machine import Machine, PageTableBuilder, Topology
from machine.drive import Drive
from machine.machine import Stop

from .on_machine import booted

BUDGET = 1500
_MACHINE = "1x32M,cpus=2"
_PIECES_TEXT = """
    0f22c0 0f22d8 0f22e0 0f22d0 440f22c0 0f20c0 0f20d8 0f20e0 0f23f8 0f23c0 0f23c8 0f23f0 0f21f8
    0f30 0f32 0f0114 0f0117 0f011f 0f0112 0f00d8 0f00d0 0f001b 8ed0 8ed8 8ec0 8ee0 8ee8 cf 48cf
    cb 48cb ff2b ff1b 48ff2b 0f05 480f07 0f07 0f34 0f35 480f35 0fa2 0f31 0f01f9 0f0139 0f09 0f08
    fa fb 9c 9d 0faa 0fae03 0fae0b 0fae13 0fae33 dd23 9b d9eb d8c1 0f77 0f01d8 0f01d9 0f01da
    0f01db 0f01c1 0f01c8 0f01c9 0f01d0 0f01d1 f390 ec ed ee ef 6c 6d 6e 6f f36c f36e f3a4 f3aa
    f2ae e400 cd80 cc f1 0f0b 0fff 0fc7f0 0fc7f8 0fc70b f00fb10b 0f00c8 0f00e0 c8ff0fff c9
    e9fdffffff ebfe 66 67 f0 f2 f3 48 4c 0fc733 660fc733 0fa0 0fa8 0fa1 0fa9 4831e4 4889dc
    4889cb 0f02c3 0f03c3 0fbb03 c4 c5 62 0f01d5 0f0600 f4 fbf4 cd10 cd13 cd15 cd16 cd1a cd03 ce
    6267 660fb2 0f011d 0f0115 eaf07c0000 66ea007c00000800 ea007c08000000 e661 e421 e620 e6a1
    e664 e692 e660 bafc0cef baf701b020ee baf701b030ee baf701b0ecee baf001f36d baf001f36f baf001ed
    669c 669d 66cf 8900 8807 ff37 8f07 ff30 fe07 c706 cd21 0f0007 0f000f 0f0017 0f001f 0f0106 f7f0
    f6f0 d4000f 0f0fc0a0 0f1800 0f1f00 0fc8 0fae38 0faee8 0faef0 0faef8 660f3880 0f3a0fc000 c5f877
    62f17c48
"""
_PIECES = [bytes.fromhex(piece) for piece in _PIECES_TEXT.split()]
_VALUES_TEXT = """
    0 1 ffffffff 10 18 8 20 28 33 80050033 80000011 11 10 620 20 30 6b0 1000 10000 100000 110000
    c0000080 c0000101 1b 10 277 174 d01 501 ffff888000000000 7ffffffff000 800000000000 e0000000
    fee00000 fee00300 fee000b0 fec00000 fed00000 b8000 f0000 fffff 7c00 4e4c 155 402 3f8 20 21
    40 43 60 64 92 cf8 c08 400 ffff 8000 c4500 c4600 c0500 1f0 1f2 1f6 1f7 3f6 ec c4 4001
"""
_VALUES = [int(value, 16) for value in _VALUES_TEXT.split()]
_SERVICES = (0x10, 0x11, 0x12, 0x13, 0x15, 0x16, 0x19, 0x1A, 0x08, 0x18)
_DESCRIPTORS = [
    0x00AF9B000000FFFF,
    0x00CF9B000000FFFF,
    0x008F9B000000FFFF,
    0x00CF93000000FFFF,
    0x00AFFB000000FFFF,
    0x00CFF3000000FFFF,
    0x00CF9A000000FFFF,
    0x0000890000000067,
    0x00008B1120000067,
    0x0000820000000010,
    0x0000EC0000101000,
    0x00008E0000107C00,
    0x0000EE0000087C40,
    0x00008F0000187C80,
    0x0000850000200000,
    0x0000890080000067,
    0x0000E50000380000,
    0x00008C0000087C00,
    0x0000E50000380000,
]


def _code(rng: random.Random, size: int, wide: bool) -> bytes:
    """Machine code of about `size` bytes."""
    if rng.random() < 0.15:
        return rng.randbytes(size)
    out = bytearray()
    while len(out) < size:
        choice = rng.random()
        if choice < 0.35:
            value = rng.choice(_VALUES) if rng.random() < 0.8 else rng.getrandbits(64)
            register = 0xB8 + rng.randrange(8)
            if wide:
                out += bytes((0x48, register)) + value.to_bytes(8, "little")
            elif rng.random() < 0.5:
                out += bytes((0x66, register)) + (value & 0xFFFFFFFF).to_bytes(4, "little")
            else:
                out += bytes((register,)) + (value & 0xFFFF).to_bytes(2, "little")
        elif choice < 0.9:
            out += rng.choice(_PIECES)
        else:
            out += rng.randbytes(rng.randrange(1, 6))
    return bytes(out[:size])


def boot_sector(seed: int) -> Machine:
    """A machine that begins in a random boot sector, with random tables to load around it."""
    rng = random.Random(seed)
    machine = Machine(Topology.parse(_MACHINE))
    machine.open_bus = True
    machine.pc.bios.drives[0x80] = Drive(bytes(64 * 512), floppy=False)
    memory = machine.memory
    sector = bytearray(_code(rng, 510, wide=False) + b"\x55\xaa")
    tables = b"".join(rng.choice(_DESCRIPTORS).to_bytes(8, "little") for _ in range(32))
    if rng.random() < 0.7:
        # A way into protected mode: LGDT, LIDT, CR0.PE, far jump, and on with what comes.
        start = bytes.fromhex("fa 0f0116f07d 0f011ef67d 0f20c0 0c01 0f22c0".replace(" ", ""))
        start += bytes.fromhex(rng.choice(("ea167c0800", "ea167c1000", "66ea1a7c00000800", "")))
        sector[: len(start)] = start
        sector[0x1F0:0x1F6] = (0xFF).to_bytes(2, "little") + (0x8000).to_bytes(4, "little")
        sector[0x1F6:0x1FC] = (0xFF).to_bytes(2, "little") + (0x8000).to_bytes(4, "little")
    memory.write(0x7C00, bytes(sector))
    memory.write(0x8000, tables)
    ivt = b"".join(
        rng.choice((0x7C00 + rng.randrange(512), rng.getrandbits(32))).to_bytes(4, "little")
        for _ in range(64)
    )
    memory.write(0, ivt)
    for apic in machine.apics.apics:
        apic.firmware_setup()
    registers = {name: rng.choice(_VALUES) & 0xFFFF for name in ("ax", "bx", "cx", "si", "di")}
    machine.cpus[0].start_real(0, 0x7C00, dx=0x80, sp=0x7C00, **registers)
    return machine


def long_mode(seed: int) -> Machine:
    """A machine that begins in 64-bit mode, in a random snippet, with random GDT, IDT and TSS."""
    rng = random.Random(seed)
    machine = Machine(Topology.parse(_MACHINE))
    machine.open_bus = rng.random() < 0.5
    memory = machine.memory
    frames = iter(range(0x10000, 0x80000, 4096))
    tables = PageTableBuilder(memory, lambda: next(frames))
    tables.map(0, 0, 32 << 20, flags=7)
    tables.map(0xFEC00000, 0xFEC00000, 4 << 20)
    tables.map(0xFFFF_8880_0000_0000, 0, 32 << 20)
    memory.write(0x100000, _code(rng, 240, wide=True))
    gdt = [0, *_DESCRIPTORS[:6], *(rng.choice(_DESCRIPTORS) for _ in range(25))]
    memory.write(0x110000, b"".join(entry.to_bytes(8, "little") for entry in gdt))
    idt = b""
    for _ in range(64):
        offset = 0x100000 + rng.randrange(256)
        kind = rng.choice((0x8E, 0x8E, 0xEE, 0x8F, 0xEF, 0x85, 0x0E, 0x8C, 0))
        selector = rng.choice((8, 8, 8, 0x10, 0x28, 0x2B, 0, 0x38, 0xFF))
        gate = offset & 0xFFFF | selector << 16 | rng.choice((0, 0, 1, 7)) << 32 | kind << 40
        idt += (gate | (offset >> 16) << 48).to_bytes(16, "little")
    memory.write(0x111000, idt)
    memory.write(0x112000, b"".join(rng.choice(_VALUES).to_bytes(8, "little") for _ in range(13)))
    cpu = machine.cpus[0]
    cpu.start(0x100000, 0x90000, tables.root)
    regs = cpu.regs
    if rng.random() < 0.8:
        regs.gdtr_base, regs.gdtr_limit = 0x110000, 0xFF
        regs.idtr_base, regs.idtr_limit = 0x111000, rng.choice((0x3FF, 0x3FF, 0xFF, 0))
    regs.rbx, regs.rdi = 0x110008, rng.choice((0x200000, 0xFEE00300, 0xFEC00000, 0xFED00000))
    regs.rcx = rng.choice((1, 0xC0000080, 0x1B, 1 << 40))
    if rng.random() < 0.5:
        machine.apics.apics[0].firmware_setup()
        regs.rflags = 0x202
    return machine


def on_bios(seed: int) -> Machine:
    """A random boot sector on a PC with a BIOS, which it may call with anything."""
    rng = random.Random(seed)
    sector = _code(rng, 510, wide=False)
    calls = [bytes((0xB4, rng.randrange(256), 0xCD, rng.choice(_SERVICES))) for _ in range(20)]
    for call in calls:
        at = rng.randrange(len(sector) - 4)
        sector = sector[:at] + call + sector[at + 4 :]
    return booted(sector + b"\x55\xaa" + rng.randbytes(8 * 512), "1x32M").machine


KINDS = {"boot": boot_sector, "long": long_mode, "bios": on_bios}


def run_one(kind: str, seed: int) -> Stop:
    """How the guest of that seed ended."""
    return KINDS[kind](seed).run(max_instructions=BUDGET, timeout=20)


def run_batch(kind: str, first: int, count: int) -> Counter[str]:
    """How often each outcome came up. Raises `AssertionError` for one that there must not be."""
    ends: Counter[str] = Counter()
    for seed in range(first, first + count):
        print(seed, file=sys.stderr, flush=True)
        stop = run_one(kind, seed)
        assert stop.kind in ("exit", "halt", "fault", "budget", "reset"), (kind, seed, stop)
        assert stop.instructions <= BUDGET, (kind, seed, stop)
        assert "\n" not in stop.message, (kind, seed, stop)
        ends[stop.kind] += 1
    return ends


if __name__ == "__main__":
    print(dict(run_batch(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
