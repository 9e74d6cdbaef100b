# SPDX-License-Identifier: GPL-2.0-only
"""What is shown while a guest runs."""

from __future__ import annotations

import io

import pytest

from allocator.cli.console import LiveConsole, Progress
from machine import OutputError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Full(io.BytesIO):
    def write(self, data: object) -> int:
        raise OSError(28, "No space left on device")


def test_a_line_is_visible_when_it_is_complete() -> None:
    out = io.BytesIO()
    console = LiveConsole(out)
    console.write(b"ab")
    assert out.getvalue() == b""
    console.write(b"c\nd")
    assert out.getvalue() == b"abc\nd"


def test_flush_shows_the_rest_and_a_long_line_does_not_wait_for_it() -> None:
    out = io.BytesIO()
    console = LiveConsole(out)
    console.write(b"x" * 10_000)
    assert len(out.getvalue()) == 10_000
    console.write(b"end")
    console.flush()
    console.flush()
    assert out.getvalue().endswith(b"xend")


def test_bytes_that_are_no_text_pass_through() -> None:
    out = io.BytesIO()
    LiveConsole(out).write(b"\xff\x00\n")
    assert out.getvalue() == b"\xff\x00\n"


def test_an_output_that_takes_no_more_is_an_output_error() -> None:
    with pytest.raises(OutputError, match="No space left"):
        LiveConsole(Full()).write(b"x\n")


def test_without_a_standard_output_there_is_no_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(OutputError, match="closed"):
        LiveConsole()


def test_progress_is_shown_on_a_terminal_only() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    for stream in (pipe, terminal):
        Progress(stream).update(100.0, 1_000_000)
    assert pipe.getvalue() == ""
    assert "1,000,000 instructions" in terminal.getvalue()


def test_progress_waits_a_second_and_is_not_redrawn_all_the_time() -> None:
    terminal = Terminal()
    progress = Progress(terminal)
    progress.update(0.9, 1)
    assert terminal.getvalue() == ""
    progress.update(1.1, 2)
    first = terminal.getvalue()
    progress.update(1.2, 3)
    assert terminal.getvalue() == first
    progress.update(1.7, 4)
    assert terminal.getvalue() != first


def test_clear_leaves_an_empty_line() -> None:
    terminal = Terminal()
    progress = Progress(terminal)
    progress.clear()
    assert terminal.getvalue() == ""
    progress.update(2.0, 5)
    progress.clear()
    shown = terminal.getvalue().split("\r")
    assert shown[-1] == ""
    assert shown[-2].strip() == ""
    assert len(shown[-2]) == len(shown[1])


def test_guest_output_takes_the_progress_line_away_first() -> None:
    terminal, out = Terminal(), io.BytesIO()
    progress = Progress(terminal)
    console = LiveConsole(out, progress)
    progress.update(2.0, 5)
    assert not terminal.getvalue().endswith("\r")
    console.write(b"line\n")
    assert terminal.getvalue().endswith("\r")
    assert out.getvalue() == b"line\n"
