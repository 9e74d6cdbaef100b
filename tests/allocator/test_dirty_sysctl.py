# SPDX-License-Identifier: GPL-2.0-only
"""/proc/sys/vm's settings of writeback: limits, and shares against bytes."""

from __future__ import annotations

import pytest

from allocator.dirty_sysctl import DIRTY_SYSCTLS
from allocator.errors import BadRequest
from allocator.kernel_globals import G_DIRTY_WRITEBACK_INTERVAL
from tests.allocator.machines import boot


def test_a_kernel_starts_with_420s_values_and_keeps_what_was_set_before_files_exist() -> None:
    kernel = boot("1x64M")
    values = {name: kernel.sysctl(name) for name in DIRTY_SYSCTLS}
    assert values == {
        "dirty_ratio": 20,
        "dirty_bytes": 0,
        "dirty_background_ratio": 10,
        "dirty_background_bytes": 0,
        "dirty_writeback_centisecs": 500,
        "dirty_expire_centisecs": 3000,
        "vfs_cache_pressure": 100,
    }
    kernel.set_sysctl("dirty_writeback_centisecs", 100)
    kernel.create_file("f").close()
    assert kernel.m[G_DIRTY_WRITEBACK_INTERVAL] == 100


@pytest.mark.parametrize("kind", ["dirty", "dirty_background"])
def test_of_share_and_bytes_the_last_one_counts(kind: str) -> None:
    kernel = boot("1x64M")
    kernel.set_sysctl(f"{kind}_bytes", 1 << 20)
    assert (kernel.sysctl(f"{kind}_ratio"), kernel.sysctl(f"{kind}_bytes")) == (0, 1 << 20)
    kernel.set_sysctl(f"{kind}_ratio", 33)
    assert (kernel.sysctl(f"{kind}_ratio"), kernel.sysctl(f"{kind}_bytes")) == (33, 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dirty_ratio", 101),
        ("dirty_ratio", -1),
        ("dirty_bytes", 8191),
        ("dirty_background_bytes", 0),
        ("dirty_expire_centisecs", -1),
        ("vfs_cache_pressure", 1 << 31),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: int) -> None:
    kernel = boot("1x64M")
    before = kernel.sysctl(name)
    with pytest.raises(BadRequest, match="EINVAL"):
        kernel.set_sysctl(name, value)
    assert kernel.sysctl(name) == before


def test_an_interval_of_0_switches_the_periodic_visits_off() -> None:
    kernel = boot("1x64M")
    kernel.set_sysctl("dirty_writeback_centisecs", 0)
    file = kernel.create_file("f", data=b"x")
    kernel.advance_clock(10**12)
    assert "dirty" in file.pages[0].flag_names
