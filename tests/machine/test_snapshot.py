# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import hashlib
import json
import random
import resource
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from machine import (
    InputError,
    Machine,
    NumalabError,
    OutputError,
    SnapshotError,
    Topology,
    UsageError,
    Verdict,
)
from machine.pagecodec import HEADER, pack
from machine.physmem import STORAGE_SIZE
from machine.snapshot import MAX_BLOBS, is_snapshot, load_snapshot, save_snapshot
from machine.topology import GIB, MIB, TIB

MAGIC = b"numalab\x1a"


def two_cpus(g: Any) -> Machine:
    """Each CPU writes its letter and the time stamp, counts in RAM, and halts after 30 rounds."""
    for cpu, letter in ((0, "41"), (1, "42")):
        code = f"b91e000000 b0{letter} e6e9 0f31 e6e9 48ff0425 00002{cpu}00 90 ffc9 75eb f4"
        g.start(code, cpu, 0x100000 + 0x1000 * cpu)
    machine: Machine = g.machine
    return machine


def ram(machine: Machine) -> list[tuple[int, bytes]]:
    """Every page that is not zero."""
    found = []
    for start, end in machine.memory.touched():
        for at in range(start, end, 4096):
            if any(page := machine.memory.read(at, 4096)):
                found.append((at, page))
    return found


def everything(machine: Machine) -> tuple[Any, ...]:
    return machine.topology, machine.quantum, machine.save(), ram(machine)


@pytest.fixture
def saved(guest: Callable[..., Any], tmp_path: Path) -> tuple[Machine, Path]:
    machine = two_cpus(guest(quantum=72))
    machine.run(max_instructions=100)
    path = tmp_path / "m.snap"
    save_snapshot(machine, path)
    return machine, path


def test_a_loaded_machine_is_the_saved_one(saved: tuple[Machine, Path]) -> None:
    machine, path = saved
    assert everything(load_snapshot(path)) == everything(machine)
    assert is_snapshot(path)


@pytest.mark.parametrize("cut", [0, 1, 71, 72, 73, 150, 399, 482, 10_000])
def test_going_on_gives_the_same_bytes_as_never_having_stopped(
    guest: Callable[..., Any], tmp_path: Path, cut: int
) -> None:
    whole, stopped = two_cpus(guest(quantum=72)), two_cpus(guest(quantum=72))
    whole.run()
    whole.run()
    stopped.run(max_instructions=cut)
    save_snapshot(stopped, tmp_path / "m.snap")
    resumed = load_snapshot(tmp_path / "m.snap")
    while resumed.run(max_instructions=97).kind == "budget":
        pass
    assert everything(resumed) == everything(whole)
    assert resumed.clock.now == whole.clock.now


def test_equal_machines_give_equal_files(guest: Callable[..., Any], tmp_path: Path) -> None:
    for name in ("a", "b"):
        machine = two_cpus(guest(quantum=72))
        machine.run(max_instructions=111)
        save_snapshot(machine, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    "specs",
    [
        ("4x64M,cpus=2",),
        ("node,cpus=0,mem=64M", "node,cpus=1-2", "node,mem=96M", "dist,src=0,dst=1,val=40",
         "dist,src=0,dst=2,val=30", "dist,src=1,dst=2,val=50"),
        ("2x3G",),
    ],
)  # fmt: skip
def test_every_topology_comes_back(tmp_path: Path, specs: tuple[str, ...]) -> None:
    machine = Machine(Topology.parse(*specs, machine_type="q35"), quantum=123)
    for start, end in machine.memory.extents:
        machine.memory.write_u64(end - 8, start | 1)
    save_snapshot(machine, tmp_path / "m.snap")
    assert everything(load_snapshot(tmp_path / "m.snap")) == everything(machine)


@pytest.mark.parametrize(("code", "state"), [("f4", "halted"), ("0f0b", "faulted")])
def test_stopped_halted_and_faulted_cpus_come_back(
    guest: Callable[..., Any], tmp_path: Path, code: str, state: str
) -> None:
    machine = guest().start(code)
    machine.run()
    machine.stop("exit", 3, "asked")
    save_snapshot(machine, tmp_path / "m.snap")
    loaded = load_snapshot(tmp_path / "m.snap")
    assert [cpu.state for cpu in loaded.cpus] == [state, "stopped"]
    assert loaded.run() == machine.run()
    assert loaded.run() == machine.run()


def test_a_sparse_machine_is_saved_by_what_it_has_touched(tmp_path: Path) -> None:
    machine = Machine(Topology.parse("4x256G"))
    assert machine.memory.size > TIB
    last = machine.memory.size - 8
    machine.memory.write_u64(1700 * GIB, 7)
    machine.memory.write_u64(last, 8)
    moment = machine.checkpoint()
    machine.memory.write_u64(1600 * GIB, 6)
    path = tmp_path / "m.snap"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    save_snapshot(machine, path)
    loaded = load_snapshot(path)
    if machine.memory.backing.method == "scan":
        assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 1
    assert [at for at, _ in ram(loaded)] == [1600 * GIB, 1700 * GIB, last & ~4095]
    assert path.stat().st_size < 4096
    moment.rewind()
    save_snapshot(machine, path)
    assert [at for at, _ in ram(load_snapshot(path))] == [1700 * GIB, last & ~4095]


