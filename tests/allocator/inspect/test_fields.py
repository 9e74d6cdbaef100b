# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/fields.py: the common form of an answer."""

from __future__ import annotations

from allocator.inspect.fields import Report, cells


def test_cells_group_digits_and_leave_words_alone() -> None:
    assert cells(1234567, "DMA32", True, 0) == ("1,234,567", "DMA32", "True", "0")


def test_a_report_is_sound_unless_it_says_otherwise() -> None:
    assert Report("", None).sound
    assert not Report("", None, sound=False).sound
