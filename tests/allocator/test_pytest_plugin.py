# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin, run by pytest's own tester on suites written here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A directory whose tests see the plugin once, installed or not."""
    monkeypatch.syspath_prepend(str(ROOT))
    pytester.makeini("[pytest]\naddopts = -p no:numalab -p allocator.pytest_plugin\n")
    return pytester


def test_the_kernel_fixture_is_a_booted_kernel(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        def test_it(kernel, numa_machine, numa_random):
            assert kernel.memory is numa_machine.memory
            assert [node.nid for node in kernel.nodes] == [0, 1]
            assert numa_random.random() == __import__("random").Random(1).random()
        """
    )
    suite.runpytest().assert_outcomes(passed=1)


def test_the_marker_names_machine_distances_parameters_and_seed(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest
        from allocator.kernel_globals import G_PRANDOM
        from allocator.layout import NODE_DISTANCE

        @pytest.mark.numa("2x64M", distances=[[10, 33], [33, 10]], append="kernelcore=50%", seed=9)
        def test_it(kernel):
            assert kernel.m[NODE_DISTANCE + 1] == 33
            assert kernel.zone(1, "Movable").populated
            assert kernel.m[G_PRANDOM] == 9
        """
    )
    suite.runpytest().assert_outcomes(passed=1)


def test_the_tours_example_passes_as_it_stands(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.numa("2x64M", distances=[[10, 20], [20, 10]])
        def test_falls_back_to_the_nearest_node(kernel):
            pages = kernel.exhaust(nid=0, gfp="GFP_KERNEL")
            page = kernel.alloc_pages("GFP_KERNEL", order=0, nid=0)
            assert page.nid == 1 and page.zone == "DMA32"
        """
    )
    suite.runpytest().assert_outcomes(passed=1)


def test_a_leak_fails_the_test_with_a_map_and_a_table(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        def test_leaks(kernel):
            page = kernel.alloc_pages("GFP_KERNEL", order=2)
            kernel.free_pages(kernel.alloc_pages("GFP_KERNEL"))
        """
    )
    result = suite.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "4 frames were allocated in the test and not freed",
            "*frame*pages*zone*pageblock*asked for*at*",
            "*0x*4 *0:DMA32*GFP_KERNEL order 2*test_a_leak_fails_*.py:2",
            "pageblocks of 512 frames:*",
            "zone 0:DMA32: * frames were free, * are now",
        ]
    )


@pytest.mark.parametrize(
    "body",
    [
        "    kernel.keep(kernel.alloc_pages('GFP_KERNEL', order=2), order=2)",
        "    pass; kernel.free_pages(kernel.alloc_pages('GFP_KERNEL'))",
        "    kernel.free_pages_exact(kernel.alloc_pages_exact(9000, 'GFP_KERNEL'), 9000)",
    ],
)
def test_what_is_freed_or_acknowledged_is_no_leak(suite: pytest.Pytester, body: str) -> None:
    suite.makepyfile(f"def test_it(kernel):\n{body}\n")
    suite.runpytest().assert_outcomes(passed=1)


def test_a_marker_allows_leaks_but_no_damage(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.numa_leaks(reason="on purpose")

        def test_leaks(kernel):
            kernel.alloc_pages("GFP_KERNEL")

        def test_damages(kernel):
            kernel.m[kernel.alloc_pages("GFP_KERNEL").word] ^= 1 << 40
        """
    )
    suite.runpytest().assert_outcomes(passed=1, failed=1)


def test_a_bad_frame_fails_the_test_with_rule_and_bytes(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        def test_scribbles(kernel):
            pfns = kernel.zone(0, "DMA32").free_list(10, 1)
            kernel.m[kernel.page(pfns[0]).word + 5] = 3
        """
    )
    result = suite.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "machine 2x64M is unsound after the test",
            "frame 0x*: on free_area[[]10[]] of 0:DMA32 but private says order 3",
            "  struct page 0x*: flags *",
        ]
    )


