# SPDX-License-Identifier: GPL-2.0-only
"""allocator/engine_build.py: what the compiler's half promises about single functions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from allocator.engine import FAILED, compiled_available, hot_functions

pytestmark = pytest.mark.skipif(not compiled_available(), reason="numba is not installed")


def test_loop_form_of_init_page_range_writes_what_numpy_writes() -> None:
    from allocator.engine_build import COMPILED_FORMS
    from tests.allocator.tiny import FIRST_PFN, make_tiny

    a, b = make_tiny(1, 1), make_tiny(1, 1)
    arguments = (FIRST_PFN + 3, FIRST_PFN + 700, 1 << 54, 5)
    hot_functions()["init_page_range"](a.m, *arguments)
    COMPILED_FORMS["init_page_range"](b.m, *arguments)
    assert np.array_equal(a.memory.q, b.memory.q)


def test_part_is_bitcode_with_a_door_for_each_entry_point(tmp_path: Path) -> None:
    from llvmlite import binding

    out = tmp_path / "part"
    command = [sys.executable, "-m", "allocator.engine_build", str(out), "free_one_page", "expand"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["compiled free_one_page", "compiled expand"]
    module = binding.parse_bitcode(out.read_bytes())
    defined = {f.name for f in module.functions if not f.is_declaration}
    assert {"nl_free_one_page", "x_free_one_page", "nl_expand"} <= defined
    assert "x_expand" not in defined
    assert str(FAILED) in str(module.get_function("x_free_one_page"))
