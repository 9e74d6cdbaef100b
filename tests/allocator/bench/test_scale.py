# SPDX-License-Identifier: GPL-2.0-only
"""allocator/bench/scale.py: bring-up and check by size."""

from __future__ import annotations

import pytest

from allocator.bench.scale import bring_up_rows, child
from allocator.engine import compiled_available
from machine import BringUpError


def test_a_size_gives_time_memory_and_the_cost_of_a_check() -> None:
    rows = {(row.bench, row.engine): row for row in bring_up_rows("1x64M", 1)}
    engines = ["python", "compiled"] if compiled_available() else ["python"]
    checks = [("check", engine) for engine in engines]
    assert list(rows) == [("bring-up", "python"), ("resident", "python"), *checks]
    assert all(rows[check].operations == 16_254 for check in checks)
    assert all(row.min > 0 for row in rows.values())


def test_a_size_that_cannot_be_is_an_error_of_ours() -> None:
    with pytest.raises(BringUpError, match="bring-up of nonsense"):
        child("nonsense")
