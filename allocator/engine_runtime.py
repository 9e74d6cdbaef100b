# SPDX-License-Identifier: GPL-2.0-only
"""The routines that compiled hot functions share, as LLVM assembly, linked with them once.

`rt_slice_spent` is asked by a call that has spent its turns (`engine_turns`): 0 lets it go on with
another slice, anything else ends it. The words it looks at belong to the process, not to any guest:

- `nl_stop`: not 0 ends every call at its next question;
- `nl_main`: the thread that Python's signal handlers run in, as `x_this_thread` names it;
- `nl_poll`: what that thread asks, with the number of slices that the call has spent.
- `nl_team`: the block of the team of threads that are at work (`team`), 0 if there is none.

`rt_enter`, `rt_alone`, `rt_stand_aside` and `rt_leave` make a call one of a team's. Each CPU of
the team has a slot, which holds the thread that is inside the allocator for it; one more word holds
the thread that is alone there. Who wants in takes its slot and then looks whether somebody is
alone; who wants to be alone takes that word and then waits for all slots to empty. A thread that is
inside already and calls again (alone, by way of Python) goes in without either.
"""

from __future__ import annotations

import platform
from string import Template

SLICE = 1 << 18
"""Turns between two questions whether a call shall go on: some 0.5 ms."""

# Words of a call's control block (`engine_turns`)
TURNS = 1
SPENT = 2
TEAM = 3
MODE = 4
SLOT = 5
CONTROL_WORDS = 6
SHARED, ALONE, NESTED = 1, 2, 3
"""What MODE says of a call that belongs to a team; 0: to none."""

# Words of a team's block (`team`), those that CPUs write to in cache lines of their own
TEAM_RAM = 0
TEAM_CPUS = 1
TEAM_BUSY = 2
TEAM_BUSY_WORDS = 4
TEAM_OWNER = 16
TEAM_SLOTS = 32
SLOT_WORDS = 16

