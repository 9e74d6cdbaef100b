# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of the allocator's tests: hand-made memories (see `tiny`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.allocator.process_support import Lab, fresh_lab
from tests.allocator.tiny import Tiny, make_tiny


@pytest.fixture
def tiny_zone() -> Tiny:
    """One node, one CPU."""
    return make_tiny(1, 1)


@pytest.fixture
def tiny_nodes() -> Callable[[int, int], Tiny]:
    """A maker of memories with so many nodes and CPUs."""
    return make_tiny


@pytest.fixture
def lab() -> Lab:
    """Two nodes of 128 MiB, booted, with the owners of memory set up and no process yet."""
    return fresh_lab("2x128M")
