# SPDX-License-Identifier: GPL-2.0-only
"""Snapshots: a machine in a file, to be continued as if it had never stopped.

    save_snapshot(machine, "full.snap")
    machine = load_snapshot("full.snap")        # RAM, CPUs, devices, clock, topology

The file, little-endian:

      0   8  "numalab" 0x1a
      8   4  format version, 3
     12   4  reserved, 0
     16   8  size of the file in bytes
     24   8  pages of RAM in it
     32  32  SHA-256 of all the rest of the file (bytes 0-31 and from 64 on)
     64      state: u64 length, u64 stored length, zlib stream of JSON
             blobs: u64 length, u64 stored length, zlib stream of byte strings, end to end
             chunks of RAM up to the end of the file, frames ascending: see `pagecodec`

The JSON object has `topology` (machine_type, nodes as [bytes of RAM, [CPU ids]], distances),
`quantum`, and `state`, which is what `Machine.save` gives; a byte string in it is
{"blob": [offset, length]}. Pages that are not in the file are zero. Equal machines give equal
files.

Handlers and sinks are the owner's and not in the file: the kernel of a loaded machine is connected
by `allocator.resume`. A file is believed only after its checksum, and not even then: every size has
a limit, every number is checked, and reading it costs no more than the RAM it really has."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import zlib
from os import PathLike
from typing import Any, BinaryIO

from machine.errors import (
    BringUpError,
    InputError,
    NumalabError,
    SnapshotError,
    TopologyError,
    UsageError,
)
from machine.machine import Machine
from machine.outfile import replacing
from machine.topology import Node, Topology

MAGIC = b"numalab\x1a"
FORMAT_VERSION = 3
MAX_STATE, MAX_BLOBS = 4 << 20, 64 << 20
"""Bytes of the state as JSON, and of all byte strings in it."""
MAX_QUANTUM = 1 << 40

_PROLOGUE = struct.Struct("<8s2I2Q")
_HEADER = _PROLOGUE.size + 32
_SECTION = struct.Struct("<2Q")
_BLOCK = 1 << 20


def save_snapshot(machine: Machine, path: str | PathLike[str]) -> None:
    """Write `machine`, which must not be running, to `path`: all of it or nothing.

    Raises `OutputError` naming the file, which keeps what it held; `UsageError` inside a run;
    `SnapshotError` when the guest's output is too long to be kept."""
    from machine.pagecodec import pack, used_pages

    state, blobs = _describe(machine)
    with replacing(path) as file:
        digest = hashlib.sha256()

        def put(data: bytes) -> None:
            file.write(data)
            digest.update(data)

        file.write(bytes(_HEADER))
        for raw in (state, blobs):
            stored = zlib.compress(raw, 1)
            put(_SECTION.pack(len(raw), len(stored)))
            put(stored)
        count = 0
        for frames, pages in used_pages(machine.memory):
            put(pack(frames, pages))
            count += len(frames)
        prologue = _PROLOGUE.pack(MAGIC, FORMAT_VERSION, 0, file.tell(), count)
        digest.update(prologue)
        file.seek(0)
        file.write(prologue + digest.digest())


def load_snapshot(path: str | PathLike[str]) -> Machine:
    """The machine in the file.

    Raises `InputError` for a file that cannot be read; `SnapshotError` with the reason for one that
    is truncated, altered, of a newer format or no snapshot; `BringUpError` when the host has no
    room for the machine."""
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{name}: not a regular file")
            return _load(file)
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from None
    except SnapshotError as error:
        raise SnapshotError(f"{name}: {error}") from None


