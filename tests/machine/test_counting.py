# SPDX-License-Identifier: GPL-2.0-only
"""Counting by the block: the run is that of counting by the instruction, and slices do not show."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable
from typing import Any

import pytest
from unicorn import unicorn_const as kinds

from machine import counting, nativecode
from machine.counting import CountingEngine
from machine.engine import BLOCK_CALLBACK, Engine
from machine.vcpu import VCPU, SliceEnd
from tests.machine import random_programs as programs

ARITHMETIC = 0x8D5
"""CF PF AF ZF SF OF."""

pytestmark = pytest.mark.skipif(
    nativecode.load() is None, reason="this host has no native routines"
)


@pytest.fixture
def plain_engines(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Let CPUs count with Unicorn's own hook, or by the block again."""
    by_block = counting.new_engine

    def choose(plain: bool) -> None:
        monkeypatch.setattr(counting, "new_engine", Engine if plain else by_block)

    return choose


def engine_of(cpu: VCPU) -> CountingEngine:
    assert isinstance(cpu._engine, CountingEngine)
    return cpu._engine


def without_flags_of_a_fault(seen: list[Any]) -> list[Any]:
    """Unicorn's hook turns the arithmetic flags into another form in front of every instruction,
    and leaves them half way when that faults: they cannot be compared then."""
    if seen[-2]["state"] == b"faulted":
        seen[-2]["reg_rflags"] &= ~ARITHMETIC
    return seen


@pytest.mark.parametrize("batch", range(4))
def test_every_slice_is_that_of_the_engine_that_counts_each_instruction(
    plain_engines: Callable[[bool], None], batch: int
) -> None:
    for seed in range(15 * batch, 15 * batch + 15):
        rng = random.Random(seed)
        code = programs.plain(rng, rng.choice((20, 60, 200, 800)))
        lengths = [rng.choice((1, 2, 3, 5, 7, 11, 17, 40, 100)) for _ in range(40)]
        plain_engines(False)
        by_block = programs.run_slices(code, lengths)
        plain_engines(True)
        by_instruction = programs.run_slices(code, lengths)
        assert without_flags_of_a_fault(by_block) == without_flags_of_a_fault(by_instruction), seed


@pytest.mark.parametrize("batch", range(4))
def test_slices_of_any_length_make_the_same_run(batch: int) -> None:
    for seed in range(1000 + 15 * batch, 1015 + 15 * batch):
        rng = random.Random(seed)
        code = programs.mixed(rng, rng.choice((20, 60, 200, 800)))
        total = rng.choice((50, 300, 800))
        single = programs.run_to(code, total, lambda: 1)
        lengths = (2, 3, 5, 8, 13, 50, 200, 10_000)
        assert programs.run_to(code, total, lambda: rng.choice(lengths)) == single, seed  # noqa: B023


@pytest.mark.parametrize("offset", range(3))
@pytest.mark.parametrize("length", [1, 2, 3, 5, 100])
def test_a_store_into_its_own_block_counts_once(offset: int, length: int) -> None:
    # nop nop; mov byte [rip + offset], 0x90; nop nop; hlt hlt
    code = bytes.fromhex(f"9090 c605{offset:02x}00000090 9090 f4 f4")
    machine, cpu = programs.machine_with(code)
    retired = 0
    while cpu.state == "running":
        _, done = cpu.run_slice(length)
        retired += done
    assert retired == (7 if offset == 2 else 6)
    assert machine.memory.read(programs.CODE + 9 + offset, 1) == b"\x90"


def test_a_store_into_its_own_block_sees_what_it_wrote() -> None:
    # mov byte [the increment's opcode], dec; inc/dec eax; hlt
    _, cpu = programs.machine_with(bytes.fromhex("c60501000000c8 ffc0 f4"))
    assert cpu.run_slice(100) == (SliceEnd.HALT, 3)
    assert cpu.regs.rax == 0xFFFF_FFFF


@pytest.mark.parametrize("port", ["e6ab", "e4ab", "6e", "6c"], ids=["out", "in", "outs", "ins"])
def test_a_slice_ended_by_a_port_ends_behind_that_instruction(port: str) -> None:
    machine, cpu = programs.machine_with(bytes.fromhex(f"90 {port} 90 {port} 48ffc3 90 f4"))
    device = machine.ports.ranges[-1].device
    assert cpu.run_slice(100) == (SliceEnd.YIELD, 4)
    assert cpu.rip == programs.CODE + 2 + 2 * len(bytes.fromhex(port))
    assert cpu.regs.rbx == 0
    assert device.accesses == 2  # type: ignore[attr-defined]
    if port == "6c":
        assert (cpu.regs.rdi, machine.memory.read(programs.DATA, 2)) == (programs.DATA + 2, b"\1\2")
    if port == "6e":
        assert cpu.regs.rsi == programs.DATA + 0x1002
    assert cpu.run_slice(100) == (SliceEnd.HALT, 3)


def test_a_port_in_mid_block_works_in_a_code_segment_with_a_base() -> None:
    # In real mode RIP is an offset: nop; out 0xab; out 0xab; inc bx; hlt
    machine, cpu = programs.machine_with(b"")
    machine.memory.write(0x12340, bytes.fromhex("90 e6ab e6ab 43 f4"))
    cpu.start_real(0x1230, 0x40)
    assert cpu.run_slice(100) == (SliceEnd.YIELD, 3)
    assert (cpu.rip, cpu.regs.rbx) == (0x45, 0)
    assert cpu.run_slice(100) == (SliceEnd.HALT, 2)


