# SPDX-License-Identifier: GPL-2.0-only
"""Running the command inside the test's own process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from allocator.cli import main


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on standard error."""
        return self.err.splitlines()[-1]


Numalab = Callable[..., Result]


@pytest.fixture
def numalab(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Numalab:
    """`numalab("boot", "x.S")` in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str) -> Result:
        capfd.readouterr()
        code = main(argv)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Result(code, out, err)

    return run


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """Puts a script with the macros included into the test's directory; its name."""

    def write(body: str, name: str = "guest.S") -> str:
        text = f'    .include "numalab.inc"\n    .globl _start\n_start:\n    numalab_init\n{body}\n'
        (tmp_path / name).write_text(text)
        return name

    return write