_TEXT = """
@nl_stop = global i64 0
@nl_main = global i64 0
@nl_poll = global i64 0

@nl_team = global i64 0

declare i64 @pthread_self()
declare i32 @sched_yield()
$declare_pause

define i64 @x_this_thread() {
  %self = call i64 @pthread_self()
  ret i64 %self
}

define i32 @rt_slice_spent(i64* %control) noinline cold {
start:
  %left = getelementptr i64, i64* %control, i64 1
  %spent = getelementptr i64, i64* %control, i64 2
  %n0 = load i64, i64* %spent
  %n = add i64 %n0, 1
  store i64 %n, i64* %spent
  store i64 $slice, i64* %left
  %stop = load volatile i64, i64* @nl_stop
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %end, label %who
who:
  %self = call i64 @pthread_self()
  %main = load i64, i64* @nl_main
  %other = icmp ne i64 %self, %main
  %poll = load i64, i64* @nl_poll
  %nobody = icmp eq i64 %poll, 0
  %skip = or i1 %other, %nobody
  br i1 %skip, label %on, label %ask
ask:
  %function = inttoptr i64 %poll to i64 (i64)*
  %answer = call i64 %function(i64 %n)
  %ended = icmp ne i64 %answer, 0
  br i1 %ended, label %end, label %on
on:
  ret i32 0
end:
  ret i32 1
}

; Waiting for somebody: a turn like any other, and now and then the host may run that one.
define internal i32 @wait_a_turn(i64* %control) noinline cold {
start:
  $pause
  %place = getelementptr i64, i64* %control, i64 1
  %left0 = load i64, i64* %place
  %left = sub i64 %left0, 1
  store i64 %left, i64* %place
  %low = and i64 %left, 63
  %yield = icmp eq i64 %low, 0
  br i1 %yield, label %give, label %count
give:
  %ignored = call i32 @sched_yield()
  br label %count
count:
  %over = icmp slt i64 %left, 0
  br i1 %over, label %ask, label %on
ask:
  %said = call i32 @rt_slice_spent(i64* %control)
  ret i32 %said
on:
  ret i32 0
}

; A word that is 0 becomes %value; waits until it is.
define internal i32 @take(i64* %word, i64 %value, i64* %control) {
start:
  br label %try
try:
  %pair = cmpxchg i64* %word, i64 0, i64 %value seq_cst seq_cst
  %won = extractvalue { i64, i1 } %pair, 1
  br i1 %won, label %yes, label %wait
wait:
  %said = call i32 @wait_a_turn(i64* %control)
  %ended = icmp ne i32 %said, 0
  br i1 %ended, label %no, label %look
look:
  %now = load atomic i64, i64* %word monotonic, align 8
  %free = icmp eq i64 %now, 0
  br i1 %free, label %try, label %wait
yes:
  ret i32 0
no:
  ret i32 1
}

define internal i32 @wait_for_zero(i64* %word, i64* %control) {
start:
  br label %look
look:
  %now = load atomic i64, i64* %word seq_cst, align 8
  %free = icmp eq i64 %now, 0
  br i1 %free, label %yes, label %wait
wait:
  %said = call i32 @wait_a_turn(i64* %control)
  %ended = icmp ne i32 %said, 0
  br i1 %ended, label %no, label %look
yes:
  ret i32 0
no:
  ret i32 1
}

define i32 @rt_lock(i64* %control, i64* %word) {
  %said = call i32 @take(i64* %word, i64 1, i64* %control)
  ret i32 %said
}

; Begins a call of %cpu's for the RAM at host address %ram. A CPU takes its slot; if nobody is alone
; meanwhile and nothing is switched on that all CPUs share, it is in.
define i32 @rt_enter(i64* %control, i64 %team, i64 %ram, i64 %cpu) {
start:
  %block = inttoptr i64 %team to i64*
  %own = load i64, i64* %block
  %ours = icmp eq i64 %own, %ram
  br i1 %ours, label %member, label %in
member:
  %teamplace = getelementptr i64, i64* %control, i64 $TEAM
  store i64 %team, i64* %teamplace
  %mode = getelementptr i64, i64* %control, i64 $MODE
  %slotplace = getelementptr i64, i64* %control, i64 $SLOT
  store i64 0, i64* %slotplace
  %self = call i64 @pthread_self()
  %ownerplace = getelementptr i64, i64* %block, i64 $TEAM_OWNER
  %owner = load atomic i64, i64* %ownerplace acquire, align 8
  %again = icmp eq i64 %owner, %self
  br i1 %again, label %nested, label %who
who:
  %cpusplace = getelementptr i64, i64* %block, i64 $TEAM_CPUS
  %cpus = load i64, i64* %cpusplace
  %known = icmp ult i64 %cpu, %cpus
  br i1 %known, label %find, label %apart
find:
  %offset = mul i64 %cpu, $SLOT_WORDS
  %index = add i64 %offset, $TEAM_SLOTS
  %slot = getelementptr i64, i64* %block, i64 %index
  %inside = load atomic i64, i64* %slot monotonic, align 8
  %twice = icmp eq i64 %inside, %self
  br i1 %twice, label %nested, label %occupy
occupy:
  %got = call i32 @take(i64* %slot, i64 %self, i64* %control)
  %ended1 = icmp ne i32 %got, 0
  br i1 %ended1, label %end, label %check
check:
  %other = load atomic i64, i64* %ownerplace seq_cst, align 8
  %alone = icmp ne i64 %other, 0
  br i1 %alone, label %yield, label %shared
yield:
  store atomic i64 0, i64* %slot release, align 8
  %waited = call i32 @wait_for_zero(i64* %ownerplace, i64* %control)
  %ended2 = icmp ne i32 %waited, 0
  br i1 %ended2, label %end, label %occupy
shared:
  %slotaddress = ptrtoint i64* %slot to i64
  store i64 %slotaddress, i64* %slotplace
  store i64 $SHARED, i64* %mode
  br label %busy
busy:
  %n = phi i64 [ 0, %shared ], [ %n1, %next ]
  %done = icmp eq i64 %n, $TEAM_BUSY_WORDS
  br i1 %done, label %in, label %look
look:
  %at = add i64 %n, $TEAM_BUSY
  %wordplace = getelementptr i64, i64* %block, i64 %at
  %wordaddress = load i64, i64* %wordplace
  %word = inttoptr i64 %wordaddress to i64*
  %value = load i64, i64* %word
  %set = icmp ne i64 %value, 0
  br i1 %set, label %apart, label %next
next:
  %n1 = add i64 %n, 1
  br label %busy
apart:
  %said = call i32 @rt_alone(i64* %control)
  ret i32 %said
nested:
  store i64 $NESTED, i64* %mode
  br label %in
in:
  ret i32 0
end:
  ret i32 1
}

; Leaves the own slot, becomes the owner, waits until all slots are empty.
define i32 @rt_alone(i64* %control) {
start:
  %ignored = call i32 @rt_leave(i64* %control)
  %teamplace = getelementptr i64, i64* %control, i64 $TEAM
  %team = load i64, i64* %teamplace
  %block = inttoptr i64 %team to i64*
  %ownerplace = getelementptr i64, i64* %block, i64 $TEAM_OWNER
  %self = call i64 @pthread_self()
  %got = call i32 @take(i64* %ownerplace, i64 %self, i64* %control)
  %ended = icmp ne i32 %got, 0
  br i1 %ended, label %end, label %first
first:
  %cpusplace = getelementptr i64, i64* %block, i64 $TEAM_CPUS
  %cpus = load i64, i64* %cpusplace
  br label %loop
loop:
  %cpu = phi i64 [ 0, %first ], [ %cpu1, %next ]
  %all = icmp uge i64 %cpu, %cpus
  br i1 %all, label %alone, label %look
look:
  %offset = mul i64 %cpu, $SLOT_WORDS
  %index = add i64 %offset, $TEAM_SLOTS
  %slot = getelementptr i64, i64* %block, i64 %index
  %waited = call i32 @wait_for_zero(i64* %slot, i64* %control)
  %stopped = icmp ne i32 %waited, 0
  br i1 %stopped, label %giveup, label %next
next:
  %cpu1 = add i64 %cpu, 1
  br label %loop
alone:
  %mode = getelementptr i64, i64* %control, i64 $MODE
  store i64 $ALONE, i64* %mode
  ret i32 0
giveup:
  store atomic i64 0, i64* %ownerplace release, align 8
  br label %end
end:
  ret i32 1
}

define i32 @rt_leave(i64* %control) {
start:
  %modeplace = getelementptr i64, i64* %control, i64 $MODE
  %mode = load i64, i64* %modeplace
  store i64 0, i64* %modeplace
  switch i64 %mode, label %out [ i64 $SHARED, label %slot
                                 i64 $ALONE, label %owner ]
slot:
  %slotplace = getelementptr i64, i64* %control, i64 $SLOT
  %address = load i64, i64* %slotplace
  %own = inttoptr i64 %address to i64*
  store atomic i64 0, i64* %own seq_cst, align 8
  br label %out
owner:
  %teamplace = getelementptr i64, i64* %control, i64 $TEAM
  %team = load i64, i64* %teamplace
  %block = inttoptr i64 %team to i64*
  %ownerplace = getelementptr i64, i64* %block, i64 $TEAM_OWNER
  store atomic i64 0, i64* %ownerplace seq_cst, align 8
  br label %out
out:
  ret i32 0
}

define i32 @rt_stand_aside(i64* %control, i64 %cpu) {
start:
  %modeplace = getelementptr i64, i64* %control, i64 $MODE
  %mode = load i64, i64* %modeplace
  %teamplace = getelementptr i64, i64* %control, i64 $TEAM
  %team = load i64, i64* %teamplace
  %block = inttoptr i64 %team to i64*
  switch i64 %mode, label %stay [ i64 $SHARED, label %shared
                                  i64 $ALONE, label %go ]
shared:
  %ownerplace = getelementptr i64, i64* %block, i64 $TEAM_OWNER
  %owner = load atomic i64, i64* %ownerplace acquire, align 8
  %wanted = icmp ne i64 %owner, 0
  br i1 %wanted, label %go, label %stay
go:
  %ignored = call i32 @rt_leave(i64* %control)
  %ram = load i64, i64* %block
  %said = call i32 @rt_enter(i64* %control, i64 %team, i64 %ram, i64 %cpu)
  ret i32 %said
stay:
  ret i32 0
}
"""


def runtime() -> str:
    """The routines in LLVM assembly."""
    places = {name: value for name, value in globals().items() if isinstance(value, int)}
    pause = "void @llvm.x86.sse2.pause()"
    if platform.machine() not in ("x86_64", "AMD64"):
        pause = ""
    text = {"pause": pause and f"call {pause}", "declare_pause": pause and f"declare {pause}"}
    return Template(_TEXT).substitute(places, slice=SLICE, **text)
