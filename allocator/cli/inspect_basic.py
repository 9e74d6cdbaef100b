# SPDX-License-Identifier: GPL-2.0-only
"""What `numalab boot --inspect` can show after a run.

An `Inspection` is one WHAT, parsed before the machine is even built, so that a typing mistake costs
no run. `render` reads guest RAM and nothing else: the firmware's tables are parsed back, structures
are found by following the kernel's pointers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from firmware import read_e820, read_slit, read_srat
from machine import BringUpError, BusError, Machine, PhysicalMemory, UsageError, translate

from ..kernel_globals import G_MAGIC, G_NR_CPU_IDS, G_PGD, KERNEL_BASE, KERNEL_MAGIC
from ..layout import NODE_DATA, unsigned
from ..mm_types import PAGE_SIZE
from ..mmzone import (
    MAX_NUMNODES,
    MAX_ORDER,
    MIGRATE_PCPTYPES,
    MIGRATETYPE_NAMES,
    NR_CPUS,
    PAGEBLOCK_ORDER,
    ZONE_NAMES,
)
from ..views import Page, Zone, for_each_node, pfn_valid

MAX_DUMP = 16 << 20
"""Bytes of one hexdump."""
_MAX_PHYS = 1 << 46
_FORMS = (
    "e820 srat slit zones buddyinfo zoneinfo page:PFN freelist:NODE/ZONE/ORDER "
    + "hexdump:ADDRESS,LENGTH"
)


_WITHOUT_KERNEL = ("e820", "srat", "slit", "hexdump")


def has_kernel(memory: PhysicalMemory) -> bool:
    """True when a booted page allocator is in RAM."""
    return memory.is_ram(KERNEL_BASE, PAGE_SIZE) and memory.words[G_MAGIC] == KERNEL_MAGIC


@dataclass(frozen=True)
class Inspection:
    """One thing to show: `what` as it was written, and how to get its text from a machine."""

    what: str
    _show: Callable[[Machine], str]

    def render(self, machine: Machine) -> str:
        """The text, ending in a newline. Raises `UsageError` and `BusError` for what is not there
        and `BringUpError` for tables the guest has damaged, naming `what`."""
        if self.what.partition(":")[0] not in _WITHOUT_KERNEL and not has_kernel(machine.memory):
            raise BringUpError(f"--inspect {self.what}: no kernel has been booted on this machine")
        try:
            text = self._show(machine)
        except (IndexError, ValueError, OverflowError) as error:
            raise BusError(0, 0, f"--inspect {self.what}: damaged structures ({error})") from None
        return text if text.endswith("\n") else text + "\n"


def parse_inspection(text: str) -> Inspection:
    """The inspection that `text` names. Raises `UsageError`."""
    name, colon, rest = text.partition(":")
    if name in _PLAIN and not colon:
        return Inspection(text, _PLAIN[name])
    if name in _WITH_ARGUMENT and rest:
        return Inspection(text, _WITH_ARGUMENT[name](text, rest))
    raise UsageError(f"--inspect {text}: expected one of {_FORMS}")


def _number(text: str, word: str) -> int:
    try:
        value = int(word, 0)
    except ValueError:
        raise UsageError(f"--inspect {text}: '{word}' is not a number") from None
    if not 0 <= value < 1 << 64:
        raise UsageError(f"--inspect {text}: {word} is not an unsigned 64-bit number")
    return value


# --- the firmware's tables ------------------------------------------------------------------------
def _e820(machine: Machine) -> str:
    return "\n".join(f"BIOS-e820: {entry}" for entry in read_e820(machine.memory))


def _srat(machine: Machine) -> str:
    srat = read_srat(machine.memory)
    if srat is None:
        return "there is no SRAT: the machine has a single node"
    lines = []
    for cpu in srat.cpus:
        state = "" if cpu.enabled else " (disabled)"
        lines.append(f"SRAT: PXM {cpu.proximity_domain} APIC {cpu.apic_id:#04x}{state}")
    for piece in srat.memory:
        state = "" if piece.enabled else " (disabled)"
        span = f"[mem {piece.base:#010x}-{max(piece.end - 1, 0):#010x}]"
        lines.append(f"SRAT: PXM {piece.proximity_domain} {span}{state}")
    return "\n".join(lines)


def _slit(machine: Machine) -> str:
    rows = read_slit(machine.memory)
    if rows is None:
        return "there is no SLIT: the machine has a single node"
    lines = ["from\\to" + "".join(f"{to:5}" for to in range(len(rows)))]
    lines += [f"{start:7}" + "".join(f"{d:5}" for d in row) for start, row in enumerate(rows)]
    return "\n".join(lines)


# --- the kernel's structures ----------------------------------------------------------------------
def _zones(machine: Machine) -> str:
    m = machine.memory.words
    lines = [
        "node zone     start pfn    end pfn   present   managed      free       min       low"
        "      high"
    ]
    for node in for_each_node(m):
        for zone in node.zones:
            if zone.populated:
                counts = (zone.present_pages, zone.managed_pages, zone.free_pages)
                numbers = "".join(f"{value:10}" for value in (*counts, *zone.watermarks))
                span = f"{zone.start_pfn:#9x} {zone.end_pfn:#10x}"
                lines.append(f"{zone.nid:4} {zone.name:8} {span}{numbers}")
    return "\n".join(lines)


def _buddyinfo(machine: Machine) -> str:
    from ..inspect.buddyinfo import buddyinfo

    return buddyinfo(machine.memory.words).text


def _zoneinfo(machine: Machine) -> str:
    from ..inspect.zoneinfo import zoneinfo

    return zoneinfo(machine.memory.words).text


def _page(text: str, rest: str) -> Callable[[Machine], str]:
    pfn = _number(text, rest)

    def show(machine: Machine) -> str:
        m = machine.memory.words
        if not pfn_valid(m, pfn):
            raise UsageError(f"--inspect {text}: frame {pfn:#x} has no struct page")
        return page_text(Page(m, pfn))

    return show


def page_text(page: Page) -> str:
    """The struct page of a frame, field by field, and what it says about the frame."""
    names = "|".join(page.flag_names) or "-"
    words = [unsigned(page.m[page.word + n]) for n in range(8)]
    return "\n".join(
        (
            f"frame {page.pfn:#x}  node {page.nid}  zone {page.zone}  "
            f"pageblock {page.pfn >> PAGEBLOCK_ORDER} ({page.migratetype})",
            _state(page),
            f"struct page at {page.address:#x} (physical {page.word << 3:#x})",
            f"  flags       {words[0]:#018x}  {names}",
            f"  lru         next {words[1]:#018x}  prev {words[2]:#018x}",
            f"  mapping     {words[3]:#018x}",
            f"  index       {words[4]:#x}",
            f"  private     {words[5]:#x}",
            f"  _mapcount   {page.mapcount}",
            f"  _refcount   {page.refcount}",
            f"  mem_cgroup  {words[7]:#018x}",
        )
    )


def _state(page: Page) -> str:
    """One line: what the frame is used for, as far as its struct page and its buddies tell."""
    if page.buddy:
        return f"free, head of a block of order {page.order}"
    for order in range(1, MAX_ORDER):
        head = Page(page.m, page.pfn & -(1 << order))
        if head.pfn != page.pfn and head.buddy and head.order >= order:
            return f"free, inside the block of order {head.order} at frame {head.pfn:#x}"
    if "reserved" in page.flag_names:
        return "reserved: never given to the allocator"
    if page.refcount > 0:
        return f"allocated, {page.refcount} reference{'s' if page.refcount != 1 else ''}"
    zone = Zone(page.m, page.nid, page.zid)
    for cpu in range(min(page.m[G_NR_CPU_IDS], NR_CPUS)):
        for migratetype in range(MIGRATE_PCPTYPES):
            if page.pfn in zone.pcp_list(cpu, migratetype):
                return f"free, on the {MIGRATETYPE_NAMES[migratetype]} list of cpu {cpu}"
    return "allocated, inside a block that begins at a lower frame"


def _freelist(text: str, rest: str) -> Callable[[Machine], str]:
    words = rest.split("/")
    if len(words) != 3:
        raise UsageError(f"--inspect {text}: freelist:NODE/ZONE/ORDER expected")
    nid, order = _number(text, words[0]), _number(text, words[2])
    names = [name.lower() for name in ZONE_NAMES]
    zone_word = words[1].lower()
    zid = names.index(zone_word) if zone_word in names else -1
    if zid < 0 and zone_word.isdecimal() and int(zone_word) < len(names):
        zid = int(zone_word)
    if zid < 0:
        raise UsageError(f"--inspect {text}: zone '{words[1]}': one of {' '.join(ZONE_NAMES)}")
    if order >= MAX_ORDER:
        raise UsageError(f"--inspect {text}: order {order} is not below {MAX_ORDER}")

    def show(machine: Machine) -> str:
        m = machine.memory.words
        if nid >= MAX_NUMNODES or not m[NODE_DATA + nid]:
            raise UsageError(f"--inspect {text}: there is no node {nid}")
        return _free_area_text(Zone(m, nid, zid), order)

    return show


def _free_area_text(zone: Zone, order: int) -> str:
    count = zone.nr_free()[order]
    lines = [f"node {zone.nid} zone {zone.name} order {order}: nr_free {count}"]
    for migratetype, name in enumerate(MIGRATETYPE_NAMES):
        pfns = zone.free_list(order, migratetype)
        frames = " ".join(f"{pfn:#x}" for pfn in pfns) or "-"
        lines.append(f"  {name:12} {len(pfns):6}  {frames}")
    return "\n".join(lines)


# --- memory ---------------------------------------------------------------------------------------
def _hexdump(text: str, rest: str) -> Callable[[Machine], str]:
    words = rest.split(",")
    if len(words) != 2:
        raise UsageError(f"--inspect {text}: hexdump:ADDRESS,LENGTH expected")
    address, length = _number(text, words[0]), _number(text, words[1])
    if not 1 <= length <= MAX_DUMP:
        raise UsageError(f"--inspect {text}: the length is not between 1 and {MAX_DUMP}")

    def show(machine: Machine) -> str:
        return hexdump(address, read_guest(machine.memory, address, length))

    return show


def read_guest(memory: PhysicalMemory, address: int, length: int) -> bytes:
    """`length` bytes at a physical address, or at a kernel virtual address (unsigned) through the
    kernel's page tables. Raises `BusError`."""
    if address < _MAX_PHYS:
        return memory.read(address, length)
    out = bytearray()
    while length:
        here = translate(memory, unsigned(memory.words[G_PGD]), address)
        step = min(length, PAGE_SIZE - address % PAGE_SIZE)
        if here is None:
            raise BusError(address, step, f"nothing is mapped at {address:#x}")
        out += memory.read(here.phys, step)
        address, length = address + step, length - step
    return bytes(out)


def hexdump(address: int, data: bytes) -> str:
    """Sixteen bytes a line as `hexdump -C` shows them, repeated lines as one asterisk."""
    lines: list[str] = []
    previous = b""
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        if row == previous and len(row) == 16:
            if lines[-1] != "*":
                lines.append("*")
            continue
        previous = row
        pairs = [f"{byte:02x}" for byte in row]
        digits = " ".join(pairs[:8]).ljust(23) + "  " + " ".join(pairs[8:]).ljust(23)
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{address + at:012x}  {digits}  |{text}|")
    lines.append(f"{address + len(data):012x}")
    return "\n".join(lines)


_PLAIN: dict[str, Callable[[Machine], str]] = {
    "e820": _e820,
    "srat": _srat,
    "slit": _slit,
    "zones": _zones,
    "buddyinfo": _buddyinfo,
    "zoneinfo": _zoneinfo,
}
_WITH_ARGUMENT: dict[str, Callable[[str, str], Callable[[Machine], str]]] = {
    "page": _page,
    "freelist": _freelist,
    "hexdump": _hexdump,
}
