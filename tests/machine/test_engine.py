# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import ctypes
from typing import Any

import pytest
from unicorn import unicorn_const as kinds
from unicorn import x86_const

from machine import Bank, PhysicalMemory
from machine.engine import FILL_CALLBACK, OUT_CALLBACK, ControlReader, Engine


@pytest.fixture
def engine() -> Engine:
    engine = Engine(PhysicalMemory([Bank(0, 1 << 20, "ram")]))

    def fill(_uc: object, va: int, _kind: int, entry: Any, _data: object) -> bool:
        entry.contents.paddr = va
        entry.contents.perms = 7
        return va < 1 << 20

    engine.hook(kinds.UC_HOOK_TLB_FILL, FILL_CALLBACK(fill))
    return engine


@pytest.mark.parametrize("limit", [1, 2, 9, 10])
def test_the_limit_is_exact_and_the_counter_is_one_beyond_it(engine: Engine, limit: int) -> None:
    engine.memory.write(0x1000, b"\x48\xff\xc0" * 20)  # inc rax
    assert engine.run(0x1000, limit) == 0
    assert engine.counter == limit + 1
    assert engine.uc.reg_read(x86_const.UC_X86_REG_RAX) == limit
    assert engine.uc.reg_read(x86_const.UC_X86_REG_RIP) == 0x1000 + 3 * limit


def test_a_halt_at_the_limit_is_not_mistaken_for_the_limit(engine: Engine) -> None:
    engine.memory.write(0x1000, b"\x90\x90\xf4")
    engine.run(0x1000, 3)
    assert engine.counter == 3


def test_a_stop_in_an_out_hook_keeps_the_next_instruction_from_running(engine: Engine) -> None:
    engine.hook(
        kinds.UC_HOOK_INSN, OUT_CALLBACK(lambda *a: engine.stop()), x86_const.UC_X86_INS_OUT
    )
    engine.memory.write(0x1000, b"\xe6\x10" + b"\x48\xff\xc0" * 5 + b"\xf4")
    engine.run(0x1000, 100)
    assert engine.uc.reg_read(x86_const.UC_X86_REG_RAX) == 0
    assert engine.uc.reg_read(x86_const.UC_X86_REG_RIP) == 0x1002


def test_the_exact_address_of_a_refused_access_is_known(engine: Engine) -> None:
    address = 0x1234_5678_9ABD
    engine.memory.write(0x1000, b"\x90\x48\xa1" + address.to_bytes(8, "little"))
    assert engine.run(0x1000, 100) != 0
    assert engine.fault_address == address
    assert engine.counter == 2


def test_no_address_is_special_as_the_end_of_a_run(engine: Engine) -> None:
    engine.memory.write(0, b"\x90\xeb\xfd")  # a loop through address 0
    engine.run(0, 50)
    assert engine.counter == 51


def test_an_engine_writes_the_ram_it_was_given(engine: Engine) -> None:
    engine.memory.write(0x1000, bytes.fromhex("c604250020000077f4"))  # mov byte [0x2000], 0x77
    engine.run(0x1000, 2)
    assert engine.memory.read_u8(0x2000) == 0x77


def test_code_written_by_the_host_runs_after_a_flush(engine: Engine) -> None:
    engine.memory.write(0x1000, b"\xb0\x01\xf4")
    engine.run(0x1000, 5)
    engine.memory.write(0x1000, b"\xb0\x02\xf4")
    engine.flush_code()
    engine.run(0x1000, 5)
    assert engine.uc.reg_read(x86_const.UC_X86_REG_RAX) == 2


def test_native_code_can_be_a_hook(engine: Engine) -> None:
    seen: list[int] = []
    callback = OUT_CALLBACK(lambda _uc, port, _size, _value, _data: seen.append(port))
    from machine.engine import hook_raw

    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address
    hook_raw(engine.uc, kinds.UC_HOOK_INSN, address, 0, x86_const.UC_X86_INS_OUT)
    engine.memory.write(0x1000, b"\xe6\x42\xf4")
    engine.run(0x1000, 5)
    assert seen == [0x42]


def test_the_control_registers_are_read_together(engine: Engine) -> None:
    regs = {"CR4": 0x20, "CR3": 0x7000, "CR0": 0x11}
    for name, value in regs.items():
        engine.uc.reg_write(getattr(x86_const, f"UC_X86_REG_{name}"), value)
    cr0, cr3, cr4, efer, user = ControlReader(engine).read()
    assert (cr0, cr3, cr4, efer, user) == (0x11, 0x7000, 0x20, 0x500, False)
