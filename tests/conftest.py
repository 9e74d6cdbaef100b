# SPDX-License-Identifier: GPL-2.0-only
"""The project's own pytest plugin, also where the project is not installed but only checked out,
pytest's own tester for the tests of the plugin, and `--engine`: which of the two engines the
allocator's tests run on.

`--engine compiled` runs all of them on compiled code, `--engine both` on either. Without it they
are interpreted, and those marked `both_engines` run on compiled code as well, if there is Numba.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest

from allocator.engine import compiled_available, install_engine, load_engine

pytest_plugins = ["pytester"]
if not entry_points(group="pytest11", name="numalab"):
    pytest_plugins.append("allocator.pytest_plugin")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine",
        choices=("python", "compiled", "both"),
        default="python",
        help="what runs the allocator's hot path in the tests (default: python)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    choice = metafunc.config.getoption("--engine")
    wanted = ["python", "compiled"] if choice == "both" else [choice]
    marked = metafunc.definition.get_closest_marker("both_engines") is not None
    if marked and compiled_available():
        wanted = ["python", "compiled"]
    if wanted != ["python"]:
        metafunc.parametrize("process_engine", wanted, indirect=True, scope="session")


@pytest.fixture(scope="session", autouse=True)
def process_engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The engine that serves the test, by name."""
    name = getattr(request, "param", "python")
    if name == "python":
        yield name
        return
    undo = install_engine(load_engine(name), "tests")
    yield name
    undo()