class MemoryDevice:
    """One page of registers that count their accesses; the second ends the slice."""

    name = "memory device"

    def __init__(self, cpu: VCPU) -> None:
        self.cpu = cpu
        self.seen: list[tuple[str, int, int]] = []

    def _access(self, kind: str, offset: int) -> None:
        self.seen.append((kind, offset, self.cpu.progress))
        if len(self.seen) == 2:
            self.cpu.end_slice(SliceEnd.YIELD)

    def mmio_read(self, cpu_id: int, offset: int, size: int) -> int:
        self._access("read", offset)
        return 7

    def mmio_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._access("write", offset)

    def save(self) -> dict[str, int | bytes]:
        return {}

    def load(self, state: object) -> None:
        pass


@pytest.mark.parametrize("length", [1, 3, 100])
def test_a_device_in_memory_knows_the_time_and_can_end_the_slice_behind_the_instruction(
    length: int,
) -> None:
    # nop; mov [device], eax; nop; mov ebx, [device + 4]; inc rbx; nop; hlt
    base = 0x3000_0000
    code = "90 a3" + (base).to_bytes(8, "little").hex() + "90 8b1c25"
    code += (base + 4).to_bytes(4, "little").hex() + "48ffc3 90 f4"
    machine, cpu = programs.machine_with(bytes.fromhex(code))
    device = MemoryDevice(cpu)
    machine.mmio.attach(base, 4096, device)
    _map(machine, cpu, base)
    before, end = 0, SliceEnd.LIMIT
    while end is SliceEnd.LIMIT:
        end, _ = cpu.run_slice(length)
        before = cpu.retired
    assert (end, before, cpu.regs.rbx) == (SliceEnd.YIELD, 4, 7)
    assert [(kind, at) for kind, at, _ in device.seen] == [("write", 0), ("read", 4)]
    if length == 100:
        assert [progress for _, _, progress in device.seen] == [2, 4]
        assert cpu.run_slice(100) == (SliceEnd.HALT, 3)
        assert cpu.regs.rbx == 8


def _map(machine: Any, cpu: VCPU, base: int) -> None:
    """One 1 GiB page, one to one, over `base` in CR3's tables."""
    table = machine.memory.read_u64(cpu.regs.cr3) & ~0xFFF
    gib = base >> 30
    if machine.memory.read_u64(table + 8 * gib) & 1:
        table = machine.memory.read_u64(table + 8 * gib) & ~0xFFF
        machine.memory.write_u64(table + 8 * (base >> 21 & 511), base & -(1 << 21) | 0x83)
    else:
        machine.memory.write_u64(table + 8 * gib, gib << 30 | 0x83)


LOOP = "48ffc0 48ffc0 48ffc0 ebf5"


def three_slices(cpu: VCPU) -> list[tuple[int, int, int]]:
    return [(*cpu.run_slice(n)[1:], cpu.rip, cpu.regs.rax) for n in (10, 3, 30)]


def test_an_engine_whose_blocks_cannot_be_told_counts_with_unicorns_hook() -> None:
    _, expected_cpu = programs.machine_with(bytes.fromhex(LOOP))
    expected = three_slices(expected_cpu)
    assert engine_of(expected_cpu).by_block
    _, cpu = programs.machine_with(bytes.fromhex(LOOP))
    # With a second hook for blocks the engine calls both by way of a function of its own.
    engine_of(cpu).hook(kinds.UC_HOOK_BLOCK, BLOCK_CALLBACK(lambda *_: None))
    assert three_slices(cpu) == expected
    assert not engine_of(cpu).by_block


def test_an_engine_whose_next_block_is_spoken_for_counts_with_unicorns_hook() -> None:
    _, expected_cpu = programs.machine_with(bytes.fromhex(LOOP))
    expected = three_slices(expected_cpu)
    _, cpu = programs.machine_with(bytes.fromhex(LOOP))
    engine = engine_of(cpu)
    engine._next_block = ctypes.c_uint32(5)
    assert three_slices(cpu) == expected
    assert not engine.by_block
    assert engine._next_block.value == 5


def test_without_native_routines_the_plain_engine_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(counting, "load", lambda: None)
    _, cpu = programs.machine_with(bytes.fromhex(LOOP))
    assert type(cpu._engine) is Engine
    assert three_slices(cpu) == [(10, 0x100006, 8), (3, 0x100003, 10), (30, 0x100009, 33)]


def test_a_slice_with_very_many_accesses_ends_early_and_the_run_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = bytes.fromhex("b9e8030000 e6e9 ffc9 75fa f4")
    machine, _ = programs.machine_with(code)
    whole = machine.run()
    monkeypatch.setattr("machine.cpu_events.MANY_ACCESSES", 10)
    again, cpu = programs.machine_with(code)
    end, retired = cpu.run_slice(100_000)
    assert end is SliceEnd.LIMIT
    assert 10 < retired < 40
    assert retired == 2 + 3 * (len(again.console.output) - 1)
    again, _ = programs.machine_with(code)
    assert again.run() == whole
    assert again.console.output == machine.console.output
    assert again.save() == machine.save()
