# SPDX-License-Identifier: GPL-2.0-only
"""firmware/entry.py and board.py: the boot CPU begins where the protocol says."""

from __future__ import annotations

from firmware import enter_image, load_script, place_image, power_on
from machine.machine import Machine
from machine.paging import PageTableBuilder
from machine.topology import Topology

WRITABLE = 2


def test_a_script_runs_with_boot_params_in_rsi() -> None:
    machine = Machine(Topology.parse("2x64M"))
    power_on(machine)
    image = load_script(
        "nop\n_start: mov 0x202(%rsi), %ebx\n mov value(%rip), %rcx\n"
        " mov %rsp, %rdx\n hlt\n.data\nvalue: .quad 0x55aa\n"
    )
    place_image(machine, image)
    frames = iter(range(0x200000, 0x300000, 4096))
    tables = PageTableBuilder(machine.memory, lambda: next(frames))
    tables.map(0, 0, 1 << 30, WRITABLE)
    enter_image(machine, image, tables.root, 0x80000)
    stop = machine.run(max_instructions=100)
    assert stop.kind == "halt", stop
    regs = machine.cpus[0].regs
    assert regs.rsi == 0x90000
    assert regs.rbx == int.from_bytes(b"HdrS", "little")
    assert regs.rcx == 0x55AA
    assert regs.rdx == 0x80000
    assert not regs.rflags & 0x200
