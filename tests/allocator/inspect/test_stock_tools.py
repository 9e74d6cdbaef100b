# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own tools (tools/vm of 4.20) on our files, where they are installed.

No Debian package holds page-types or page_owner_sort; whoever builds them from the kernel's source
and puts them on the PATH has these tests run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from allocator.inspect import inspect
from allocator.kernel_globals import G_MAX_PFN
from tests.allocator.machines import boot


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_page_types_decodes_kpageflags(tmp_path: Path) -> None:
    page_types = tool("page-types")
    kernel = boot("2x64M")
    page = kernel.alloc_pages("GFP_KERNEL|__GFP_COMP", 4)
    assert page is not None
    report = inspect(kernel.memory, "kpageflags")
    assert report.raw is not None
    (tmp_path / "kpageflags").write_bytes(report.raw)
    frames = kernel.m[G_MAX_PFN]
    # 4.20's tool stumbles over the end of a file that is no multiple of its batch: give the range
    command = [page_types, "-r", "-F", str(tmp_path / "kpageflags"), "-a", f"0,{frames}"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = re.findall(r"^(0x[0-9a-f]{16})\s+(\d+)\s+\d+\s+\S+\s*(\S*)$", out, re.MULTILINE)
    assert isinstance(report.data, list)
    ours = {
        (entry["flags"], entry["page_count"], entry["symbolic"])  # type: ignore[index,call-overload]
        for entry in report.data
    }
    assert {(int(flags, 16), int(count), names) for flags, count, names in rows} == ours
    assert any(names == "compound_tail" and int(count) == 15 for _, count, names in rows)


def test_page_owner_sort_groups_our_paragraphs(tmp_path: Path) -> None:
    page_owner_sort = tool("page_owner_sort")
    kernel = boot("1x64M", append="page_owner=on")
    for _ in range(7):
        kernel.alloc_pages("GFP_ATOMIC", 2)
    text = re.sub(r"^PFN .*\n", "", inspect(kernel.memory, "page_owner").text, flags=re.MULTILINE)
    (tmp_path / "in").write_text(text)
    command = [page_owner_sort, str(tmp_path / "in"), str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True)
    found = (tmp_path / "out").read_text()
    assert "7 times:\nPage allocated via order 2, mask 0x480020(GFP_ATOMIC)\n" in found
