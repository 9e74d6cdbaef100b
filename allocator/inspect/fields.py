# SPDX-License-Identifier: GPL-2.0-only
"""What every inspector hands out: text to the letter of the kernel, and the same as plain data.

A `Report` has the text (what `cat /proc/...` would print, final newline included) and `data`: lists
and dicts of numbers and strings for `--json`. `table` is how a terminal shows it; a report without
one is shown as its text. Binary files are reports with `raw`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


@dataclass(frozen=True)
class Table:
    """Rows for a terminal: a title, column names and cells. Numeric columns are right-aligned."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Report:
    """One inspector's answer. `sound` is False when what was looked at contradicts itself."""

    text: str
    data: Json
    tables: tuple[Table, ...] = field(default=())
    raw: bytes | None = None
    sound: bool = True


def cells(*values: object) -> tuple[str, ...]:
    """Table cells: integers with separators, everything else as str() shows it."""
    return tuple(
        f"{v:,}" if isinstance(v, int) and not isinstance(v, bool) else str(v) for v in values
    )