def test_a_running_machine_is_not_saved(guest: Callable[..., Any], tmp_path: Path) -> None:
    machine = guest().start("66ba4c4e 66ef f4")
    path = tmp_path / "m.snap"

    def ring(cpu: int, value: int) -> Verdict:
        with pytest.raises(UsageError, match="only between two runs"):
            save_snapshot(machine, path)
        return Verdict.CONTINUE

    machine.doorbell.handler = ring
    machine.run()
    assert machine.doorbell.rings == 1
    assert not path.exists()


def test_output_that_is_too_long_is_said_before_a_file_is_touched(
    guest: Callable[..., Any], tmp_path: Path
) -> None:
    machine = guest().machine
    machine.console.output = bytearray(MAX_BLOBS + 1)
    with pytest.raises(SnapshotError, match=r"output .* too long"):
        save_snapshot(machine, tmp_path / "m.snap")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_or_read_is_said_with_its_name(
    saved: tuple[Machine, Path], tmp_path: Path
) -> None:
    machine, _ = saved
    missing = tmp_path / "no" / "m.snap"
    with pytest.raises(OutputError, match=str(missing)):
        save_snapshot(machine, missing)
    for path in (missing, tmp_path, Path("/dev/null")):
        with pytest.raises(InputError, match=str(path)):
            load_snapshot(path)
        assert not is_snapshot(path)


def test_a_failed_save_keeps_the_file_that_was_there(
    saved: tuple[Machine, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, path = saved
    before = path.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    machine.run()
    with pytest.raises(OutputError, match=r"m\.snap: No space left on device"):
        save_snapshot(machine, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["m.snap"]


# --- damage ---------------------------------------------------------------------------------------
def test_the_layout_is_the_documented_one(saved: tuple[Machine, Path]) -> None:
    machine, path = saved
    data = path.read_bytes()
    magic, version, reserved, size, pages = struct.unpack_from("<8s2I2Q", data)
    assert (magic, version, reserved, size) == (MAGIC, 3, 0, len(data))
    assert pages == len(ram(machine))
    assert hashlib.sha256(data[64:] + data[:32]).digest() == data[32:64]
    length, stored = struct.unpack_from("<2Q", data, 64)
    document = json.loads(zlib.decompress(data[80 : 80 + stored]))
    assert document["topology"]["nodes"] == [[64 * MIB, [0]], [64 * MIB, [1]]]
    assert document["quantum"] == 72
    assert len(zlib.decompress(data[80 : 80 + stored])) == length


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda d: b"", "this is no snapshot"),
        (lambda d: b"#!/bin/sh\n" * 100, "this is no snapshot"),
        (lambda d: d[:5], "truncated: 5 bytes are less than a header"),
        (lambda d: d[:-1], r"truncated: [\d,]+ of [\d,]+ bytes"),
        (lambda d: d + b"\0", r"altered: [\d,]+ bytes, [\d,]+ were written"),
        (lambda d: d[:8] + b"\x01\0\0\0" + d[12:], r"older numalab \(format 1, this one reads 3\)"),
        (lambda d: d[:8] + b"\x04\0\0\0" + d[12:], r"newer numalab \(format 4, this one reads 3\)"),
        (lambda d: d[:8] + bytes(4) + d[12:], "altered: the header is damaged"),
        (lambda d: d[:90] + bytes([d[90] ^ 1]) + d[91:], "altered: the checksum does not match"),
    ],
)
def test_a_file_is_refused_with_its_reason(
    saved: tuple[Machine, Path], damage: Callable[[bytes], bytes], reason: str
) -> None:
    path = saved[1]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SnapshotError, match=r"m\.snap: .*" + reason) as caught:
        load_snapshot(path)
    assert caught.value.exit_code == 65


