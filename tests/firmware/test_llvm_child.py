# SPDX-License-Identifier: GPL-2.0-only
"""firmware/llvm_child.py: what the child says and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import llvmlite
import pytest

from firmware import llvm_child

SITE = str(Path(llvmlite.__file__).parents[1])


def run(text: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-I", "-S", llvm_child.__file__, SITE],
        input=text,
        capture_output=True,
        check=False,
    )


def test_the_object_is_all_that_goes_to_standard_output() -> None:
    done = run(b'.print "hello"\nnop\n')
    assert done.returncode == 0
    assert done.stdout.startswith(b"\x7fELF")
    assert b"hello" in done.stderr


def test_an_error_ends_it_without_an_object() -> None:
    done = run(b"nop\n mvo $1, %rax\n")
    assert done.returncode != 0
    assert done.stdout == b""
    assert b"<inline asm>:2:2: invalid instruction mnemonic 'mvo'" in done.stderr


@pytest.mark.parametrize(
    ("text", "quoted"), [(b"nop", '"nop"'), (b'a"b\\c\n\xff', r'"a\22b\5Cc\0A\FF"')]
)
def test_text_is_quoted_as_an_llvm_string(text: bytes, quoted: str) -> None:
    assert llvm_child.quote(text) == quoted
