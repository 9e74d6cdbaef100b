# SPDX-License-Identifier: GPL-2.0-only
"""allocator/bench/rows.py: figures and their spread."""

from __future__ import annotations

import csv
import io

from allocator.bench.rows import row, to_csv


def test_a_row_has_the_least_middle_and_largest_of_its_runs() -> None:
    one = row("bulk alloc", "python", "1x64M", [3.0, 1.0, 10.0], order=3, cpus=2, operations=7)
    assert (one.min, one.median, one.max, one.runs) == (1.0, 3.0, 10.0, 3)


def test_csv_has_a_header_and_empty_cells_where_a_column_means_nothing() -> None:
    rows = [row("check", "python", "2x1G,cpus=2", [1.5], "ns/frame")]
    (found,) = csv.DictReader(io.StringIO(to_csv(rows)))
    assert found["machine"] == "2x1G,cpus=2"
    assert (found["order"], found["cpus"], found["median"]) == ("", "", "1.5")
