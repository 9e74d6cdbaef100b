# SPDX-License-Identifier: GPL-2.0-only
"""firmware/acpi.py: the walk, its checks, and Intel's own reader of the result."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware import (
    find_rsdp,
    power_on,
    read_boot_params,
    read_e820,
    read_madt,
    read_slit,
    read_srat,
    tables,
)
from firmware.acpi import (
    RSDP_SIZE,
    build_rsdp,
    build_table,
    build_xsdt,
    find_table,
    read_table,
    table_addresses,
)
from machine.errors import BringUpError
from machine.physmem import PhysicalMemory
from machine.topology import Topology
from tests.firmware.boards import Board, powered, refusal, reseal, table

MACHINES = [
    (["1x64M"], "pc"),
    (["2x128M"], "pc"),
    (["2x3G"], "q35"),
    (["node,cpus=0,mem=64M", "node,cpus=1", "node,mem=64M"], "pc"),
    (["4x64M,cpus=64"], "pc"),
    (["64x4M"], "q35"),
]
READERS: list[Callable[[PhysicalMemory], object]] = [
    read_srat,
    read_slit,
    read_madt,
    read_e820,
    read_boot_params,
    tables,
]


def test_sums_of_all_tables_are_zero_and_the_walk_finds_them() -> None:
    memory = powered("2x128M").memory
    assert [t.signature for t in tables(memory)] == ["FACP", "APIC", "HPET", "SRAT", "SLIT"]
    assert all(sum(t.data) % 256 == 0 for t in tables(memory))
    assert all(struct.unpack_from("<I", t.data, 4)[0] == len(t.data) for t in tables(memory))


def test_tables_lie_in_reserved_ram() -> None:
    memory = powered("2x128M").memory
    places = [*table_addresses(memory), find_rsdp(memory).xsdt, find_rsdp(memory).address]
    for address in places:
        assert [e.type for e in read_e820(memory) if e.addr <= address < e.end] == [2]


@pytest.mark.skipif(shutil.which("iasl") is None, reason="iasl (acpica-tools) is not installed")
@pytest.mark.parametrize(("specs", "machine_type"), MACHINES)
def test_iasl_decompiles_every_table_without_complaint(
    specs: list[str], machine_type: str, tmp_path: Path
) -> None:
    board = Board(Topology.parse(*specs, machine_type=machine_type))
    power_on(board, numa=True)
    rsdp = find_rsdp(board.memory)
    dumps = {t.signature: t.data for t in tables(board.memory)}
    dumps["XSDT"] = read_table(board.memory, rsdp.xsdt).data
    dumps["RSDT"] = read_table(board.memory, rsdp.rsdt).data
    assert sorted(dumps) == ["APIC", "FACP", "HPET", "RSDT", "SLIT", "SRAT", "XSDT"]
    for name, data in dumps.items():
        (tmp_path / f"{name}.dat").write_bytes(data)
        run = subprocess.run(
            ["iasl", "-d", f"{name}.dat"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        text = (tmp_path / f"{name}.dsl").read_text()
        log = (run.stdout + run.stderr + text).lower()
        assert run.returncode == 0, log
        for word in ("error", "warning", "invalid", "incorrect", "unknown", "exceeds", "should be"):
            assert word not in log, log
        assert f"raw table data: length {len(data)}" in log


@pytest.mark.skipif(shutil.which("iasl") is None, reason="iasl (acpica-tools) is not installed")
def test_iasl_does_complain_about_a_wrong_checksum(tmp_path: Path) -> None:
    data = bytearray(table(powered("2x128M").memory, "SLIT").data)
    data[9] ^= 1
    (tmp_path / "x.dat").write_bytes(data)
    run = subprocess.run(
        ["iasl", "-d", "x.dat"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    text = run.stdout + run.stderr + (tmp_path / "x.dsl").read_text()
    assert "incorrect checksum" in text.lower()


def test_a_root_pointer_in_the_ebda_comes_first() -> None:
    board = powered("2x128M")
    rsdp = find_rsdp(board.memory)
    board.memory.write(0x9FC10, build_rsdp(rsdp.xsdt))
    assert find_rsdp(board.memory).address == 0x9FC10
    board.memory.write(0x9FC10, bytes(RSDP_SIZE))
    board.memory.write(0x9FC18, build_rsdp(rsdp.xsdt))
    assert find_rsdp(board.memory).address == rsdp.address, "not on a 16-byte boundary"


def test_a_revision_0_root_pointer_leads_to_an_rsdt() -> None:
    board = powered("2x128M")
    addresses = table_addresses(board.memory)
    rsdt = build_table(b"RSDT", 1, struct.pack(f"<{len(addresses)}I", *addresses))
    old = find_rsdp(board.memory)
    board.memory.write(old.xsdt, rsdt)
    first = bytearray(struct.pack("<8sB6sBI", b"RSD PTR ", 0, b"NUMLAB", 0, old.xsdt))
    first[8] = -sum(first) & 0xFF
    board.memory.write(old.address, first)
    assert table_addresses(board.memory) == addresses


def test_a_missing_table_is_none() -> None:
    assert find_table(powered("2x128M").memory, "MCFG") is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m, r: m.write(r.address, bytes(8)), "no RSDP"),
        (lambda m, r: m.write_u8(r.address + 8, 1), "RSDP at 0xf5a00 has a wrong checksum"),
        (lambda m, r: m.write_u8(r.address + 33, 1), "wrong extended checksum"),
        (lambda m, r: m.write_u8(r.address + 20, 9), "9 bytes long instead of 36"),
        (lambda m, r: m.write_u8(r.xsdt + 30, 1), "XSDT at 0x.* has a wrong checksum"),
        (lambda m, r: m.write_u32(r.xsdt + 4, 10), "XSDT at 0x.* claims 10 bytes"),
        (lambda m, r: m.write_u32(r.xsdt + 4, 0xFFFFFFFF), "claims 4294967295 bytes"),
        (lambda m, r: m.write_u32(r.xsdt + 4, 0x80000), "runs past the end of RAM"),
        (lambda m, r: m.write(r.address, build_rsdp(1 << 60)), "0x1000000000000000 is not in RAM"),
        (
            lambda m, r: m.write(r.address, build_rsdp(table(m, "SRAT").address)),
            "SRAT at 0x.* where XSDT belongs",
        ),
        (lambda m, r: m.write(r.xsdt, build_xsdt([0xF0000000])), "0xf0000000 is not in RAM"),
        (lambda m, r: m.write(r.xsdt, build_xsdt([r.xsdt] * 129)), "1032 bytes of entries"),
        (lambda m, r: m.write(r.xsdt, build_table(b"XSDT", 1, bytes(7))), "7 bytes of entries"),
        (lambda m, r: m.write(table(m, "SRAT").address, b"\n\xff\0\r"), r"'\\n.* wrong checksum"),
    ],
)
def test_a_damaged_walk_names_the_culprit(
    damage: Callable[[PhysicalMemory, object], None], message: str
) -> None:
    memory = powered("2x128M").memory
    damage(memory, find_rsdp(memory))
    with pytest.raises(BringUpError, match=message) as caught:
        tables(memory)
    assert "\n" not in str(caught.value)


class Windows:
    """A board's firmware data, to be damaged and put right again."""

    def __init__(self) -> None:
        self.memory = powered("4x32M", append="quiet").memory
        rsdp = find_rsdp(self.memory)
        places = [(t.address, len(t.data)) for t in tables(self.memory)]
        places.append((rsdp.xsdt, len(read_table(self.memory, rsdp.xsdt).data)))
        self.sealed = places
        self.places = [*places, (rsdp.address, RSDP_SIZE), (0x400, 0x20), (0x90000, 0x400)]
        self.saved = [(start, self.memory.read(start, size)) for start, size in self.places]

    def restore(self) -> None:
        for start, data in self.saved:
            self.memory.write(start, data)


