# SPDX-License-Identifier: GPL-2.0-only
"""allocator/cli/show.py: tables on a terminal, exact text and bytes elsewhere."""

from __future__ import annotations

import json
import os
import pty
import sys
from pathlib import Path

import pytest

from allocator.cli.show import print_tables, show
from allocator.inspect.fields import Report, Table
from machine import OutputError

TABLE = Table("some [numbers]", ("zone", "pages"), (("DMA [x]", "3,975"), ("DMA32", "27,332")))
REPORT = Report("Node 0 \n", {"a": [1, 2]}, (TABLE,), b"\x00\xff")


def test_away_from_a_terminal_the_bytes_come_unchanged(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    show(REPORT, as_json=False, as_text=False)
    assert capfdbinary.readouterr().out == b"\x00\xff"
    show(Report("Node 0 \n", None), as_json=False, as_text=False)
    assert capfdbinary.readouterr().out == b"Node 0 \n"
    show(REPORT, as_json=True, as_text=False)
    assert json.loads(capfdbinary.readouterr().out) == {"a": [1, 2]}


def test_a_file_appears_whole_and_a_failure_names_it(tmp_path: Path) -> None:
    target = tmp_path / "flags"
    show(REPORT, as_json=False, as_text=False, output=str(target))
    assert target.read_bytes() == b"\x00\xff"
    assert [path.name for path in tmp_path.iterdir()] == ["flags"]
    with pytest.raises(OutputError, match="missing/flags"):
        show(REPORT, as_json=False, as_text=False, output=str(tmp_path / "missing" / "flags"))


def test_tables_align_numbers_and_take_brackets_literally(
    capfd: pytest.CaptureFixture[str],
) -> None:
    print_tables((TABLE,))
    lines = [line.rstrip() for line in capfd.readouterr().out.splitlines()]
    assert lines[0] == "some [numbers]"
    assert " DMA [x]   3,975" in lines
    assert " DMA32    27,332" in lines


def test_on_a_terminal_tables_are_drawn_unless_text_is_asked_for() -> None:
    def output(as_text: bool) -> bytes:
        parent, child = pty.openpty()
        pid = os.fork()
        if pid == 0:
            os.dup2(child, 1)
            sys.stdout = os.fdopen(1, "w")
            show(Report("plain text\n", None, (TABLE,)), as_json=False, as_text=as_text)
            sys.stdout.flush()
            os._exit(0)
        os.close(child)
        os.waitpid(pid, 0)
        data = os.read(parent, 65536)
        os.close(parent)
        return data

    assert b"plain text" in output(True)
    assert b"27,332" in output(False)
