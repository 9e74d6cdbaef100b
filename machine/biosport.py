# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: ARG002  (the bus tells a device more than most need)
"""The firmware's way into Python, and the disks it serves.

A BIOS service is a few bytes of ROM: they push the number of the service, write to this port, and
return to the caller. The `handler`, which the firmware sets, does the work in between on the
registers and the RAM of the CPU that called. With no handler the port floats.

The drives are the board's; hard disks are on its ATA channels, too (`ata`), floppies nowhere else.
What the firmware itself has to remember from call to call, beyond the BIOS data area, are the few
numbers in `notes`: the whole is saved with the machine."""

from __future__ import annotations

from collections.abc import Callable

from machine.bus import PortBus, State
from machine.devstate import octets, signed
from machine.drive import Drive

BIOS_PORT = 0xEE
MAX_DRIVES = 0x100


class BiosPort:
    """Port EEh. `drives` by the number that software knows them by: 0, 1 floppies, 80h on hard
    disks."""

    name = "bios"
    width = 1

    def __init__(self) -> None:
        self.handler: Callable[[int], None] | None = None
        """Called with the id of the CPU."""
        self.drives: dict[int, Drive] = {}
        self.notes: dict[str, int] = {}

    def attach(self, ports: PortBus) -> None:
        """Put it on the port bus."""
        ports.attach(BIOS_PORT, 1, self)

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        return 0xFF

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        if self.handler is not None:
            self.handler(cpu_id)

    def save(self) -> State:
        state: State = {f"note_{key}": value for key, value in self.notes.items()}
        state["drives"] = bytes(sorted(self.drives))
        for drive_number, drive in self.drives.items():
            state |= drive.save(f"drive{drive_number:02x}_")
        return state

    def load(self, state: State) -> None:
        numbers = octets(state, "drives")
        self.drives = {n: Drive.load(state, f"drive{n:02x}_") for n in numbers}
        notes = [key for key in state if key.startswith("note_")]
        self.notes = {key[5:]: signed(state, key) for key in notes}