def is_snapshot(path: str | PathLike[str]) -> bool:
    """True for a readable file that begins as a snapshot does."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


# --- writing --------------------------------------------------------------------------------------
def _describe(machine: Machine) -> tuple[bytes, bytes]:
    """The state as JSON, and the byte strings it refers to."""
    blobs = bytearray()

    def place(value: object) -> object:
        if not isinstance(value, bytes):
            raise TypeError(f"{value!r} cannot be in a saved state")
        blobs.extend(value)
        return {"blob": [len(blobs) - len(value), len(value)]}

    topology = machine.topology
    document = {
        "topology": {
            "machine_type": topology.machine_type,
            "nodes": [[node.mem, list(node.cpus)] for node in topology.nodes],
            "distances": topology.distances,
        },
        "quantum": machine.quantum,
        "state": machine.save(),
    }
    state = json.dumps(document, default=place, separators=(",", ":")).encode()
    if len(state) > MAX_STATE or len(blobs) > MAX_BLOBS:
        raise SnapshotError(
            f"the machine's output ({len(blobs):,} bytes) is too long for a snapshot"
            f" (at most {MAX_BLOBS:,})"
        )
    return state, bytes(blobs)


# --- reading --------------------------------------------------------------------------------------
def _load(file: BinaryIO) -> Machine:
    count = _check_file(file)
    file.seek(_HEADER)
    state, blobs = _read_section(file, MAX_STATE), _read_section(file, MAX_BLOBS)
    document = _parse(state, blobs)
    try:
        machine = _build(document)
        _check_room(machine, count)
        _read_ram(file, machine, count)
        machine.load(document["state"])
    except (TopologyError, UsageError) as error:
        raise SnapshotError(str(error)) from None
    except NumalabError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise SnapshotError(f"the saved state makes no sense ({error})") from None
    return machine


def _check_file(file: BinaryIO) -> int:
    """Look at everything that can be told without believing the contents; the pages of RAM."""
    size = os.fstat(file.fileno()).st_size
    header = file.read(_HEADER)
    if header[: len(MAGIC)] != MAGIC[: len(header)] or not header:
        raise SnapshotError("this is no snapshot")
    if len(header) < _HEADER:
        raise SnapshotError(f"truncated: {size} bytes are less than a header")
    _, version, reserved, told, count = _PROLOGUE.unpack_from(header)
    if version > FORMAT_VERSION:
        raise SnapshotError(
            f"written by a newer numalab (format {version}, this one reads {FORMAT_VERSION})"
        )
    if version < 1 or reserved:
        raise SnapshotError("altered: the header is damaged")
    if version < FORMAT_VERSION:
        raise SnapshotError(
            f"written by an older numalab (format {version}, this one reads {FORMAT_VERSION})"
        )
    if size < told:
        raise SnapshotError(f"truncated: {size:,} of {told:,} bytes")
    if size > told:
        raise SnapshotError(f"altered: {size:,} bytes, {told:,} were written")
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    digest.update(header[: _PROLOGUE.size])
    if digest.digest() != header[_PROLOGUE.size :]:
        raise SnapshotError("altered: the checksum does not match")
    return int(count)


def _read(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise SnapshotError("the contents end too early")
    return data


def _read_section(file: BinaryIO, limit: int) -> bytes:
    from machine.pagecodec import inflate, longest

    length, stored = _SECTION.unpack(_read(file, _SECTION.size))
    if length > limit or stored > longest(length):
        raise SnapshotError("a section has an impossible size")
    return inflate(_read(file, stored), length)


def _parse(state: bytes, blobs: bytes) -> dict[str, Any]:
    """The JSON document with its byte strings."""

    def refuse(text: str) -> None:
        raise ValueError(f"{text} is no whole number")

    def restore(item: dict[str, Any]) -> object:
        if item.keys() != {"blob"}:
            return item
        offset, length = item["blob"]
        if not 0 <= offset <= offset + length <= len(blobs):
            raise ValueError("a byte string lies outside")
        return blobs[offset : offset + length]

    try:
        document = json.loads(state, parse_float=refuse, parse_constant=refuse, object_hook=restore)
    except (ValueError, TypeError, RecursionError) as error:
        raise SnapshotError(f"the saved state cannot be read ({error})") from None
    if not isinstance(document, dict):
        raise SnapshotError("the saved state is no object")
    _check_numbers(document)
    return document


def _check_numbers(value: object) -> None:
    """Everything saved is made of these; what is nested cannot be deeper than JSON let it be."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_numbers(item)
    elif isinstance(value, bool) or not isinstance(value, int | str | bytes | None):
        raise SnapshotError(f"the saved state holds {value!r}")
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        raise SnapshotError("the saved state holds a number beyond 64 bits")


def _build(document: dict[str, Any]) -> Machine:
    saved, quantum = document["topology"], document["quantum"]
    nodes = tuple(
        Node(nid, _integer(mem), tuple(_integer(cpu) for cpu in cpus))
        for nid, (mem, cpus) in enumerate(saved["nodes"])
    )
    distances = tuple(tuple(_integer(cell) for cell in row) for row in saved["distances"])
    topology = Topology(nodes, distances, saved["machine_type"])
    if not 1 <= _integer(quantum) <= MAX_QUANTUM:
        raise SnapshotError(f"quantum {quantum}")
    return Machine(topology, quantum=quantum)


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no number")
    return value


def _check_room(machine: Machine, pages: int) -> None:
    """Refuse what would drive the host out of memory before any of it is read."""
    memory = machine.memory
    room = sum(end - start for start, end in memory.extents) + memory.end - memory.size
    if pages > room >> 12:
        raise SnapshotError(f"{pages:,} pages of RAM are more than the machine has")
    available = _available_memory()
    if available is not None and pages << 12 > available:
        raise BringUpError(
            f"the snapshot holds {pages << 12:,} bytes of RAM, the host has {available:,} left"
        )


def _available_memory() -> int | None:
    """Bytes that the host can still hand out, swap included; None where it does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return sum(int(fields[name].split()[0]) << 10 for name in ("MemAvailable", "SwapFree"))
    except (OSError, KeyError, ValueError):
        return None


def _read_ram(file: BinaryIO, machine: Machine, count: int) -> None:
    from machine.pagecodec import HEADER, check_header, unpack

    memory = machine.memory
    rows = memory.rows
    above, left = 0, count
    while header := file.read(HEADER.size):
        if len(header) != HEADER.size:
            raise SnapshotError("the contents end too early")
        frames, pages = unpack(header, _read(file, check_header(header)[3]))
        left -= len(frames)
        if frames[0] < above or left < 0:
            raise SnapshotError("the chunks of RAM are not in order")
        above = int(frames[-1]) + 1
        for start, end in _runs(frames.tolist()):
            if not memory.is_backed(start << 12, (end - start) << 12):
                raise SnapshotError(f"there is no RAM at frames {start:#x} to {end - 1:#x}")
        rows[frames] = pages
    if left:
        raise SnapshotError("pages of RAM are missing")


def _runs(frames: list[int]) -> list[tuple[int, int]]:
    from machine.hostmap import merge_runs

    return merge_runs((frame, frame + 1) for frame in frames)