WINDOWS = Windows()
FLIPS = st.lists(
    st.tuples(st.integers(0, len(WINDOWS.places) - 1), st.integers(0, 4095), st.integers(1, 255)),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=300)
@given(flips=FLIPS, seal=st.booleans())
def test_no_corruption_gets_past_the_readers_but_as_one_line(
    flips: list[tuple[int, int, int]], seal: bool
) -> None:
    memory = WINDOWS.memory
    try:
        for window, offset, mask in flips:
            start, size = WINDOWS.places[window]
            address = start + offset % size
            memory.write_u8(address, memory.read_u8(address) ^ mask)
        if seal:  # damage that checksums do not show
            for start, size in WINDOWS.sealed:
                reseal(memory, start, size)
        for reader in READERS:
            error = refusal(partial(reader, memory))
            assert error is None or (str(error).isprintable() and error.exit_code == 69)
    finally:
        WINDOWS.restore()
    for reader in READERS:
        reader(memory)


@settings(deadline=None, max_examples=100)
@given(body=st.binary(max_size=200), which=st.sampled_from(["SRAT", "SLIT", "APIC"]))
def test_a_table_of_any_content_is_read_or_refused(body: bytes, which: str) -> None:
    memory = WINDOWS.memory
    rsdp = find_rsdp(memory)
    try:
        at = rsdp.xsdt + 0x1000
        memory.write(at, build_table(which.encode(), 1, body))
        memory.write(rsdp.xsdt, build_xsdt([at]))
        for reader in READERS:
            error = refusal(partial(reader, memory))
            assert error is None or str(error).isprintable()
    finally:
        WINDOWS.restore()
