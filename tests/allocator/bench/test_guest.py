# SPDX-License-Identifier: GPL-2.0-only
"""allocator/bench/guest.py: the guest that counts hypercalls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from allocator.bench import guest
from allocator.boot_image import Guest, boot_image
from allocator.engine import compiled_available, current_engine, load_engine
from machine import BringUpError
from machine.nativecode import load


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "short.S"
    path.write_text(guest.SCRIPT.read_text().replace("PAIRS, 100000", "PAIRS, 50"))
    monkeypatch.setattr(guest, "SCRIPT", path)
    return path


def test_the_script_makes_as_many_pairs_as_are_counted() -> None:
    assert f".set PAIRS, {guest.PAIRS}" in guest.SCRIPT.read_text()


def test_a_run_gives_a_rate(short: Path) -> None:
    (row,) = guest.hypercall_rate(load_engine("python"), 1, "1x64M")
    assert (row.unit, row.operations) == ("1/s", 2 * guest.PAIRS)
    assert row.min > 0


def test_a_guest_that_fails_is_no_figure(short: Path) -> None:
    short.write_text(short.read_text().replace("jnz     1b", "jnz     2f"))
    with pytest.raises(BringUpError, match=r"short\.S ended with exit 1"):
        guest.hypercall_rate(load_engine("python"), 1, "1x64M")


@pytest.mark.skipif(not compiled_available(), reason="numba is not installed")
def test_the_compiled_engine_serves_the_guest_and_is_put_away_afterwards(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    booted: list[Guest] = []

    def boot(*args: Any) -> Guest:
        booted.append(boot_image(*args))
        return booted[-1]

    monkeypatch.setattr(guest, "boot_image", boot)
    before = current_engine()
    guest.hypercall_rate(load_engine("compiled"), 1, "1x64M")
    assert current_engine() is before
    if load() is not None:
        assert (booted[0].hypercalls.calls, booted[0].machine.doorbell.rings) == (1, 101)


@pytest.mark.skipif(not compiled_available() or load() is None, reason="no CPUs in threads")
def test_cpus_by_turns_and_in_threads_give_four_rates() -> None:
    rows = guest.side_by_side_rates(load_engine("compiled"), 1, 2, "1x64M", pairs=50)
    names = ["hypercalls turns", "hypercalls turns cpu"]
    names += [name.replace("turns", "threads") for name in names]
    assert [row.bench for row in rows] == names
    assert {(row.cpus, row.operations, row.unit) for row in rows} == {(2, 200, "1/s")}
    assert all(row.min > 0 for row in rows)


def test_the_script_of_several_cpus_makes_as_many_pairs_as_are_counted() -> None:
    assert f".set PAIRS, {guest.PAIRS}" in guest.REQUESTS.read_text()
