# SPDX-License-Identifier: GPL-2.0-only
"""numalab.inc: its constants are the kernel's, its macros do what they say."""

from __future__ import annotations

import re
from types import ModuleType

import pytest

from allocator import (
    file_calls,
    gfp,
    hypercall,
    layout,
    madvise,
    mempolicy,
    mlock,
    mm_types,
    mmap,
    mmzone,
    mremap,
)
from allocator.boot_image import boot_image
from allocator.scripts import SCRIPTS
from allocator.structs import Struct
from firmware import boot_params, e820, load_script
from machine import DOORBELL_PORT, Machine, Topology, cpuid, devices

INCLUDE = SCRIPTS / "include" / "numalab.inc"
U64 = (1 << 64) - 1
STRUCTS: dict[str, Struct] = {
    "PAGE": mm_types.PAGE,
    "FREE_AREA": mmzone.FREE_AREA,
    "ZONE": mmzone.ZONE,
    "PER_CPU_PAGESET": mmzone.PER_CPU_PAGESET,
    "PGLIST_DATA": mmzone.PGLIST_DATA,
}
GFP_BIT_NAMES = {
    name.removesuffix("_BIT"): value for name, value in vars(gfp).items() if name.endswith("_BIT")
}


def constants() -> dict[str, int]:
    """Every `.set` of the include, evaluated, as unsigned numbers."""
    found: dict[str, int] = {}
    for name, text in re.findall(r"^\s*\.set\s+(\w+),\s*([^#\n]+)", INCLUDE.read_text(), re.M):
        assert name not in found, f"{name} is set twice"
        found[name] = sum_of(text, found) & U64
    return found


def sum_of(text: str, known: dict[str, int]) -> int:
    value = 0
    for word in text.split("|"):
        word = word.strip()
        value |= known[word] if word in known else int(word, 0)
    return value


def from_module(module: ModuleType, name: str) -> int:
    value = getattr(module, name)
    assert isinstance(value, int)
    return value


def expected(name: str) -> int:
    """What the Python side says the constant `name` is."""
    special = {
        "PORT_CONSOLE": devices.DEBUGCON_PORT,
        "PORT_SERIAL": devices.UART_PORT,
        "PORT_DEBUG_EXIT": devices.DEBUG_EXIT_PORT,
        "PORT_DOORBELL": DOORBELL_PORT,
        "CPUID_SIGNATURE": cpuid.HYPERVISOR_LEAF,
        "CPUID_MAILBOX": cpuid.HYPERVISOR_LEAF + 1,
        "BULK_MAX": hypercall.BULK_MAX,
        "RING_ENTRIES": hypercall.RING_ENTRIES,
        "PRINT_MAX": hypercall.PRINT_MAX,
        "PAGE_BUDDY": mm_types.COUNTS_BUDDY,
        "PAGE__mapcount": 8 * mm_types.P_COUNTS,
        "PAGE__refcount": 8 * mm_types.P_COUNTS + mm_types.REF_SHIFT // 8,
        "LIST_HEAD_next": 0,
        "LIST_HEAD_prev": 8 * (mm_types.P_PREV - mm_types.P_NEXT),
        "SIZEOF_LIST_HEAD": mmzone.FREE_AREA.fields["free_list"].words * 8,
        "BOOT_PARAMS_e820_entries": boot_params.E820_ENTRIES,
        "BOOT_PARAMS_e820_table": boot_params.E820_TABLE,
        "BOOT_PARAMS_ramdisk_image": boot_params.RAMDISK_IMAGE,
        "BOOT_PARAMS_ramdisk_size": boot_params.RAMDISK_SIZE,
        "E820_ENTRY_addr": 0,
        "E820_ENTRY_size": 8,
        "E820_ENTRY_type": 16,
        "SIZEOF_E820_ENTRY": boot_params._ENTRY.size,
        "E820_USABLE": e820.USABLE,
        "E820_RESERVED": e820.RESERVED,
    }
    if name in special:
        return special[name]
    for prefix, table in (("HC_", hypercall.HYPERCALLS), ("INFO_", hypercall.INFO)):
        if name.startswith(prefix):
            return table[name.removeprefix(prefix)]
    if name.startswith("MAILBOX_"):
        return 8 * hypercall.MAILBOX[name.removeprefix("MAILBOX_")]
    if name in hypercall.RING_LAYOUT:
        return 8 * hypercall.RING_LAYOUT[name]
    if name in hypercall.ERRNO:
        return hypercall.ERRNO[name]
    if name == "__GFP_RECLAIM":
        return gfp.RECLAIM
    if name.startswith("__GFP_"):
        return GFP_BIT_NAMES[name.removeprefix("__")]
    if name.startswith("SIZEOF_"):
        return STRUCTS[name.removeprefix("SIZEOF_")].size
    for prefix, struct in STRUCTS.items():
        field = name.removeprefix(f"{prefix}_")
        if name.startswith(f"{prefix}_") and field in struct.fields:
            return 8 * struct[field]
    for module in (
        layout,
        mm_types,
        mmzone,
        gfp,
        mmap,
        madvise,
        mempolicy,
        mlock,
        mremap,
        file_calls,
    ):
        if hasattr(module, name):
            return from_module(module, name) & U64
    raise AssertionError(f"{name} of numalab.inc has no counterpart in Python")


