# SPDX-License-Identifier: GPL-2.0-only
"""`--keys -`: keys from a terminal, or from a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from .test_boot_pc import ECHO, disk

COMMAND = [sys.executable, "-c", "import sys; from allocator.cli import main; sys.exit(main())"]
ROOT = Path(__file__).resolve().parents[3]


def start(stdin: int) -> subprocess.Popen[str]:
    """`numalab boot` of a guest that echoes keys up to Enter, with this standard input."""
    return subprocess.Popen(
        [*COMMAND, "boot", disk("a.img", ECHO), "--keys", "-", "--screen", "--numa", "1x32M"],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_keys_typed_at_a_terminal_reach_the_guest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    master, slave = pty.openpty()
    with start(slave) as child:
        os.close(slave)
        for key in (b"H", b"i", b"{", b"\xff", b"\n"):
            os.write(master, key)
        out, err = child.communicate(timeout=60)
    os.close(master)
    assert child.returncode == 0, err
    assert out.splitlines()[-1] == "Hi{"
    assert "halted" in err


def test_a_pipe_is_typed_as_a_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with start(subprocess.PIPE) as child:
        out, err = child.communicate("piped\n", timeout=60)
    assert (child.returncode, out) == (0, "piped\n"), err
