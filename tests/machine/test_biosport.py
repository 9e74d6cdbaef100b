# SPDX-License-Identifier: GPL-2.0-only
"""machine/biosport.py: the port behind the BIOS's stubs, and what is saved with it."""

from __future__ import annotations

from machine.biosport import BIOS_PORT, BiosPort
from machine.bus import PortBus
from machine.drive import Drive


def test_the_handler_is_told_which_cpu_calls() -> None:
    port, ports, calls = BiosPort(), PortBus(), []
    port.attach(ports)
    ports.write(0, BIOS_PORT, 1, 0)  # nobody listens
    port.handler = calls.append
    ports.write(3, BIOS_PORT, 1, 0)
    assert calls == [3]
    assert ports.read(0, BIOS_PORT, 1) == 0xFF


def test_drives_and_notes_are_saved() -> None:
    port, other = BiosPort(), BiosPort()
    port.drives[0x80] = Drive(bytes(1024), floppy=False)
    port.drives[0x80].write(1, b"x" * 512)
    port.drives[0] = Drive(b"f" * 512, floppy=True, read_only=True)
    port.notes["boot_drive"] = 0x80
    other.load(port.save())
    assert sorted(other.drives) == [0, 0x80]
    assert other.drives[0x80].read(1, 1) == b"x" * 512
    assert other.drives[0].read_only
    assert other.notes == {"boot_drive": 0x80}
