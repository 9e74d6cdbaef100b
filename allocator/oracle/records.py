# SPDX-License-Identifier: GPL-2.0-only
"""Reading recordings: the folders that hold an index.json and the files it lists.

`find_recordings` walks a directory tree and returns a `Recording` for every index.json in it, in
name order; its methods parse STATE, RUN and log files when asked. Files may be plain JSON, gzip or
xz. Whatever is wrong with a path is an `InputError`, whatever is wrong with the bytes an
`ImageError`; both name the file.

machines.json, in the tree's root or above, gives the kernel parameters of each machine (the name
of the folder around a recording).
"""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from machine.errors import ImageError, InputError

from . import schema
from .limits import check_numbers

MAX_FILE_BYTES = 1 << 30
Json = dict[str, Any]


@dataclass(frozen=True)
class RunRef:
    """One scripted run of a recording: its file, number and kind (`o0`, `mt`, `zones` ...)."""

    file: str
    run: int
    kind: str


@dataclass(frozen=True)
class Recording:
    """One folder: which files hold its STATEs (by tag), RUNs and logs.

    `name` is the folder relative to where the search began, `cmdline` the kernel parameters of its
    machine.
    """

    path: Path
    name: str
    machine: str
    cmdline: str
    states: dict[str, str]
    runs: tuple[RunRef, ...]
    traces: tuple[str, ...]
    ftrace: str | None

    @property
    def starts_at_map(self) -> bool:
        """True if the RUNs begin right after mem_init(), where our own bring-up ends."""
        return self.path.name.startswith("early")

    @property
    def is_compaction(self) -> bool:
        """True if the RUNs compact memory."""
        return self.path.name.startswith("late-compact")

    def tag(self, stem: str) -> str | None:
        """The full tag of a STATE from its first word: "early1" finds "early1-after-mem_init"."""
        if stem in self.states:
            return stem
        for tag in self.states:
            if tag.split("-", 1)[0] == stem:
                return tag
        return None

    def has_state(self, stem: str) -> bool:
        """True if the recording holds that STATE."""
        return self.tag(stem) is not None

    def state(self, stem: str) -> Json:
        """The parsed STATE with that tag or first word of a tag."""
        tag = self.tag(stem)
        if tag is None:
            raise ImageError(f"{self.path / 'index.json'}: there is no STATE {stem!r}")
        file = self.path / self.states[tag]
        state = read_json(file)
        sized_only = stem == "early0" or tag.startswith("early0")
        schema.check(state, schema.STATE if sized_only else schema.FULL_STATE, str(file))
        check_numbers(state)
        return state

    def run(self, ref: RunRef) -> Json:
        """The parsed RUN."""
        file = self.path / ref.file
        run = read_json(file)
        schema.check(run, schema.RUN, str(file))
        return run

    def trace(self, name: str) -> Json:
        """The parsed log."""
        file = self.path / name
        trace = read_json(file)
        schema.check(trace, schema.TRACE, str(file))
        return trace


def open_packed(path: Path) -> BinaryIO:
    """Opens a plain, .gz or .xz file for reading bytes. Raises InputError."""
    try:
        if path.suffix == ".gz":
            return cast(BinaryIO, gzip.open(path, "rb"))
        if path.suffix == ".xz":
            return cast(BinaryIO, lzma.open(path, "rb"))
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def read_packed(path: Path) -> bytes:
    """The unpacked bytes of a file.

    Raises:
        InputError: the file cannot be read.
        ImageError: it is not what its suffix says, or larger than 1 GiB.
    """
    try:
        with open_packed(path) as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise ImageError(f"{path}: damaged: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"{path}: more than {MAX_FILE_BYTES:,} bytes of JSON")
    return data


def read_json(path: Path) -> Json:
    """The JSON object in a plain, .gz or .xz file. Raises InputError or ImageError."""
    try:
        value = json.loads(read_packed(path))
    except json.JSONDecodeError as error:
        raise ImageError(f"{path}:{error.lineno}:{error.colno}: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise ImageError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ImageError(f"{path}: {schema.kind_of(value)} where an object belongs")
    return value


def kernel_parameters(start: Path) -> dict[str, str]:
    """Machine name -> kernel parameters, from the nearest machines.json at or above `start`."""
    for folder in (start, *start.parents[:3]):
        file = folder / "machines.json"
        if file.is_file():
            machines = read_json(file)
            schema.check(machines, schema.Each({"kernel_parameters?": str}), str(file))
            return {name: str(m.get("kernel_parameters", "")) for name, m in machines.items()}
    return {}


def read_recording(index: Path, root: Path, parameters: dict[str, str]) -> Recording:
    """The recording that an index.json lists. Raises InputError or ImageError."""
    data = read_json(index)
    schema.check(data, schema.INDEX, str(index))
    folder = index.parent
    parts = folder.relative_to(root).parts or (folder.parent.name, folder.name)
    if len(parts) == 1:
        parts = (folder.parent.name, folder.name)
    machine = folder.parent.name
    packed = [
        entry["file"] for group in ("states", "runs", "traces") for entry in data.get(group, [])
    ]
    for file in packed:
        if Path(file).name != file:
            raise ImageError(f"{index}: file {file!r} is outside the folder")
    ftrace = next(
        (f.name for f in sorted(folder.glob("ftrace.txt*")) if data.get("ftrace_lines")), None
    )
    return Recording(
        path=folder,
        name="/".join(parts),
        machine=machine,
        cmdline=parameters.get(machine, ""),
        states={entry["tag"]: entry["file"] for entry in data["states"]},
        runs=tuple(RunRef(r["file"], r["run"], r["kind"]) for r in data["runs"]),
        traces=tuple(t["file"] for t in data.get("traces", [])),
        ftrace=ftrace,
    )


def find_recordings(root: Path) -> list[Recording]:
    """Every recording under `root`, in name order.

    Raises:
        InputError: `root` is no readable directory or holds no index.json.
        ImageError: an index is malformed.
    """
    root = root.resolve()
    if not root.is_dir():
        raise InputError(
            f"{root}: not a directory" if root.exists() else f"{root}: no such directory"
        )
    try:
        indexes = sorted(root.rglob("index.json"))
    except OSError as error:
        raise InputError(f"{root}: {error.strerror or error}") from None
    if not indexes:
        raise InputError(f"{root}: no index.json in it")
    parameters = kernel_parameters(root)
    return [read_recording(index, root, parameters) for index in indexes]
