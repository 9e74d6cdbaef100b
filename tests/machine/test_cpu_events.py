# SPDX-License-Identifier: GPL-2.0-only
"""What comes to a CPU from outside its own code, and what becomes of its exceptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from machine import Fault, Machine, Topology
from machine.mmu import PTE_P, PTE_RW, PTE_US

RESET = 0xF000, 0xFFF0


def real(code: str, vectors: dict[int, str] | None = None, topology: str = "1x32M") -> Machine:
    """A machine in real mode at 0:0x1000, with handlers for some vectors."""
    machine = Machine(Topology.parse(topology))
    memory = machine.memory
    memory.write(0x1000, bytes.fromhex(code))
    for number, (vector, handler) in enumerate((vectors or {}).items()):
        memory.write_u32(4 * vector, 0x2000 + 0x100 * number)
        memory.write(0x2000 + 0x100 * number, bytes.fromhex(handler))
    machine.open_bus = True
    machine.cpus[0].start_real(0, 0x1000, sp=0x8000)
    return machine


def say(letter: str) -> str:
    return f"b0{ord(letter):02x} e6e9"


def test_an_nmi_is_taken_with_interrupts_off_and_not_within_another() -> None:
    machine = real(f"fa 90 90 {say('.')} f4", {2: f"{say('n')} 90 90 {say('m')} cf"})
    machine.run(1)
    machine.nmi()
    machine.run(2)
    machine.nmi()  # while the first is being served
    assert machine.run().kind == "halt"
    assert machine.console.text == "nmnm."


def test_an_nmi_ends_a_halt_with_interrupts_off() -> None:
    machine = real(f"fa f4 {say('.')} f4", {2: f"{say('n')} cf"})
    assert machine.run().kind == "halt"
    machine.nmi()
    assert machine.run().kind == "halt"
    assert machine.console.text == "n."


def test_the_instruction_behind_sti_runs_before_any_interrupt() -> None:
    machine = real(f"fa 90 fb {say('1')} f4", {0x40: f"{say('i')} cf"})
    apic = machine.apics.apics[0]
    apic.firmware_setup()
    apic.accept(0, 0x40, False)
    machine.run()
    assert machine.console.text == "i1"  # mov al is in the shadow, the OUT is not
    assert machine.cpus[0].regs.rip == 0x1008


def test_an_interrupt_that_went_away_is_not_taken() -> None:
    machine = real(f"fb 90 90 {say('.')} fa f4", {0x40: f"{say('i')} cf"})
    machine.cpus[0].set_interrupt(True)
    assert machine.run().kind == "halt"
    assert machine.console.text == "."


def test_an_exception_without_a_handler_ends_the_run_by_name() -> None:
    machine = Machine(Topology.parse("1x32M"))
    machine.memory.write(0x1000, b"\x0f\x0b")
    machine.cpus[0].start_protected(0x1000)
    stop = machine.run()
    assert (stop.kind, stop.code, stop.rip) == ("fault", 76, 0x1000)
    assert (
        stop.message == "cpu 0 at rip 0x1000: exception 6 (#UD invalid opcode), there is no handler"
    )


def test_a_table_that_leads_nowhere_is_a_triple_fault_by_name() -> None:
    machine = Machine(Topology.parse("1x32M"))
    machine.memory.write(0x1000, b"\x0f\x0b")
    cpu = machine.cpus[0]
    cpu.start_protected(0x1000)
    cpu.regs.idtr_base, cpu.regs.idtr_limit = 0x3000, 0x7FF
    for vector in range(32):
        machine.memory.write_u64(0x3000 + 8 * vector, 0x8E00 << 32 | 0x50 << 16)
    stop = machine.run()
    assert stop.kind == "fault"
    assert stop.message == "cpu 0 at rip 0x1000: exception 6 (#UD invalid opcode): triple fault"


def test_a_handler_that_cannot_begin_does_not_run_for_ever() -> None:
    machine = real("0f0b", {6: "0f0b"})
    stop = machine.run(max_instructions=100)
    assert (stop.kind, stop.instructions) == ("budget", 100)


def test_who_wants_to_be_asked_is_asked_before_the_guests_handler() -> None:
    seen: list[int | None] = []

    def look(_cpu: object, fault: Fault) -> bool:
        seen.append(fault.vector)
        return False

    machine = real(f"90 0f0b {say('.')} f4", {6: f"{say('u')} 89e5 83460002 cf"})
    machine.fault_handler = look
    assert machine.run().kind == "halt"
    assert (seen, machine.console.text) == ([6], "u.")


def test_a_jump_into_nothing_is_an_undefined_instruction() -> None:
    machine = real("66ea000000c00000", {6: f"{say('u')} f4"})
    machine.cpus[0].regs.cs_limit = 0xFFFFFFFF
    assert machine.run(100).kind == "halt"
    assert machine.console.text == "u"


def test_icebp_is_a_debug_trap() -> None:
    machine = real(f"f1 {say('.')} f4", {1: f"{say('d')} cf", 6: f"{say('u')} f4"})
    assert machine.run(100).kind == "halt"
    assert machine.console.text == "d."


def test_init_stops_another_cpu_and_startup_begins_in_real_mode() -> None:
    machine = real("f4", topology="1x32M,cpus=2")
    other = machine.cpus[1]
    machine.memory.write(0x9000, bytes.fromhex(f"8cc8 {say('s')} f4"))
    other.receive_startup(9)
    assert machine.run().kind == "halt"
    assert (machine.console.text, other.regs.rax & 0xFF00) == ("s", 0x900)
    assert other.regs.cr0 == 0x6000_0010  # its caches are off: no firmware has been there
    other.receive_startup(9)  # not waiting for it: ignored
    assert machine.run().instructions == 0
    other.receive_init()
    assert other.state == "stopped"
    other.receive_startup(9)
    machine.run()
    assert machine.console.text == "ss"


def test_init_to_the_boot_cpu_starts_it_at_the_reset_vector() -> None:
    # unreal: ds reaches the APIC, which sends INIT to itself
    machine = real("66bf0003e0fe 6667c70700450400 90 f4")
    machine.memory.write(0xFFFF0, bytes.fromhex(f"{say('r')} fa f4"))
    machine.cpus[0].regs.ds_limit = 0xFFFFFFFF
    stop = machine.run(100)
    assert (stop.kind, machine.console.text) == ("halt", "r")
    assert machine.cpus[0].regs.cs == RESET[0]


def test_user_mode_loads_segments_from_a_table_on_a_kernel_page(
    guest: Callable[..., Any],
) -> None:
    g = guest("1x64M")
    table = (0, 0, 0, 0x00CFF2000000FFFF, 0x00AFFA000000FFFF)
    g.put(b"".join(entry.to_bytes(8, "little") for entry in table), 0x200000)
    g.tables.map(1 << 32, 0x200000, 4096, PTE_P | PTE_RW)
    g.tables.map(2 << 32, 0x100000, 4096, PTE_P | PTE_RW | PTE_US)
    # mov ds, [0x1b] works; mov rax, [the table] does not
    machine = g.start("b81b000000 8ed8 48bb0000000001000000 488b03", at=0x100000)
    cpu = machine.cpus[0]
    regs, hidden = cpu.regs, cpu.hidden
    regs.gdtr_base, regs.gdtr_limit = 1 << 32, 0x27
    hidden.load()
    hidden.set_segment(1, 0x23, 0, 0xFFFFFFFF, 0x00AFFB00)
    hidden.set_segment(2, 0x1B, 0, 0xFFFFFFFF, 0x00CFF300)
    hidden.store()
    stop = machine.run(100)
    assert regs.ds == 0x1B
    assert machine.memory.read_u64(0x200018) >> 40 & 1  # the Accessed bit is written, too
    assert (stop.kind, stop.instructions) == ("fault", 3)
    assert "read of 0x100000000: protection violation" in stop.message
