# SPDX-License-Identifier: GPL-2.0-only
"""What a check found: `Finding`s and the `Report` that holds them, as text and as JSON.

A finding names what it is about (a frame, a zone, a per-cpu list ...), the rule that does not hold
and the bytes that show it: the physical address of the word at fault and, for a frame, its struct
page decoded. A report is sound when it has no findings; then its text is one line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LIMIT = 32
"""Findings of one rule that a report holds."""


@dataclass(frozen=True)
class Finding:
    """One rule broken in one place.

    `frame` is the page frame number the finding is about, None when it is about a structure;
    `address` the physical address in bytes of the word at fault; `detail` shows the bytes.
    """

    rule: str
    where: str
    message: str
    frame: int | None
    address: int
    detail: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}\n  {self.detail}"

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        return {
            "rule": self.rule,
            "where": self.where,
            "message": self.message,
            "frame": self.frame,
            "address": self.address,
            "bytes": self.detail,
        }


@dataclass
class Report:
    """The outcome of one check.

    `frames` counts the frames of RAM that were looked at, `unsound` those that some finding is
    about. `findings` holds at most `LIMIT` of a rule; `left_out` says how many more there were, by
    rule. `rules` counts the rules that were applied and `seconds` is the host's time.
    """

    frames: int
    rules: int
    seconds: float = 0.0
    unsound: int = 0
    findings: list[Finding] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """True if every rule holds."""
        return not self.findings

    @property
    def frame_numbers(self) -> list[int]:
        """The frames that findings name, ascending."""
        return sorted({f.frame for f in self.findings if f.frame is not None})

    def lines(self) -> list[str]:
        """The report as text, one string a line."""
        frames = f"{self.frames:,} frames"
        if self.sound:
            return [f"{frames}: {self.frames:,} sound ({self.rules} rules, {self.seconds:.2f} s)"]
        text = [line for finding in self.findings for line in str(finding).splitlines()]
        text += [f"{count:,} more findings of rule {rule}" for rule, count in self.left_out.items()]
        others = sum(f.frame is None for f in self.findings)
        last = f"{self.unsound:,} of {frames} unsound"
        if others:
            last += f", {others} finding{'s' if others > 1 else ''} about other structures"
        return [*text, last]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        return {
            "frames": self.frames,
            "sound": self.sound,
            "unsound": self.unsound,
            "rules": self.rules,
            "seconds": round(self.seconds, 6),
            "findings": [finding.as_json() for finding in self.findings],
            "left_out": dict(self.left_out),
        }
