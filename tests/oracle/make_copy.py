# SPDX-License-Identifier: GPL-2.0-only
"""Makes the compact copy of recorded figures that the test suite replays (tests/oracle/data).

    python tests/oracle/make_copy.py RECORDINGS [DESTINATION]

RECORDINGS is a tree as `numalab oracle` reads it. Whole sequences are chosen, none is shortened: of
every early folder the bring-up and the first RUNs (each goes on where the last one ended), of every
late folder the smallest RUN of a few kinds, all boot logs; of the ftrace text the first lines.
Files are repacked as xz, indexes name what was kept. Nothing in them is changed.
"""

from __future__ import annotations

import json
import lzma
import shutil
import sys
from pathlib import Path
from typing import Any

from allocator.oracle.records import Recording, RunRef, find_recordings, read_json, read_packed

EARLY_RUNS = {"early": 3, "early-cma-a": 2}
LATE_KINDS = {
    "M1/late": ("hiatomic", "exhaust", "o0"),
    "M2/late": ("smp", "api", "hiexh"),
    "M2u/late": ("wmark", "mt"),
    "M3/late": ("smp", "zones", "wmarkhi"),
    "M4/late": ("wmarkhi", "zones"),
    "M5/late": ("zones", "mtfrag"),
    "M7/late": ("zones", "smp"),
    "M2/late-cpuset-a": ("zones", "wmark"),
    "M3/late-cpuset-a": ("all",),
    "M2/late-cma-a": ("iso", "isofull"),
    "M3/late-cma-a": ("isomov", "cmasmp"),
    "M1/late-compact-frag-a": ("compact",),
    "M2u/late-compact-a": ("compact",),
}
FTRACE_LINES = 6000


def pack(data: bytes, target: Path) -> None:
    """Writes `data` as an xz file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def pack_json(value: Any, target: Path) -> None:
    """Writes a JSON value as an xz file."""
    pack(json.dumps(value, separators=(",", ":")).encode(), target)


def chosen_runs(recording: Recording) -> list[RunRef]:
    """The RUNs to keep: the first ones of an early folder, the smallest of some kinds of a late."""
    runs = sorted(recording.runs, key=lambda ref: ref.run)
    if recording.starts_at_map:
        return runs[: EARLY_RUNS.get(recording.path.name, 1)]
    kept = []
    for kind in LATE_KINDS.get(recording.name, ()):
        of_kind = [ref for ref in runs if ref.kind == kind]
        kept.append(min(of_kind, key=lambda ref: (recording.path / ref.file).stat().st_size))
    return kept


def copy_recording(recording: Recording, target: Path) -> None:
    """The chosen part of one folder."""
    runs = chosen_runs(recording)
    boots = recording.starts_at_map or (recording.path.name == "trace")
    tags = {recording.tag(stem) for stem in ("early0", "early1")} if boots else set()
    if recording.path.name == "trace":
        tags |= {recording.tag(stem) for stem in ("early4", "trace-after")}
    entries: dict[str, Any] = {"states": [], "runs": [], "traces": []}
    for ref in runs:
        run = recording.run(ref)
        name = f"run-{ref.run:02d}.json.xz"
        pack_json(run, target / name)
        entries["runs"].append({"file": name, "run": ref.run, "kind": ref.kind})
        if not recording.starts_at_map or ref == runs[-1]:
            tags |= {run["meta"]["before"], run["meta"]["after"]}
    if recording.path.name == "trace":
        for file in recording.traces:
            name = file.split(".")[0] + ".json.xz"
            pack_json(recording.trace(file), target / name)
            entries["traces"].append({"file": name, "name": "boot"})
    if recording.ftrace:
        lines = read_packed(recording.path / recording.ftrace).splitlines(keepends=True)
        pack(b"".join(lines[:FTRACE_LINES]), target / "ftrace.txt.xz")
        entries["ftrace_lines"] = FTRACE_LINES
        tags.add("ftrace-before")
    for tag, file in recording.states.items():
        if tag in tags:
            name = file.split(".")[0] + ".json.xz"
            pack_json(read_json(recording.path / file), target / name)
            entries["states"].append({"tag": tag, "file": name})
    if entries["states"]:
        (target / "index.json").write_text(json.dumps(entries, indent=1) + "\n")


def main(source: Path, target: Path) -> None:
    """Copies from the tree `source` into the fresh folder `target`."""
    shutil.rmtree(target, ignore_errors=True)
    machines = read_json(source / "machines.json")
    kept = {}
    for recording in find_recordings(source):
        if not recording.path.name.endswith("-trace"):
            copy_recording(recording, target / recording.name)
            kept[recording.machine] = machines[recording.machine]
    (target / "machines.json").write_text(json.dumps(kept, indent=1) + "\n")
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    print(f"{target}: {size:,} bytes")


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent / "data",
    )
