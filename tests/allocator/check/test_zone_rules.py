# SPDX-License-Identifier: GPL-2.0-only
"""Zones: everything that the kernel itself may do to their numbers is sound."""

from __future__ import annotations

import random

import pytest

from allocator.check import check_frames
from allocator.kernel import Kernel
from allocator.kernel_globals import G_TOTALRAM
from allocator.mmzone import Z_LOWMEM_RESERVE, Z_NR_HIGHATOMIC, Z_WMARK
from allocator.wmark import (
    lowmem_reserve_ratio_sysctl,
    min_free_kbytes_sysctl,
    watermark_scale_factor_sysctl,
)
from tests.allocator.machines import boot

from .scribbler import age


def sound(kernel: Kernel) -> None:
    report = check_frames(kernel.memory, strict=True)
    assert report.sound, str(report)


@pytest.mark.parametrize("kbytes", [0, 1, 128, 4321, 65536])
def test_min_free_kbytes_may_be_anything(kbytes: int) -> None:
    kernel = boot("3x64M", append="kernelcore=40%")
    assert min_free_kbytes_sysctl(kernel.m, kbytes) == 0
    sound(kernel)


@pytest.mark.parametrize("factor", [1, 10, 137, 1000])
def test_watermark_scale_factor_may_be_anything(factor: int) -> None:
    kernel = boot("2x96M")
    assert watermark_scale_factor_sysctl(kernel.m, factor) == 0
    sound(kernel)


@pytest.mark.parametrize("ratios", [[1, 1, 1, 1], [0, 0, 0, 0], [7, 1000, 3]])
def test_lowmem_reserve_ratio_may_be_anything(ratios: list[int]) -> None:
    kernel = boot("2x2G", append="kernelcore=50%")
    assert lowmem_reserve_ratio_sysctl(kernel.m, ratios) == 0
    sound(kernel)


def test_the_highatomic_reserve_is_sound_as_it_grows() -> None:
    kernel = boot("1x64M")
    age(kernel, random.Random(4), 50)
    kernel.exhaust(0, order=3)
    while kernel.alloc_pages("GFP_ATOMIC|__GFP_NOWARN", order=1) is not None:
        sound(kernel)
    assert any(kernel.m[zone.word + Z_NR_HIGHATOMIC] for zone in kernel.zones)


@pytest.mark.parametrize(
    ("offset", "delta", "rule"),
    [
        (Z_WMARK + 1, 1, "zone-watermarks"),
        (Z_LOWMEM_RESERVE + 3, 1, "zone-lowmem-reserve"),
        (Z_LOWMEM_RESERVE, 1, "zone-lowmem-reserve"),
    ],
)
def test_a_number_off_by_one_breaks_its_rule(offset: int, delta: int, rule: str) -> None:
    kernel = boot("1x64M")
    kernel.m[kernel.zone(0, "DMA").word + offset] += delta
    assert rule in {finding.rule for finding in check_frames(kernel.memory, strict=True).findings}


def test_totalram_is_the_sum_of_managed_pages() -> None:
    kernel = boot("2x64M")
    kernel.m[G_TOTALRAM] -= 1
    (finding,) = check_frames(kernel.memory, strict=True).findings
    assert (finding.rule, finding.address) == ("totalram", G_TOTALRAM << 3)
