# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin: machines as fixtures, checked after each test without asking.

    @pytest.mark.numa("2x64M", distances=[[10, 20], [20, 10]])
    def test_falls_back_to_the_nearest_node(kernel):
        ...

Fixtures: `kernel` (allocator.kernel.Kernel on a freshly booted machine), `numa_machine` (that
machine), `numa_random` (a seeded random.Random), `fault_sweep` (kernels whose n-th allocation
fails, for every n). The marker `numa` names the machine; several of them, or --numa-topologies, run
the test on several machines. When the test is over every frame is checked; a bad frame, or one that
was allocated and not freed, fails it with a picture. `numa_leaks` and `kernel.keep(page)`
acknowledge frames that stay.

This module is loaded by every pytest run in an environment where numalab is installed, so it
imports nothing but pytest; everything else is loaded when a test asks for one of the fixtures.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from random import Random

    from machine import Machine

    from .testkit.lab import Config, Lab
    from .testkit.tracked import TrackedKernel

FIXTURES = frozenset({"kernel", "numa_machine", "numa_random", "fault_sweep"})
_LABS: pytest.StashKey[list[Lab]] = pytest.StashKey()
_IN_USE: pytest.StashKey[bool] = pytest.StashKey()
_MARKER_OPTIONS = frozenset({"distances", "append", "seed", "machine_type"})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Command line options of the plugin."""
    group = parser.getgroup("numalab")
    group.addoption(
        "--numa-topologies",
        metavar="SPEC;SPEC",
        default=None,
        help="machines on which tests run that name none themselves, e.g. '1x64M;2x64M;4x64M'",
    )
    group.addoption(
        "--numa-append", metavar="PARAMETERS", default="", help="kernel parameters for all machines"
    )
    group.addoption(
        "--numa-seed", metavar="N", type=int, default=None, help="seed for all machines"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Announces the markers."""
    config.addinivalue_line(
        "markers",
        "numa(spec, ..., distances=None, append='', seed=1, machine_type='pc'): the machine of the"
        " kernel fixture; with several of these markers the test runs on each machine",
    )
    config.addinivalue_line(
        "markers", "numa_leaks(reason): frames that this test leaves allocated are no mistake"
    )
    config.addinivalue_line(
        "markers",
        "fault_sweep(limit=10000): run the test again and again on a fresh kernel, the n-th"
        " allocation failing, until no allocation failed",
    )


# --- which machines -------------------------------------------------------------------------------
def _config_for(specs: tuple[str, ...], options: dict[str, Any], config: pytest.Config) -> Config:
    """The machine that the arguments of a `numa` marker and the command line describe."""
    from .testkit.lab import DEFAULT_SEED, DEFAULT_TOPOLOGY, Config

    unknown = set(options) - _MARKER_OPTIONS
    if unknown:
        raise pytest.UsageError(f"marker numa has no option {min(unknown)!r}")
    distances = options.get("distances")
    append = (options.get("append", ""), config.getoption("numa_append"))
    seed = config.getoption("numa_seed")
    return Config(
        specs=specs or (DEFAULT_TOPOLOGY,),
        distances=tuple(tuple(row) for row in distances) if distances else None,
        append=" ".join(part for part in append if part),
        seed=options.get("seed", DEFAULT_SEED) if seed is None else seed,
        machine_type=options.get("machine_type", "pc"),
    )


