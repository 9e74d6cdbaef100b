# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

from machine import Fault, UsageError
from machine.mmu import PTE_NX, PTE_P, PTE_RW, PTE_US
from machine.nativecode import load
from machine.vcpu import VCPU, SliceEnd


def test_a_cpu_waits_until_it_is_started(guest: Callable[..., Any]) -> None:
    cpu = guest().machine.cpus[1]
    assert (cpu.state, cpu.nid, cpu.rip) == ("stopped", 1, 0)
    with pytest.raises(UsageError, match="cpu 1 is stopped"):
        cpu.run_slice(1)
    with pytest.raises(UsageError, match="has not been started"):
        _ = cpu.regs


def test_it_starts_in_long_mode_with_the_registers_given(guest: Callable[..., Any]) -> None:
    g = guest()
    g.put("f4")
    cpu = g.machine.cpus[0]
    cpu.start(0x100000, 0x9000, g.tables.root, rdi=7, rsi=0x90000)
    regs = cpu.regs
    assert (regs.rip, regs.rsp, regs.cr3) == (0x100000, 0x9000, g.tables.root)
    assert (regs.rdi, regs.rsi, regs.rflags) == (7, 0x90000, 2)
    assert (regs.cr0, regs.cr4, regs.efer) == (0x80050033, 0x620, 0xD01)


def test_canonical_high_addresses_reach_the_same_ram(guest: Callable[..., Any]) -> None:
    # mov rbx, 0xffff888000002000; mov qword [rbx], 0x55; jump to the direct map's alias
    # of: inc qword [rbx]; hlt
    code = "48bb0020000080 88ffff 48c70355000000 48b8 1d001000 8088ffff ffe0 48ff03 f4"
    g = guest()
    machine = g.start(code.replace(" ", ""))
    stop = machine.run()
    assert stop.kind == "halt", stop
    assert machine.memory.read_u64(0x2000) == 0x56
    assert stop.rip >> 32 == 0xFFFF8880


@pytest.mark.parametrize("length", [1, 2, 3, 7, 1000])
def test_slices_of_any_length_add_up_to_the_same_run(
    guest: Callable[..., Any], length: int
) -> None:
    # mov ecx, 20; loop: out 0xe9, al; inc al; rep-free string store; dec ecx; jnz; hlt
    machine = guest().start("b914000000 bf00002000 e6e9 fec0 aa ffc9 75f7 f4")
    cpu = machine.cpus[0]
    total = 0
    while True:
        end, retired = cpu.run_slice(length)
        total += retired
        assert retired <= length
        if end is not SliceEnd.LIMIT:
            break
        assert retired == length
    assert end is SliceEnd.HALT
    assert total == cpu.retired == 2 + 20 * 5 + 1
    assert machine.console.output == bytes(range(20))
    assert machine.memory.read(0x200000, 20) == bytes(range(1, 21))


def test_a_rep_prefix_counts_its_iterations_and_can_be_cut(guest: Callable[..., Any]) -> None:
    machine = guest().start("b910000000 bf00002000 b041 f3aa f4")
    cpu = machine.cpus[0]
    whole = guest().start("b910000000 bf00002000 b041 f3aa f4").cpus[0].run_slice(1000)
    cpu.run_slice(3 + 5)
    assert cpu.regs.rcx == 11
    rest = cpu.run_slice(1000)
    assert rest[0] is whole[0] is SliceEnd.HALT
    assert 8 + rest[1] == whole[1]
    assert machine.memory.read(0x200000, 17) == b"A" * 16 + b"\0"


LOADS = {
    "read": "48a1{va}",
    "write": "48a3{va}",
    "fetch": "48b8{va}ffe0",
}


def faulting(va: int, access: str) -> str:
    return LOADS[access].format(va=(va & (1 << 64) - 1).to_bytes(8, "little").hex())


