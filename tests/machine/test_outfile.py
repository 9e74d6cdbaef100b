# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from machine import OutputError
from machine.outfile import check_writable, replacing


def test_a_file_appears_whole_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with replacing(target) as file:
        file.write(b"later")
        assert not target.exists()
        file.seek(0)
        file.write(b"L")
    assert target.read_bytes() == b"Later"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")

    def fail() -> None:
        with replacing(target) as file:
            file.write(b"new")
            raise error

    with pytest.raises(OutputError if error is OSError else error):
        fail()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_a_full_disk_is_an_output_error_that_names_the_file(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(OutputError, match="out: No space left on device") as caught:  # noqa: SIM117
        with replacing(target):
            raise OSError(28, "No space left on device")
    assert caught.value.exit_code == 73
    assert os.listdir(tmp_path) == []


def test_permissions_of_the_old_file_are_kept_and_links_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "out", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    with replacing(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/null"), tmp_path / "missing" / "out"):
        with pytest.raises(OutputError, match=str(path)), replacing(path):
            pytest.fail("there is nothing to write to")
        with pytest.raises(OutputError, match=str(path)):
            check_writable(path)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_looking_whether_a_file_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "out")
    assert os.listdir(tmp_path) == []