def test_two_thousand_flipped_and_shortened_files_are_all_refused(
    saved: tuple[Machine, Path],
) -> None:
    path = saved[1]
    whole = path.read_bytes()
    rng = random.Random(4)
    for n in range(2000):
        data = bytearray(whole)
        if n % 2:
            del data[rng.randrange(len(data)) :]
        else:
            for _ in range(rng.choice((1, 1, 2, 8))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        if data == whole:
            continue
        path.write_bytes(data)
        with pytest.raises(SnapshotError):
            load_snapshot(path)


def sections(data: bytes) -> tuple[bytes, bytes, bytes]:
    """The state, the blobs, and the chunks of RAM as they are stored."""
    at, out = 64, []
    for _ in range(2):
        stored = struct.unpack_from("<2Q", data, at)[1]
        out.append(zlib.decompress(data[at + 16 : at + 16 + stored]))
        at += 16 + stored
    return out[0], out[1], data[at:]


def section(raw: bytes, length: int | None = None) -> bytes:
    stored = zlib.compress(raw)
    return struct.pack("<2Q", len(raw) if length is None else length, len(stored)) + stored


def sealed(body: bytes, pages: int) -> bytes:
    """A file with a right checksum, whatever is in it."""
    head = struct.pack("<8s2I2Q", MAGIC, 3, 0, 64 + len(body), pages)
    return head + hashlib.sha256(body + head).digest() + body


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items if isinstance(value, dict | list) else ():
        if isinstance(item, dict | list):
            yield from leaves(item, (*path, key))
        else:
            yield (*path, key)


def test_a_forged_state_is_refused_or_runs_and_never_raises_anything_else(
    saved: tuple[Machine, Path],
) -> None:
    path = saved[1]
    data = path.read_bytes()
    state, blobs, chunks = sections(data)
    pages = struct.unpack_from("<Q", data, 24)[0]
    values = [0, 1, -1, 1 << 47, 1 << 63, (1 << 64) - 1, 1 << 70, 0.5, True, None, "x", [], {}]
    values += [{"blob": [0, 16]}, {"blob": [-1, 4]}, {"blob": [0, 1 << 40]}, {"blob": "ab"}, 0x33]
    rng = random.Random(5)
    ran = refused = 0
    for _ in range(200):
        document = json.loads(state)
        for path_to in rng.sample(list(leaves(document)), rng.choice((1, 1, 3))):
            at = document
            for key in path_to[:-1]:
                at = at[key]
            at[path_to[-1]] = rng.choice(values) if rng.random() < 0.7 else rng.getrandbits(64)
        body = section(json.dumps(document).encode()) + section(blobs) + chunks
        path.write_bytes(sealed(body, pages))
        try:
            machine = load_snapshot(path)
            machine.run(max_instructions=200)
            ran += 1
        except NumalabError:
            refused += 1
    assert ran > 20
    assert refused > 50


def test_forged_sizes_and_bombs_allocate_nothing_much(saved: tuple[Machine, Path]) -> None:
    path = saved[1]
    data = path.read_bytes()
    state, blobs, chunks = sections(data)
    pages = struct.unpack_from("<Q", data, 24)[0]
    bomb = zlib.compress(bytes(100 * MIB), 9)
    rest = section(blobs) + chunks
    frames, page = np.array([5]), np.ones((1, 512), dtype=np.int64)
    beyond = pack(np.array([(192 * MIB + STORAGE_SIZE) >> 12]), page)
    files = {
        "impossible size": [
            sealed(struct.pack("<2Q", 1 << 60, 10) + bytes(10) + rest, pages),
            sealed(struct.pack("<2Q", 100, 1 << 60) + bytes(10) + rest, pages),
            sealed(section(state) + section(blobs) + HEADER.pack(1, 1, 1, 0xFFFF_FFFF), 1),
        ],
        "another length": [
            sealed(struct.pack("<2Q", 2 * MIB, len(bomb)) + bomb + rest, pages),
            sealed(section(state, len(state) + 1) + rest, pages),
            sealed(
                section(state) + section(blobs) + HEADER.pack(1000, 1, 0, 9000) + bomb[:9000], 1000
            ),
        ],
        "end too early": [
            sealed(section(state)[:-1], pages),
            sealed(section(state) + section(blobs) + chunks[:-1], pages),
            sealed(section(state) + section(blobs) + chunks + b"x", pages),
        ],
        "cannot be read": [
            sealed(section(b"[" * 200_000) + rest, pages),
            sealed(section(b"1" * 100_000) + rest, pages),
            sealed(section(b"\xff\xfe{}") + rest, pages),
            sealed(section(b'{"quantum": NaN}') + rest, pages),
        ],
        "no object": [sealed(section(b"[]") + rest, pages)],
        "more than the machine has": [sealed(section(state) + rest, 1 << 40)],
        "missing": [sealed(section(state) + rest, pages + 1)],
        "not in order": [
            sealed(section(state) + rest, pages - 1),
            sealed(section(state) + section(blobs) + 2 * pack(frames, page), 2),
        ],
        "no RAM at frames": [sealed(section(state) + section(blobs) + beyond, 1)],
    }
    for reason, forged in files.items():
        for one in forged:
            path.write_bytes(one)
            tracemalloc.start()
            with pytest.raises(SnapshotError, match=reason):
                load_snapshot(path)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 32 * MIB, reason


def test_more_ram_than_the_host_has_left_is_refused_before_it_is_read(
    saved: tuple[Machine, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machine.snapshot._available_memory", lambda: 4096)
    with pytest.raises(NumalabError, match="the host has 4,096 left") as caught:
        load_snapshot(saved[1])
    assert caught.value.exit_code == 69


def test_storage_is_in_the_file(tmp_path: Path) -> None:
    machine = Machine(Topology.parse("1x32M"))
    memory = machine.memory
    at = memory.size >> 3
    memory.words[at] = 11
    memory.words[len(memory.words) - 1] = -12
    save_snapshot(machine, tmp_path / "s")
    again = load_snapshot(tmp_path / "s").memory
    assert (again.words[at], again.words[len(again.words) - 1]) == (11, -12)
    assert again.end == memory.end
