# SPDX-License-Identifier: GPL-2.0-only
"""Looking at a CPU, and address line 20."""

from __future__ import annotations

from machine import Machine, Topology


def machine(code: str) -> Machine:
    made = Machine(Topology.parse("1x32M"))
    made.memory.write(0x1000, bytes.fromhex(code))
    return made


def test_linear_addresses_are_segment_base_plus_offset() -> None:
    made = machine("f4")
    cpu = made.cpus[0]
    cpu.start_real(0, 0x1000, es=0xFFFF)
    assert cpu.linear("es", 0x10) == 0x100000
    assert cpu.translate(0x100000) == 0x100000
    made.a20 = False
    assert cpu.translate(0x100000) == 0


def test_a20_off_folds_the_odd_megabytes_for_the_guest_too() -> None:
    # es = 0xffff: mov [es:0x10+0x500], al; then on again
    made = machine("26a21005 f4 26a21005 f4")
    cpu = made.cpus[0]
    cpu.start_real(0, 0x1000, es=0xFFFF, ax=0x55)
    made.a20 = False
    made.run()
    assert (made.memory.read_u8(0x500), made.memory.read_u8(0x100500)) == (0x55, 0)
    made.a20 = True
    cpu.regs.rax = 0x66
    cpu.wake()
    made.run()
    assert (made.memory.read_u8(0x500), made.memory.read_u8(0x100500)) == (0x55, 0x66)


def test_a_jump_to_itself_is_seen_in_each_length() -> None:
    for code, loops in (("ebfe", True), ("e9fdff", True), ("ebfd", False), ("90", False)):
        made = machine(code)
        made.cpus[0].start_real(0, 0x1000)
        assert made.cpus[0].jumps_to_itself() is loops
    made = machine("e9fbffffff")
    made.cpus[0].start_protected(0x1000)
    assert made.cpus[0].jumps_to_itself()


def test_a_waiting_loop_is_seen_behind_a_segment_base() -> None:
    made = machine("90 f390 ebfc")
    made.cpus[0].start_real(0x100, 1)
    assert made.cpus[0].spinning()
    made.cpus[0].start_real(0x200, 1)
    assert not made.cpus[0].spinning()


def test_code_is_read_as_far_as_it_is_there() -> None:
    made = machine("f4")
    cpu = made.cpus[0]
    cpu.start_protected(0x1000)
    end = made.topology.below_4g
    made.memory.write(end - 2, b"\x12\x34")
    assert cpu.code(end - 2, 2) == b"\x12\x34"
    assert cpu.code(end, 4) == b""
