# SPDX-License-Identifier: GPL-2.0-only
"""allocator/kernel_base.py: checks of arguments, errors, and the engine of a Kernel."""

from __future__ import annotations

import pytest

from allocator.engine import current_engine, load_engine
from allocator.errors import BadRequest, KernelOops
from allocator.kernel_base import KernelBase
from machine import UsageError
from tests.allocator.machines import boot


@pytest.fixture
def base() -> KernelBase:
    return KernelBase(boot("2x48M").memory)


def test_engine_is_the_process_s_unless_one_is_named(base: KernelBase) -> None:
    assert base.engine is current_engine()
    assert KernelBase(base.memory, "python").engine is load_engine("python")
    with pytest.raises(UsageError, match="engine 'quick'"):
        base.use_engine("quick")


@pytest.mark.parametrize(
    ("nodemask", "word"),
    [(None, 0), ({0, 1}, 3), (5, 5), ({63}, -(1 << 63)), (1 << 63, -(1 << 63))],
)
def test_nodemask_becomes_a_signed_word(
    base: KernelBase, nodemask: set[int] | int | None, word: int
) -> None:
    assert base._nodemask(nodemask) == word


def test_addresses_are_taken_signed_and_unsigned(base: KernelBase) -> None:
    address = 0xFFFF888000000000 + 0x2000000
    assert base._check_address(address) == base._check_address(address - (1 << 64))
    for wrong in (0, 0x2000000, 0xFFFFEA0000000000, 0xFFFF888000000000 + (1 << 45)):
        with pytest.raises(BadRequest):
            base._check_address(wrong)


def test_errno_is_named_and_success_is_silent(base: KernelBase) -> None:
    base._check_errno(0, "nothing")
    with pytest.raises(BadRequest, match=r"rmdir: EBUSY \(.*busy\)"):
        base._check_errno(-16, "rmdir")


def test_error_inside_the_allocator_is_an_oops_that_names_the_call(base: KernelBase) -> None:
    base.m[base._task(0)] = 0
    with pytest.raises(KernelOops, match=r"free_pages\(0, 4611686018427387904, 0\)"):
        base._call("free_pages", 0, 1 << 62, 0)


@pytest.mark.parametrize("cpu", [-1, 2, 1 << 70])
def test_cpus_that_do_not_exist_are_refused(base: KernelBase, cpu: int) -> None:
    with pytest.raises(BadRequest, match="there is no cpu"):
        base._place(None, cpu)
