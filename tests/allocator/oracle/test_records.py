# SPDX-License-Identifier: GPL-2.0-only
"""Files of recordings: found, unpacked, checked; whatever is wrong becomes one line."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from allocator.oracle.records import find_recordings, read_json
from machine.errors import ImageError, InputError, NumalabError

from .machines import COPY, recording


def write_index(folder: Path, **fields: Any) -> None:
    """An index.json with these fields besides empty lists."""
    folder.mkdir(parents=True, exist_ok=True)
    index = {"states": [], "runs": [], "traces": []} | fields
    (folder / "index.json").write_text(json.dumps(index))


def test_recordings_come_in_name_order_with_their_machine() -> None:
    names = [r.name for r in find_recordings(COPY)]
    assert names == sorted(names)
    assert recording("M5/early").machine == "M5"
    assert recording("M5/early").cmdline == "kernelcore=50%"


def test_parameters_are_found_above_a_single_recording() -> None:
    (found,) = find_recordings(COPY / "M5" / "early")
    assert (found.name, found.cmdline) == ("M5/early", "kernelcore=50%")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress], ids=["json", "gz", "xz"])
def test_files_may_be_packed(tmp_path: Path, pack: Any) -> None:
    suffix = {bytes: "json", gzip.compress: "json.gz", lzma.compress: "json.xz"}[pack]
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(pack(b'{"a": 1}'))
    assert read_json(file) == {"a": 1}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json.gz", b"not gzip"),
        ("a.json.gz", gzip.compress(b'{"a": 1}' * 100, mtime=0)[:-9]),
        ("a.json.xz", b"not xz"),
        ("a.json", b"{"),
        ("a.json", b"[1]"),
        ("a.json", b"\xff\xfe"),
        ("a.json", b"[" * 100_000),
    ],
)
def test_damaged_files_are_image_errors_that_name_the_file(
    tmp_path: Path, name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError, match=name):
        read_json(tmp_path / name)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        read_json(tmp_path / "nowhere.json")


def test_a_folder_without_recordings_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no index\.json"):
        find_recordings(tmp_path)
    with pytest.raises(InputError, match="no such directory"):
        find_recordings(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="not a directory"):
        find_recordings(tmp_path / "file")


@pytest.mark.parametrize(
    "fields",
    [
        {"states": None},
        {"states": [{"tag": 1, "file": "a"}]},
        {"runs": [{"file": "a", "run": "0", "kind": "o0"}]},
        {"states": [{"tag": "a", "file": "../../etc/passwd"}]},
        {"runs": [{"file": "/etc/passwd", "run": 0, "kind": "o0"}]},
    ],
)
def test_a_malformed_index_is_an_image_error(tmp_path: Path, fields: dict[str, Any]) -> None:
    write_index(tmp_path / "M" / "late", **fields)
    with pytest.raises(ImageError, match=r"index\.json"):
        find_recordings(tmp_path)


def test_a_state_is_found_by_the_first_word_of_its_tag() -> None:
    source = recording("M2/early")
    assert source.tag("early1") == "early1-after-mem_init"
    assert source.tag("early1b") is None
    assert source.has_state("run2-after")
    with pytest.raises(ImageError, match="early4"):
        source.state("early4")


def test_a_state_without_its_parts_is_an_image_error(tmp_path: Path) -> None:
    source = recording("M2/early")
    whole = source.state("early1")
    for part in ("globals", "zones", "nodes", "page_zone", "cpus", "dist"):
        broken = {key: value for key, value in whole.items() if key != part}
        (tmp_path / "s.json").write_text(json.dumps(broken))
        write_index(tmp_path, states=[{"tag": "early1", "file": "s.json"}])
        (found,) = find_recordings(tmp_path)
        with pytest.raises(NumalabError, match=part):
            found.state("early1")
