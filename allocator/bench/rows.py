# SPDX-License-Identifier: GPL-2.0-only
"""What a benchmark found: one row a figure, with the least, middle and largest of its runs."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Row:
    """One figure. `order` and `cpus` are -1 where they mean nothing; `operations` is how many were
    timed in one run; `unit` what min, median and max are in."""

    bench: str
    engine: str
    machine: str
    order: int
    cpus: int
    operations: int
    runs: int
    unit: str
    min: float
    median: float
    max: float


def row(
    bench: str,
    engine: str,
    machine: str,
    values: Sequence[float],
    unit: str = "ns",
    order: int = -1,
    cpus: int = -1,
    operations: int = 1,
) -> Row:
    """A row from the values of all runs."""
    low, mid, high = min(values), statistics.median(values), max(values)
    return Row(bench, engine, machine, order, cpus, operations, len(values), unit, low, mid, high)


def to_csv(rows: Iterable[Row]) -> str:
    """All rows as CSV with a header line; an empty cell where a column means nothing."""
    text = io.StringIO()
    names = [field.name for field in fields(Row)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for one in rows:
        cells = [getattr(one, name) for name in names]
        writer.writerow([_cell(name, cell) for name, cell in zip(names, cells, strict=True)])
    return text.getvalue()


def _cell(name: str, value: object) -> object:
    if name in ("order", "cpus") and value == -1:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
