# SPDX-License-Identifier: GPL-2.0-only
"""Printing a report: tables on a terminal, the kernel's exact text or bytes elsewhere, or JSON.

`rich` is loaded only when a table is really drawn.
"""

from __future__ import annotations

import json
import sys

from machine.outfile import replacing

from ..inspect.fields import Json, Report, Table

SHORT = 18
"""Characters of a cell that is never broken over two lines."""


def show(report: Report, *, as_json: bool, as_text: bool, output: str | None = None) -> None:
    """Writes a report to standard output, or whole to the file `output`. Raises OutputError."""
    if as_json:
        data = (json.dumps(report.data, indent=2) + "\n").encode()
    elif report.raw is not None and (output is not None or not sys.stdout.isatty()):
        data = report.raw
    elif output is None and report.tables and not as_text and sys.stdout.isatty():
        print_tables(report.tables)
        return
    else:
        data = report.text.encode()
    if output is not None:
        with replacing(output) as file:
            file.write(data)
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def dump_json(data: Json) -> str:
    """Indented JSON with a final newline."""
    return json.dumps(data, indent=2) + "\n"


def print_tables(tables: tuple[Table, ...]) -> None:
    """Draws tables on the terminal, short cells never broken over two lines."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(highlight=False)
    for table in tables:
        rich = RichTable(
            title=Text(table.title),
            title_justify="left",
            header_style="bold",
            box=SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for i, column in enumerate(table.columns):
            column_cells = [row[i] for row in table.rows if i < len(row)]
            rich.add_column(
                Text(column),
                justify="right" if all(_is_number(cell) for cell in column_cells) else "left",
                no_wrap=all(len(cell) <= SHORT for cell in column_cells),
                overflow="fold",
            )
        for row in table.rows:
            rich.add_row(*(Text(cell) for cell in row))
        console.print(rich)


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "").lstrip("-").isdigit()