@pytest.mark.parametrize(("name", "value"), constants().items())
def test_every_constant_is_the_kernels(name: str, value: int) -> None:
    assert value == expected(name)


def test_every_hypercall_errno_and_mailbox_word_is_in_the_include() -> None:
    known = constants()
    for prefix, table in (
        ("HC_", hypercall.HYPERCALLS),
        ("INFO_", hypercall.INFO),
        ("MAILBOX_", hypercall.MAILBOX),
        ("", hypercall.RING_LAYOUT),
        ("", hypercall.ERRNO),
        ("__", GFP_BIT_NAMES),
    ):
        for name in table:
            assert f"{prefix}{name}" in known


def test_the_e820_entry_is_laid_out_as_the_boot_protocol_says() -> None:
    packed = boot_params._ENTRY.pack(0x1111, 0x2222, 0x33)
    assert packed[:8] == (0x1111).to_bytes(8, "little")
    assert packed[8:16] == (0x2222).to_bytes(8, "little")
    assert packed[16:] == (0x33).to_bytes(4, "little")


def console(body: str) -> str:
    text = f'.include "numalab.inc"\n.globl _start\n_start: numalab_init\n{body}\nexit 0\n'
    guest = boot_image(Machine(Topology.parse("1x64M")), load_script(text))
    stop = guest.machine.run(1_000_000)
    assert (stop.kind, stop.code) == ("exit", 0), stop.message
    return guest.machine.console.text


@pytest.mark.parametrize(
    ("body", "printed"),
    [
        ('print "two words\\n"', "two words\n"),
        ("print_decimal 0", "0"),
        ("print_decimal 1234567890", "1234567890"),
        ("print_decimal 42, 6", "    42"),
        ("print_decimal 1234567, 3", "1234567"),
        ("mov r9, -1\nprint_decimal r9", "18446744073709551615"),
        ("print_hex 0xbeef", "0xbeef"),
        ("print_hex 0xa, 5", "0x0000a"),
        ("mov rax, -1\nprint_hex rax, 3", "0xffffffffffffffff"),
        ("mov ebx, 0x7ffb\npfn_to_page rcx, rbx\nprint_hex rcx", "0xffffea00001ffec0"),
        ("mov ebx, 0x7ffb\npfn_to_virt rcx, rbx\nprint_hex rcx", "0xffff888007ffb000"),
        (
            "mov ebx, 0x7ffb\npfn_to_page rcx, rbx\npage_to_pfn rdx, rcx\nprint_hex rdx",
            "0x7ffb",
        ),
    ],
)
def test_a_macro_prints_what_it_says(body: str, printed: str) -> None:
    assert console(body) == printed


def test_printing_leaves_all_registers_as_they_were() -> None:
    names = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", *(f"r{n}" for n in range(8, 15))]
    load = "\n".join(f"mov {name}, {index + 100}" for index, name in enumerate(names))
    check = "\n".join(f"cmp {name}, {index + 100}\njne changed" for index, name in enumerate(names))
    body = f'{load}\nprint "x"\nprint_decimal rbx, 9\nprint_hex rsi, 4\n{check}\nexit 0\n'
    assert console(body + "changed: exit 1") == "x      1010x0068"


def test_a_hypercall_tells_result_and_errno_and_sets_zf() -> None:
    body = """
    hypercall HC_INFO, INFO_NR_CPUS, 0
    jnz     wrong
    print_decimal rax
    hypercall 12345
    jz      wrong
    print_decimal rdx
    exit    0
wrong: exit 1"""
    assert console(body) == "138"


def test_fail_says_why_and_exits_with_1() -> None:
    text = '.include "numalab.inc"\n.globl _start\n_start: numalab_init\nfail "no luck"\n'
    guest = boot_image(Machine(Topology.parse("1x64M")), load_script(text))
    assert guest.machine.run(1_000_000).code == 1
    assert guest.machine.console.text == "no luck\n"


def test_a_machine_that_is_no_numalab_stops_where_it_is() -> None:
    text = '.include "numalab.inc"\n.globl _start\n_start: numalab_init\nexit 1\n'
    guest = boot_image(Machine(Topology.parse("1x64M")), load_script(text))
    guest.machine.cpus[0]._cpuid = lambda *_: (0, 0, 0, 0)
    assert guest.machine.run(1000).kind == "halt"