@pytest.mark.parametrize("access", ["read", "write", "fetch"])
@pytest.mark.parametrize(
    ("va", "reason"),
    [
        (0x0000_7000_0000_1238, "page not present"),
        (0x0001_0000_0000_0000, "non-canonical address"),
        (0x0000_0001_0000_0010, "bus error: no RAM at physical 0x8000010"),
        (0x0000_0002_0000_0010, "bus error: page table in a physical hole"),
        (0x0000_0003_0000_0010, "reserved bit set in a page-table entry"),
    ],
)
def test_a_fault_names_the_access_the_address_and_why(
    guest: Callable[..., Any], access: str, va: int, reason: str
) -> None:
    g = guest()  # 128 MiB
    g.tables.map(1 << 32, 128 << 20, 4096)
    memory, root = g.machine.memory, g.tables.root
    low = memory.read_u64(root) & ~0xFFF & (1 << 46) - 1
    memory.write_u64(low + 8 * 8, 0x4000_0000 | 3)
    memory.write_u64(low + 8 * 12, 1 << 50 | 0x83)
    g.start(faulting(va, access))
    cpu = g.machine.cpus[0]
    end, retired = cpu.run_slice(100)
    assert (end, cpu.state) == (SliceEnd.FAULT, "faulted")
    fault = cpu.fault
    assert isinstance(fault, Fault)
    assert (fault.access, fault.va, fault.reason) == (access, va, reason)
    where = va if access == "fetch" else 0x100000
    assert (fault.rip, retired) == (where, 2 if access == "fetch" else 0)
    assert str(fault) == f"cpu 0 at rip {where:#x}: {access} of {va:#x}: {reason}"


@pytest.mark.parametrize(
    ("flags", "access", "error"),
    [
        (PTE_P, "write", 3),
        (PTE_P | PTE_RW | PTE_NX, "fetch", 0x11),
        (0, "read", None),
    ],
)
def test_permissions_hold_in_the_engine(
    guest: Callable[..., Any], flags: int, access: str, error: int | None
) -> None:
    g = guest()
    g.tables.map(1 << 32, 0x200000, 4096, flags)
    g.put("f4", 0x200000)
    g.start(faulting(1 << 32, access) + "f4")
    cpu = g.machine.cpus[0]
    end, _ = cpu.run_slice(100)
    assert (None if cpu.fault is None else cpu.fault.error_code) == error
    assert (end is SliceEnd.HALT) is (error is None)


def test_user_mode_may_not_touch_kernel_pages(guest: Callable[..., Any]) -> None:
    g = guest()
    g.tables.map(1 << 32, 0x200000, 4096, PTE_RW)
    g.put(faulting(1 << 32, "read"), 0x101000)
    user = (0, 0, 0, 0, 0x00AFFB000000FFFF, 0x00CFF3000000FFFF)
    g.put(b"".join(entry.to_bytes(8, "little") for entry in user), 0x110000)
    machine = g.start("6a2b 6800000800 6a02 6a23 6800101000 48cf")
    machine.cpus[0].regs.gdtr_base = 0x110000
    machine.cpus[0].regs.gdtr_limit = 0x2F
    stop = machine.run(100)
    assert stop.kind == "fault"
    assert "read of 0x100000000: protection violation" in stop.message
    fault = machine.cpus[0].fault
    assert fault is not None
    assert fault.error_code == PTE_P | PTE_US


def test_the_first_write_sets_dirty_even_after_a_read_has_cached_the_page(
    guest: Callable[..., Any],
) -> None:
    g = guest()
    g.tables.map(1 << 32, 0x200000, 4096)
    slot = None
    from machine import translate

    found = translate(g.machine.memory, g.tables.root, 1 << 32)
    assert found is not None
    slot = found.entries[-1]
    g.start(faulting(1 << 32, "read") + "e6e9" + faulting(1 << 32, "write") + "f4")
    g.machine.cpus[0].run_slice(1)
    assert g.machine.memory.read_u64(slot) & 0x60 == 0x20
    g.machine.cpus[0].run_slice(100)
    assert g.machine.memory.read_u64(slot) & 0x60 == 0x60


