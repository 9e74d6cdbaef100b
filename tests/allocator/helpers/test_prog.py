# SPDX-License-Identifier: GPL-2.0-only
"""allocator/helpers/prog.py: helpers take a kernel or the bare words."""

from __future__ import annotations

from allocator.helpers import nr_free_pages
from allocator.helpers.prog import words
from tests.allocator.machines import boot


def test_a_kernel_and_its_words_are_the_same_to_every_helper() -> None:
    kernel = boot("1x64M")
    assert words(kernel) is words(kernel.m) is kernel.m
    assert nr_free_pages(kernel) == nr_free_pages(kernel.m) == kernel.nr_free_pages