def _configs(definition: Any, config: pytest.Config) -> list[Config]:
    """The machines that a test is to run on: its own, or those of the command line."""
    marks = list(definition.iter_markers("numa"))
    named = [mark for mark in marks if mark.args]
    if named:
        return [_config_for(mark.args, mark.kwargs, config) for mark in reversed(named)]
    options = marks[0].kwargs if marks else {}
    specs = [spec.strip() for spec in (config.getoption("numa_topologies") or "").split(";")]
    chosen: list[tuple[str, ...]] = [(spec,) for spec in specs if spec] or [()]
    return [_config_for(spec, options, config) for spec in chosen]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a machine, where there are several."""
    if not FIXTURES & set(metafunc.fixturenames):
        return
    configs = _configs(metafunc.definition, metafunc.config)
    single = len(configs) == 1 and not metafunc.config.getoption("numa_topologies")
    if not single:
        ids = [config.name for config in configs]
        metafunc.parametrize("_numa_config", configs, ids=ids, indirect=True)


@pytest.fixture
def _numa_config(request: pytest.FixtureRequest) -> Config:
    """The machine of this test."""
    given: Config | None = getattr(request, "param", None)
    return given or _configs(request.node, request.config)[0]


# --- fixtures -------------------------------------------------------------------------------------
@pytest.fixture
def _numa_lab(request: pytest.FixtureRequest, _numa_config: Config) -> Iterator[Lab]:
    from .testkit.lab import Lab

    lab = Lab(_numa_config)
    request.node.stash.setdefault(_LABS, []).append(lab)
    request.config.stash[_IN_USE] = True
    yield lab
    request.config.stash[_IN_USE] = False


@pytest.fixture
def kernel(_numa_lab: Lab) -> TrackedKernel:
    """The allocator of a freshly booted machine (`allocator.kernel.Kernel`)."""
    return _numa_lab.kernel


@pytest.fixture
def numa_machine(_numa_lab: Lab) -> Machine:
    """The machine (`machine.Machine`) that `kernel` runs on, its kernel up, no CPU started."""
    return _numa_lab.machine


@pytest.fixture
def numa_random(_numa_lab: Lab) -> Random:
    """A random.Random with the machine's seed."""
    return _numa_lab.random


@pytest.fixture
def fault_sweep(
    request: pytest.FixtureRequest, _numa_config: Config
) -> Generator[Iterator[TrackedKernel], None, None]:
    """Fresh kernels, the 1st, 2nd, 3rd ... allocation failing, until none did: a test loops over
    them. Each is checked before the next comes."""
    from .testkit.lab import fault_sweep as sweep

    request.config.stash[_IN_USE] = True
    yield (lab.kernel for lab in sweep(_numa_config))
    request.config.stash[_IN_USE] = False


# --- after the test -------------------------------------------------------------------------------
def _judge(item: pytest.Item) -> str:
    """What is wrong with the machines that a test has used; "" if nothing is."""
    allowed = item.get_closest_marker("numa_leaks") is not None
    verdicts = [lab.verdict(leaks_allowed=allowed) for lab in item.stash.get(_LABS, [])]
    return "\n\n".join(verdict for verdict in verdicts if verdict)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Checks the frames when the test has passed; when it has not, adds what the check says."""
    try:
        result = yield
    except (Exception, pytest.fail.Exception):
        verdict = _judge(item)
        if verdict:
            item.add_report_section("call", "numalab", verdict)
        raise
    verdict = _judge(item)
    if verdict:
        pytest.fail(verdict, pytrace=False)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test with the fault_sweep marker: called until no allocation failed."""
    mark = pyfuncitem.get_closest_marker("fault_sweep")
    labs = pyfuncitem.stash.get(_LABS, [])
    if mark is None or not labs:
        return None
    from .testkit.lab import SWEEP_LIMIT, SweepFailure, fault_sweep

    first = labs.pop()
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    labs_in_turn = fault_sweep(first.config, mark.kwargs.get("limit", SWEEP_LIMIT))
    try:
        for n, lab in enumerate(labs_in_turn, 1):
            fresh = {"kernel": lab.kernel, "numa_machine": lab.machine, "numa_random": lab.random}
            arguments |= {name: fresh[name] for name in names if name in fresh}
            try:
                pyfuncitem.obj(**arguments)
            except Exception as error:
                error.add_note(f"numalab: allocation {n} had been made to fail")
                raise
    except SweepFailure as error:
        pytest.fail(str(error), pytrace=False)
    return True


def pytest_assertrepr_compare(
    config: pytest.Config, op: str, left: object, right: object
) -> list[str] | None:
    """Explains unequal pages, zones and lists of frames, in tests that use the fixtures."""
    if not config.stash.get(_IN_USE, False):
        return None
    from .testkit.assertions import explain

    return explain(op, left, right)
