# SPDX-License-Identifier: GPL-2.0-only
"""allocator/interp_build.py: which code the hot functions get."""

from __future__ import annotations

import ast
import dis

import pytest

from allocator import page_alloc
from allocator.engine import hot_functions
from allocator.interp import PREFIX, built_functions
from allocator.interp_build import Foreign, build_code, built_tree, called_names, read_sources
from allocator.interp_inline import Source


@pytest.fixture(autouse=True)
def interpreted(process_engine: str) -> None:
    """These are about what the interpreter runs."""
    if process_engine != "python":
        pytest.skip("the process is on compiled code")


@pytest.fixture(scope="module")
def sources() -> dict[str, Source]:
    return read_sources(built_functions(hot_functions()))


def text(name: str, sources: dict[str, Source]) -> str:
    return ast.unparse(built_tree(name, sources, called_names(sources)))


def test_sources_have_numbers_in_the_place_of_constants(sources: dict[str, Source]) -> None:
    names = {n.id for n in ast.walk(sources["free_pages"].node) if isinstance(n, ast.Name)}
    assert not names & {"G_TRACE_MASK", "SECTION_PAGES", "COUNTS_ONE"}
    assert {"m", "pfn", "page_place"} <= names


def test_usual_request_and_its_free_call_nothing(sources: dict[str, Source]) -> None:
    shown = text("repeat_pages", sources)
    for name in ("first_zone_page", "take_first_page", "commit_page", "direct_word", "free_pages"):
        assert f"{name}(" not in shown


def test_functions_of_other_modules_stand_among_the_constants(sources: dict[str, Source]) -> None:
    assert f"'{PREFIX}function alloc_pages_slowpath'" in text("repeat_pages", sources).replace(
        r"\x00", "\0"
    )
    assert "alloc_pages_slowpath(" in text("alloc_pages_nodemask", sources)


def test_own_variables_are_not_taken_for_functions() -> None:
    tree = ast.parse("def f(a):\n    trace = a\n    return trace + other(a)\n").body[0]
    assert isinstance(tree, ast.FunctionDef)
    foreign = Foreign(Source(tree, "file.py", {}), {"trace", "other", "a"})
    shown = ast.unparse(foreign.visit(tree))
    assert "return trace +" in shown
    assert "function other" in shown


def test_building_leaves_the_sources_alone(sources: dict[str, Source]) -> None:
    before = {name: ast.dump(source.node) for name, source in sources.items()}
    for name in ("repeat_pages", "rmqueue", "free_unusual"):
        text(name, sources)
    assert {name: ast.dump(source.node) for name, source in sources.items()} == before


def test_code_is_the_functions_own_by_name_arguments_and_file() -> None:
    hot = built_functions(hot_functions())
    few = {name: hot[name] for name in ("rmqueue_smallest", "expand", "va_word", "list_del")}
    for name, code in build_code(few).items():
        function = few[name]
        assert code.co_name == name
        assert code.co_filename == function.__code__.co_filename
        assert code.co_firstlineno == function.__code__.co_firstlineno
        assert code.co_varnames[: code.co_argcount] == tuple(
            n for n in function.__annotations__ if n != "return"
        )
        assert not code.co_freevars


def test_usual_request_takes_fewer_steps_than_its_source() -> None:
    hot = built_functions(hot_functions())
    code = build_code(hot)["first_zone_page"]
    loaded = [i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"]
    assert set(loaded) <= {"KeyError", "zone_statistics", "check_new_page"}
    assert page_alloc.free_pages is hot["free_pages"]
