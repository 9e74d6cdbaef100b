# SPDX-License-Identifier: GPL-2.0-only
"""allocator/cli/report.py: a machine kept and looked into after a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from allocator.cli.inspect_basic import parse_inspection
from allocator.cli.report import inspect_guest, save_guest
from firmware import power_on
from machine import Machine, Topology
from machine.snapshot import is_snapshot


@pytest.fixture
def machine() -> Machine:
    board = Machine(Topology.parse("1x32M"))
    power_on(board)
    return board


def test_nothing_is_kept_that_was_not_asked_for(machine: Machine) -> None:
    assert save_guest(None, machine) == 0


def test_a_machine_is_kept(machine: Machine, tmp_path: Path) -> None:
    assert save_guest(str(tmp_path / "s"), machine) == 0
    assert is_snapshot(tmp_path / "s")


def test_a_place_that_cannot_be_written_costs_a_line_and_a_code(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert save_guest(str(tmp_path / "none" / "s"), machine) == 73
    assert capsys.readouterr().err.startswith("numalab: ")


def test_what_is_not_there_costs_a_line_and_the_rest_is_shown(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = [parse_inspection(what) for what in ("zones", "e820", "buddyinfo")]
    assert inspect_guest(machine, wanted) == 69
    out, err = capsys.readouterr()
    assert "usable" in out
    assert err.count("no kernel has been booted") == 2