def test_when_a_test_fails_by_itself_the_damage_is_added(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        def test_fails(kernel):
            kernel.m[kernel.page(0x1000).word] ^= 1 << 40
            assert 1 == 2
        """
    )
    result = suite.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert 1 == 2*", "*numalab*", "frame 0x01000: flags has bits*"])


def test_topologies_of_the_command_line_multiply_what_names_none(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest

        def test_many(kernel):
            assert len(kernel.nodes) in (1, 3)

        @pytest.mark.numa("2x64M")
        def test_its_own(kernel):
            assert len(kernel.nodes) == 2

        def test_without():
            pass
        """
    )
    result = suite.runpytest("--numa-topologies=1x64M;3x32M", "-v")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*test_many[[]1x64M[]] PASSED*", "*test_many[[]3x32M[]] PASSED*"])


def test_several_markers_run_the_test_on_each_machine(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.numa("1x64M")
        @pytest.mark.numa("2x64M", append="kernelcore=50%")
        def test_it(kernel):
            pass
        """
    )
    suite.runpytest().assert_outcomes(passed=2)


def test_the_command_line_gives_parameters_and_seed_to_all(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        from allocator.kernel_globals import G_PRANDOM, G_STATIC_KEYS, KEY_PAGE_OWNER

        def test_it(kernel):
            assert kernel.m[G_PRANDOM] == 77
            assert kernel.m[G_STATIC_KEYS] & KEY_PAGE_OWNER
        """
    )
    suite.runpytest("--numa-seed=77", "--numa-append=page_owner=on").assert_outcomes(passed=1)


def test_mistakes_in_a_marker_are_told(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.numa("2x64M", nodes=3)
        def test_option(kernel):
            pass
        """
    )
    result = suite.runpytest()
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*marker numa has no option 'nodes'*"])


def test_a_sweep_fails_every_allocation_in_turn(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest
        seen = []

        @pytest.mark.fault_sweep
        def test_sweep(kernel):
            pages = [kernel.alloc_pages(gfp, order) for gfp, order in
                     (("GFP_KERNEL", 0), ("GFP_HIGHUSER_MOVABLE", 2), ("GFP_ATOMIC", 0))]
            seen.append([page is None for page in pages])
            for page, order in zip(pages, (0, 2, 0)):
                if page is not None:
                    kernel.free_pages(page, order)

        def test_all_were_seen():
            assert seen == [[True, False, False], [False, True, False], [False, False, True],
                            [False, False, False]]
        """
    )
    suite.runpytest().assert_outcomes(passed=2)


def test_a_sweep_finds_the_leak_on_an_error_path(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.fault_sweep
        def test_forgets(kernel):
            first = kernel.alloc_pages("GFP_KERNEL")
            second = first and kernel.alloc_pages("GFP_KERNEL")
            if second:
                kernel.free_pages(second)
                kernel.free_pages(first)

        @pytest.mark.fault_sweep
        def test_trips(kernel):
            kernel.free_pages(kernel.alloc_pages("GFP_KERNEL").pfn)
        """
    )
    result = suite.runpytest()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["with allocation 2 failing: 1 frame was allocated in the test and not freed"]
    )
    result.stdout.fnmatch_lines(["*numalab: allocation 1 had been made to fail*"])


def test_unequal_pages_and_lists_are_explained(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        def test_lists(kernel):
            zone = kernel.zone(0, "DMA32")
            other = zone.free_lists()
            other[10, 1] = other[10, 1][1:]
            assert zone.free_lists() == other

        def test_pages(kernel):
            assert kernel.page(0x1000) == kernel.page(0x3000)
        """
    )
    result = suite.runpytest()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*free lists differ*", "*free_area[[]10[]] Movable: * blocks*"])
    result.stdout.fnmatch_lines(["*first difference at place 0: 0x*", "*only on the left: 0x*"])
    result.stdout.fnmatch_lines(["*pfn * 4096 * 12288*"])


def test_other_peoples_assertions_are_left_alone(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_it():\n    assert [1, 2, 3] == [1, 2, 4]\n")
    result = suite.runpytest()
    result.stdout.fnmatch_lines(["*At index 2 diff: 3 != 4*"])
    assert "frames ==" not in result.stdout.str()


def test_a_suite_that_does_not_use_it_loads_nothing_of_it() -> None:
    code = (
        "import sys, allocator.pytest_plugin\n"
        "heavy = ('numpy', 'unicorn', 'machine', 'firmware')\n"
        "loaded = [name for name in sys.modules if name.split('.')[0] in heavy]\n"
        "print(loaded + [n for n in sys.modules if n.startswith('allocator.')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "['allocator.pytest_plugin']"
