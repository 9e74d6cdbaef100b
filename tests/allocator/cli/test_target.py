# SPDX-License-Identifier: GPL-2.0-only
"""allocator/cli/target.py: which words are numalab's, and what a name means."""

from __future__ import annotations

import argparse

import pytest

from allocator.cli.target import add_target_arguments, open_target, split_words
from machine import NumalabError, UsageError


def parsed(*words: str) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser()
    add_target_arguments(parser)
    parser.add_argument("words", nargs=argparse.REMAINDER)
    args = parser.parse_args(words)
    return args, split_words(args, add_target_arguments)


def test_options_are_taken_out_and_the_rest_keeps_its_order() -> None:
    args, rest = parsed("--numa", "1x64M", "kmem", "-f", "--json", "--append", "mem=48M", "-8", "x")
    assert rest == ["kmem", "-f", "-8", "x"]
    assert (args.numa, args.append, args.json, args.text) == (["1x64M"], ["mem=48M"], True, False)


def test_options_before_and_behind_add_up() -> None:
    args, rest = parsed("--numa", "node,nodeid=0,cpus=0,mem=64M", "x", "--numa", "node,nodeid=1")
    assert args.numa == ["node,nodeid=0,cpus=0,mem=64M", "node,nodeid=1"]
    assert rest == ["x"]


def test_an_option_without_its_value_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        parsed("x", "--numa")


def test_no_name_boots_the_machine_that_the_options_describe() -> None:
    args, _ = parsed("--numa", "1x64M")
    target = open_target(args, None)
    assert target.memory.size == 64 << 20
    assert target.ended == ""


def test_a_missing_file_is_named() -> None:
    args, _ = parsed()
    with pytest.raises(NumalabError, match=r"nowhere\.S"):
        open_target(args, "nowhere.S")
