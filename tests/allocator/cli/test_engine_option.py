# SPDX-License-Identifier: GPL-2.0-only
"""allocator/cli/engine_option.py: `--engine` serves a command, and nothing after it."""

from __future__ import annotations

import argparse

import pytest

from allocator import page_alloc
from allocator.cli.engine_option import add_engine_argument, chosen_engine
from allocator.engine import compiled_available, current_engine, load_engine
from machine import UsageError

from .conftest import Numalab


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_engine_argument(parser)
    return parser.parse_args(words)


def test_default_changes_nothing() -> None:
    before = current_engine()
    with chosen_engine(parse()):
        assert current_engine() is before


@pytest.mark.skipif(not compiled_available(), reason="numba is not installed")
def test_compiled_engine_serves_the_command_and_is_gone_after_it() -> None:
    before, interpreted = current_engine(), page_alloc.free_pages
    compiled = load_engine("compiled")
    with chosen_engine(parse("--engine", "compiled")):
        assert current_engine() is compiled
        assert page_alloc.free_pages is compiled.functions["free_pages"]
    assert current_engine() is before
    assert page_alloc.free_pages is interpreted


def test_compiled_without_numba_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allocator.engine.compiled_available", lambda: False)
    with (
        pytest.raises(UsageError, match="needs numba"),
        chosen_engine(parse("--engine", "compiled")),
    ):
        pass


@pytest.mark.skipif(not compiled_available(), reason="numba is not installed")
def test_boot_ends_the_same_on_both_engines(numalab: Numalab) -> None:
    results = [numalab("boot", "first_light.S", "--engine", name) for name in ("python", "auto")]
    assert results[0].out == results[1].out
    assert results[0].last == results[1].last
    assert numalab("boot", "first_light.S", "--engine", "fast").code == 64
