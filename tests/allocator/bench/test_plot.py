# SPDX-License-Identifier: GPL-2.0-only
"""allocator/bench/plot.py: the picture."""

from __future__ import annotations

from importlib import util

import pytest

from allocator.bench.plot import plot_png
from allocator.bench.rows import row
from machine import UsageError

HAVE = util.find_spec("matplotlib") is not None
ROWS = [row("bulk alloc", "python", "m", [5.0, 6.0], order=order, cpus=1) for order in (0, 3)]


@pytest.mark.skipif(not HAVE, reason="needs matplotlib")
def test_rows_with_an_order_become_a_png() -> None:
    assert plot_png(ROWS).startswith(b"\x89PNG")


@pytest.mark.skipif(not HAVE, reason="needs matplotlib")
def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to draw"):
        plot_png([row("check", "python", "m", [1.0])])


@pytest.mark.skipif(HAVE, reason="matplotlib is installed")
def test_without_matplotlib_the_error_says_how_to_get_it() -> None:
    with pytest.raises(UsageError, match=r"numalab\[plot\]"):
        plot_png(ROWS)
