# SPDX-License-Identifier: GPL-2.0-only
"""INT 19h and INT 18h: bring in a boot sector, or say that there is none.

The first sector of the boot drive goes to 0000:7C00 and is entered there with the number of the
drive in DL, the other registers as QEMU's BIOS leaves them. Without a drive, or without 55AAh at
the end of its first sector, INT 18h says so on the screen and the machine halts."""

from __future__ import annotations

import struct

from firmware.bios.call import IF, Call
from firmware.bios.rom import NO_BOOT_DEVICE, ROM_SEGMENT
from firmware.bios.video import Video
from machine import Machine

BOOT_SECTOR = 0x7C00
SIGNATURE = b"\x55\xaa"
MAGIC_AX = 0xAA55
NOTE_DRIVE = "boot_drive"
_FRAME = struct.Struct("<HHH")


class Bootstrap:
    """The services. The number of the boot drive is among the board's notes."""

    def __init__(self, machine: Machine, video: Video) -> None:
        self._machine, self._video = machine, video

    @property
    def drive(self) -> int:
        """The drive to boot from; a floppy before a hard disk if nobody has said."""
        bios = self._machine.pc.bios
        return bios.notes.get(NOTE_DRIVE, min(bios.drives, default=0))

    def sector(self) -> bytes | None:
        """The boot sector, None if there is none."""
        drive = self._machine.pc.bios.drives.get(self.drive)
        data = drive.read(0, 1) if drive is not None else None
        return data if data is not None and data[510:] == SIGNATURE else None

    def load(self) -> bool:
        """Put the boot sector where it belongs; False if there is none."""
        data = self.sector()
        if data is None:
            return False
        self._machine.memory.write(BOOT_SECTOR, data)
        self._machine.code_written(BOOT_SECTOR, len(data))
        return True

    def start(self) -> None:
        """Enter the boot sector on CPU 0 as POST does, or what says that there is none."""
        cpu = self._machine.cpus[0]
        if not self.load():
            cpu.start_real(ROM_SEGMENT, NO_BOOT_DEVICE, sp=BOOT_SECTOR)
            return
        from firmware.bios.rom import BOOT_STACK

        cpu.start_real(0, BOOT_SECTOR, dx=self.drive, sp=BOOT_STACK)
        cpu.regs.rax = MAGIC_AX

    def __call__(self, call: Call) -> int:
        """INT 19h: the stub has made a stack with a frame on it."""
        if self.load():
            for name in ("rbx", "rcx", "rsi", "rdi", "rbp"):
                call.values[name] = 0
            call.ds = call.es = 0
            call.eax, call.edx = MAGIC_AX, self.drive
            frame = _FRAME.pack(BOOT_SECTOR, 0, IF | 2)
        else:
            frame = _FRAME.pack(NO_BOOT_DEVICE, ROM_SEGMENT, 2)
        call.write(call.ss, call.sp + 2, frame)
        return 0

    def nothing(self, call: Call) -> int:  # noqa: ARG002
        """INT 18h."""
        self._video.print("No bootable device.\r\n")
        return 0
