# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/__init__.py: one table of everything that can be looked at."""

from __future__ import annotations

import json
import random
from contextlib import suppress

import pytest

from allocator.errors import BadRequest
from allocator.inspect import INSPECTORS, inspect
from allocator.kernel_globals import KDATA
from allocator.layout import KERNEL_END_WORD
from allocator.mmzone import PGLIST_DATA_WORDS
from machine import NumalabError
from tests.allocator.machines import boot

ARGUMENTS = {
    "kmem": ["-f"],
    "vtop": ["0xffff888001000000"],
    "rd": ["0x1000000", "4"],
    "search": ["0x1000"],
    "struct": ["zone", "0:DMA32"],
}


def test_every_inspector_gives_text_and_json_and_changes_nothing() -> None:
    kernel = boot("2x64M", append="page_owner=on")
    before = bytes(kernel.memory.bytes)
    for what in INSPECTORS:
        report = inspect(kernel.memory, what, ARGUMENTS.get(what))
        assert report.text.endswith("\n"), what
        assert json.loads(json.dumps(report.data)) is not None, what
        assert all(len(row) <= len(t.columns) for t in report.tables for row in t.rows), what
        assert report.sound, what
    assert bytes(kernel.memory.bytes) == before


def test_unknown_names_and_unwanted_arguments_are_refused() -> None:
    kernel = boot("1x64M")
    with pytest.raises(BadRequest, match="cannot inspect 'vmallocinfo'"):
        inspect(kernel.memory, "vmallocinfo")
    with pytest.raises(BadRequest, match="takes no argument"):
        inspect(kernel.memory, "buddyinfo", ["0"])


def test_a_guest_that_scribbled_on_its_kernel_raises_only_our_errors() -> None:
    rng = random.Random(4)
    for _ in range(12):
        kernel = boot("2x48M", append="page_owner=on")
        words = [
            rng.randrange(KDATA, KERNEL_END_WORD),
            kernel.nodes[1].word + rng.randrange(PGLIST_DATA_WORDS),
            kernel.page(rng.randrange(0x5000)).word + rng.randrange(8),
        ]
        for word in words:
            kernel.m[word] = rng.choice((0, -1, 1 << 62, rng.getrandbits(63), 0x1234))
        for what in INSPECTORS:
            with suppress(NumalabError):
                inspect(kernel.memory, what, ARGUMENTS.get(what))
