# SPDX-License-Identifier: GPL-2.0-only
"""firmware/fadt.py: what the tables of ACPI's fixed hardware say, and that it is so."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from firmware import find_table, power_on
from firmware.acpi import find_rsdp, read_table
from machine import Machine, Topology


def machine() -> Machine:
    board = Machine(Topology.parse("1x64M"))
    power_on(board)
    return board


def fadt(board: Machine) -> bytes:
    found = find_table(board.memory, "FACP")
    assert found is not None
    return found.data


def test_the_facs_and_the_dsdt_are_where_the_fadt_says() -> None:
    board = machine()
    facs, dsdt = struct.unpack_from("<II", fadt(board), 36)
    assert facs % 64 == 0
    assert board.memory.read(facs, 8) == b"FACS" + struct.pack("<I", 64)
    assert read_table(board.memory, dsdt).signature == "DSDT"
    assert struct.unpack_from("<Q", fadt(board), 140) == (dsdt,)


def test_the_timer_counts_at_the_port_that_is_told() -> None:
    board = machine()
    (port,) = struct.unpack_from("<I", fadt(board), 76)
    before = board.ports.read(0, port, 4)
    board.clock.advance(1_000_000)
    assert 3500 < board.ports.read(0, port, 4) - before < 3700


def test_the_command_that_is_told_enables_acpi() -> None:
    board, data = machine(), fadt(machine())
    smi, enable, disable = struct.unpack_from("<IBB", data, 48)
    (control,) = struct.unpack_from("<I", data, 64)
    board.ports.write(0, smi, 1, enable)
    assert board.ports.read(0, control, 2) & 1
    board.ports.write(0, smi, 1, disable)
    assert not board.ports.read(0, control, 2) & 1


def test_the_reset_register_resets() -> None:
    board, data = machine(), fadt(machine())
    space, _, _, _, port = struct.unpack_from("<BBBBQ", data, 116)
    assert space == 1
    board.ports.write(0, port, 1, data[128])
    board.cpus[0].start_real(0, 0x600)
    assert board.run(10).kind == "reset"


def test_the_hpet_is_where_its_table_says() -> None:
    board = machine()
    table = find_table(board.memory, "HPET")
    assert table is not None
    ident, _, address = struct.unpack_from("<IIQ", table.data, 36)
    page = board.mmio.window_page(address)
    assert page is not None
    assert board.mmio.read(0, page << 12, 4) == ident


def test_old_and_new_root_tables_name_the_same_tables() -> None:
    board = machine()
    rsdp = find_rsdp(board.memory)
    old = read_table(board.memory, rsdp.rsdt).body
    new = read_table(board.memory, rsdp.xsdt).body
    assert struct.unpack(f"<{len(old) // 4}I", old) == struct.unpack(f"<{len(new) // 8}Q", new)


@pytest.mark.skipif(shutil.which("iasl") is None, reason="iasl (acpica-tools) is not installed")
def test_iasl_reads_the_dsdt_and_finds_how_to_switch_off(tmp_path: Path) -> None:
    board = machine()
    (dsdt,) = struct.unpack_from("<I", fadt(board), 40)
    (tmp_path / "dsdt.dat").write_bytes(read_table(board.memory, dsdt).data)
    run = subprocess.run(
        ["iasl", "-d", "dsdt.dat"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "_S5" in (tmp_path / "dsdt.dsl").read_text()
