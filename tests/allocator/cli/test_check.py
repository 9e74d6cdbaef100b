# SPDX-License-Identifier: GPL-2.0-only
"""`numalab check`: exit codes, text and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from .conftest import Numalab

Script = Callable[..., str]
# writes over the private word (order) of the struct page of frame 0x2000, through vmemmap
SCRIBBLE = """
    movabs rax, 0xffffea0000080028
    mov rcx, 77
    mov [rax], rcx
    exit 0
"""


def test_a_sound_machine_is_one_line_and_exit_0(numalab: Numalab) -> None:
    result = numalab("check", "--numa", "2x128M")
    assert result.code == 0
    line = r"65,406 frames: 65,406 sound \(\d+ rules, \d+\.\d\d s\)\n"
    assert re.fullmatch(line, result.out)


def test_a_script_is_run_before_the_check(numalab: Numalab) -> None:
    assert numalab("check", "exhaust.S", "--numa", "2x64M").code == 0


def test_a_scribbled_machine_is_exit_1_and_the_frame_is_named(
    numalab: Numalab, script: Script
) -> None:
    result = numalab("check", script(SCRIBBLE), "--numa", "1x64M")
    assert result.code == 1
    lines = result.out.splitlines()
    assert any(line.startswith("frame 0x02000: ") for line in lines)
    assert lines[-1].endswith(" frames unsound")


def test_json_is_for_programs(numalab: Numalab, script: Script) -> None:
    sound = json.loads(numalab("check", "--numa", "1x64M", "--json").out)
    assert (sound["sound"], sound["findings"]) == (True, [])
    result = numalab("check", script(SCRIBBLE), "--numa", "1x64M", "--json")
    data = json.loads(result.out)
    assert result.code == 1
    assert 0x2000 in {finding["frame"] for finding in data["findings"]}


def test_the_rules_can_be_listed(numalab: Numalab) -> None:
    result = numalab("check", "--rules")
    assert result.code == 0
    assert len(result.out.splitlines()) >= 41
    assert "poison" in json.loads(numalab("check", "--rules", "--json").out)


def test_a_file_that_is_not_there_is_an_error_and_no_finding(numalab: Numalab) -> None:
    result = numalab("check", "missing.snap")
    assert result.code == 66
    assert result.out == ""
