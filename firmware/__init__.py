# SPDX-License-Identifier: GPL-2.0-only
"""What the board tells the operating system.

`power_on` is POST: it leaves the e820 map, ACPI tables and boot_params in guest RAM. `load_image`
turns a boot script, an ELF executable or a flat binary into segments, `place_image` puts them into
RAM and `enter_image` starts the boot CPU on them. The `read_*` functions are the other direction:
they give back what guest RAM says, and are all the kernel has to go by."""

from firmware.acpi import Table, find_rsdp, find_table, tables
from firmware.boot_params import BOOT_PARAMS, BootParams, read_boot_params, read_e820
from firmware.e820 import E820Entry, e820_map
from firmware.entry import enter_image
from firmware.images import (
    Image,
    PendingImage,
    Segment,
    load_image,
    load_script,
    place_image,
)
from firmware.madt import Madt, read_madt
from firmware.post import power_on
from firmware.slit import read_slit
from firmware.srat import CpuAffinity, MemoryAffinity, Srat, read_srat

__all__ = [
    "BOOT_PARAMS",
    "BootParams",
    "CpuAffinity",
    "E820Entry",
    "Image",
    "Madt",
    "MemoryAffinity",
    "PendingImage",
    "Segment",
    "Srat",
    "Table",
    "e820_map",
    "enter_image",
    "find_rsdp",
    "find_table",
    "load_image",
    "load_script",
    "place_image",
    "power_on",
    "read_boot_params",
    "read_e820",
    "read_madt",
    "read_slit",
    "read_srat",
    "tables",
]