def test_a_new_cr3_is_walked_at_once(guest: Callable[..., Any]) -> None:
    from machine import PageTableBuilder

    g = guest()
    frames = iter(range(0x80000, 0x8F000, 4096))
    other = PageTableBuilder(g.machine.memory, lambda: next(frames))
    other.map(0, 0, 2 << 20)
    other.map(1 << 32, 0x201000, 4096)
    g.tables.map(1 << 32, 0x200000, 4096)
    g.machine.memory.write_u64(0x200000, 1)
    g.machine.memory.write_u64(0x201000, 2)
    load = faulting(1 << 32, "read")
    code = load + "4889c3" + "b8" + other.root.to_bytes(4, "little").hex() + "0f22d8" + load + "f4"
    machine = g.start(code)
    assert machine.run(100).kind == "halt"
    assert (machine.cpus[0].regs.rbx, machine.cpus[0].regs.rax) == (1, 2)


@pytest.mark.parametrize(
    ("code", "vector", "retired"),
    [
        ("900f0b", 6, 1),
        ("31c0f7f0", 0, 1),
        ("90cc", 3, 2),
        ("cd80", 128, 1),
        ("b8080000008ed8", 13, 1),
        ("0f3231c00f32f4", None, 4),
    ],
)
def test_an_exception_without_a_handler_is_a_fault_that_names_the_vector(
    guest: Callable[..., Any], code: str, vector: int | None, retired: int
) -> None:
    cpu = guest().start(code).cpus[0]
    end, count = cpu.run_slice(100)
    assert count == retired
    assert (cpu.fault.vector if cpu.fault else None) == vector
    assert (end is SliceEnd.FAULT) is (vector is not None)


def test_a_restart_after_a_fault_begins_afresh(guest: Callable[..., Any]) -> None:
    g = guest()
    for _ in range(5):
        machine = g.start("31c0f7f0")
        stop = machine.run(10)
        assert "#DE" in stop.message  # never a double fault


def test_what_a_device_raises_comes_out_with_the_accounts_in_order(
    guest: Callable[..., Any],
) -> None:
    machine = guest().start("90 e6e9 90 90 f4")

    def broken(_data: bytes) -> None:
        raise RuntimeError("sink closed")

    machine.console.sink = broken
    cpu = machine.cpus[0]
    with pytest.raises(RuntimeError, match="sink closed"):
        cpu.run_slice(100)
    assert (cpu.retired, cpu.rip) == (2, 0x100003)
    assert cpu.run_slice(100) == (SliceEnd.HALT, 3)


@pytest.mark.skipif(load() is None, reason="this host has no native routines")
def test_a_native_walker_is_asked_first_and_ours_where_it_declines(
    guest: Callable[..., Any],
) -> None:
    asked: list[int] = []

    def decline(_words: int, _ram: int, va: int, *_: int) -> int:
        asked.append(va)
        return -1

    words, arrays = ctypes.c_int64, (ctypes.c_void_p, ctypes.c_void_p)
    callback = ctypes.CFUNCTYPE(words, *arrays, *(words for _ in range(7)))(decline)
    g = guest()
    g.machine.cpus[0].native_walk = ctypes.cast(callback, ctypes.c_void_p).value or 0
    assert g.start("90f4").run(10).kind == "halt"
    assert 0x100000 in asked


def test_a_saved_cpu_goes_on_in_another_machine(guest: Callable[..., Any]) -> None:
    code = "b964000000 fec0 e6e9 ffc9 75f8 f4"
    first, second, whole = guest(), guest(), guest()
    whole.start(code).run()
    first.start(code).cpus[0].run_slice(150)
    second.machine.memory.u8[:] = first.machine.memory.u8
    cpu: VCPU = second.machine.cpus[0]
    cpu.load(first.machine.cpus[0].save())
    assert cpu.retired == 150
    assert second.machine.run().kind == "halt"
    assert cpu.save() == whole.machine.cpus[0].save()
    before = first.machine.console.output
    assert before + second.machine.console.output == whole.machine.console.output


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"state": b"flying", "retired": 0},
        {"state": b"running", "retired": 0},
        {"state": b"running", "retired": b"x"},
        {"state": b"running", "retired": 0, "reg_rax": 1},
    ],
)
def test_a_broken_cpu_state_is_refused(guest: Callable[..., Any], state: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        guest().machine.cpus[0].load(state)
