# SPDX-License-Identifier: GPL-2.0-only
"""The few routines that run inside a CPU's engine without Python, as LLVM assembly.

All they know they find in the context of a CPU, an array of 64-bit words (`CTX`); `counting` fills
it and explains what they are for, `nativecode` makes machine code of the text.

- `block` runs in front of every translation block: it takes the block's instructions off those
  left, or stops the engine when they do not all fit. Which block it is it knows from where it was
  called: the engine keeps a block's description in front of the block's code.
- `block_parallel` takes its place while other engines run in other threads: it also has the engine
  translate the next block for that (`counting`).
- `port_out` and `port_in` run for OUT and IN: the doorbell goes to compiled code if there is some,
  everything else to Python, and the engine is left at once if Python says so.
- `fill` runs on a TLB miss and asks the compiled page walker; what that refuses goes to Python.
- `begun` tells how many instructions have begun, at an instruction that stopped in mid-block.

The routines read the engine's descriptions of blocks and write nothing of the engine's but, in
`block_parallel`, the one field that says how to translate the next block.
"""

from __future__ import annotations

CTX = {
    "left": 0,  # instructions that may still begin
    "limit": 1,  # what `left` was at the start of the run
    "tb": 2,  # the translation block entered last, 0: none that could be in the middle
    "flags": 3,  # OUT_OF_BUDGET, LOST, ASIDE
    "at": 4,  # address of the block in front of which `block` stopped
    "leave": 5,  # set by a port's callback: leave the engine behind this instruction
    "cpu": 6,
    "clock": 7,  # modelled ns at the start of the run
    "serve": 8,  # compiled doorbell: i64 serve(words, ram, cpu, now), 0 when all is done
    "walk": 9,  # compiled walker: i64 walk(words, ram, va, access, user, CRs)
    "answer": 10,  # what `serve` said when it was not 0
    "rings": 11,  # rings of the doorbell that never reached Python
    "python_out": 12,
    "python_in": 13,
    "uc_emu_stop": 14,
    "check_exit": 15,  # Unicorn's helper that leaves the engine if a stop is asked for
    "uc_reg_read": 16,
    "tb_head": 17,  # bytes from a block's description to its code
    "rip": 18,  # room for RIP
    "doorbell": 19,
    "serving": 20,  # 1 while `serve` runs
    "begun": 21,  # instructions begun, while a port's callback runs in Python
    "words": 22,  # address of RAM's words and, behind it, their number
    "word_count": 23,
    "ram": 24,  # address of the table of what is RAM and its length
    "ram_count": 25,
    "uc_reg_read_batch": 26,
    "control_ids": 27,  # its arguments for reading CR0 CR3 CR4 CS EFER
    "control_pointers": 28,
    "controls": 29,  # where the values arrive, EFER in the sixth word
    "rip_register": 30,  # Unicorn's number of the register that holds RIP in this engine
    "again": 31,  # 1 while an INS or OUTS is done again whose port has been accessed already
    "value": 32,  # what the last IN or INS was answered
    "next_block": 33,  # address of the engine's field about the next block
}
CTX_WORDS = 40
OUT_OF_BUDGET, LOST, ASIDE = 1, 2, 4
"""LOST: a block's description is not where it should be. ASIDE: the routines do not count."""

TB_CS_BASE, TB_SIZE, TB_ICOUNT, TB_CFLAGS, TB_CODE, TB_CODE_SIZE = 8, 20, 22, 24, 32, 40
"""Byte offsets in a block's description; its linear address is at 0. `nativeprobe` checks them."""
COUNT_MASK = 0x7FFF
PARALLEL = 0x80000
"""QEMU's CF_PARALLEL in the flags of a block: other CPUs run at the same time, so LOCK is done with
atomic instructions of the host and fences are fences."""
MANY_RINGS = 16_384
"""Rings of the doorbell in one slice after which Python is asked: each may take long."""
_FIRST_ACCESS = 16
"""Unicorn's number of a read, a write's and a fetch's are the next ones."""
FUNCTIONS = ("block", "block_parallel", "port_out", "port_in", "begun", "fill", "walk")
"""What can be called from outside; `walk` is made of `machine.walk`, all others are here."""


def _field(name: str) -> str:
    return f"""
define internal i64 @get_{name}(i64* %c) alwaysinline {{
  %p = getelementptr i64, i64* %c, i64 {CTX[name]}
  %v = load i64, i64* %p
  ret i64 %v
}}
define internal void @set_{name}(i64* %c, i64 %v) alwaysinline {{
  %p = getelementptr i64, i64* %c, i64 {CTX[name]}
  store i64 %v, i64* %p
  ret void
}}"""


def _part(name: str, offset: int, width: int) -> str:
    """A field of a block's description."""
    extend = "%v = add i64 %w, 0" if width == 64 else f"%v = zext i{width} %w to i64"
    return f"""
define internal i64 @{name}(i64 %tb) alwaysinline {{
  %a = add i64 %tb, {offset}
  %p = inttoptr i64 %a to i{width}*
  %w = load i{width}, i{width}* %p
  {extend}
  ret i64 %v
}}"""


_ROUTINES = f"""
declare i8* @llvm.returnaddress(i32)
declare i1 @llvm.expect.i1(i1, i1)

; one number of a block's table of instructions: {{ value, where the next one is }}
define internal {{ i64, i64 }} @sleb128(i64 %at) noinline {{
start:
  br label %loop
loop:
  %p = phi i64 [ %at, %start ], [ %p1, %loop ]
  %shift = phi i64 [ 0, %start ], [ %shift1, %loop ]
  %sum = phi i64 [ 0, %start ], [ %sum1, %loop ]
  %bp = inttoptr i64 %p to i8*
  %byte = load i8, i8* %bp
  %b = zext i8 %byte to i64
  %low = and i64 %b, 127
  %part = shl i64 %low, %shift
  %sum1 = or i64 %sum, %part
  %shift1 = add i64 %shift, 7
  %p1 = add i64 %p, 1
  %more = icmp ugt i64 %b, 127
  %room = icmp ult i64 %shift1, 63
  %on = and i1 %more, %room
  br i1 %on, label %loop, label %done
done:
  %spare = sub i64 64, %shift1
  %spare0 = icmp sgt i64 %spare, 0
  %sh = select i1 %spare0, i64 %spare, i64 0
  %up = shl i64 %sum1, %sh
  %value = ashr i64 %up, %sh
  %r0 = insertvalue {{ i64, i64 }} undef, i64 %value, 0
  %r1 = insertvalue {{ i64, i64 }} %r0, i64 %p1, 1
  ret {{ i64, i64 }} %r1
}}

; where the number behind the one at %at is
define internal i64 @skip(i64 %at) alwaysinline {{
start:
  br label %loop
loop:
  %p = phi i64 [ %at, %start ], [ %p1, %loop ]
  %bp = inttoptr i64 %p to i8*
  %byte = load i8, i8* %bp
  %p1 = add i64 %p, 1
  %more = icmp slt i8 %byte, 0
  br i1 %more, label %loop, label %done
done:
  ret i64 %p1
}}

; how many instructions of block %tb start at or in front of linear address %rip
define internal i64 @started(i64 %tb, i64 %rip) {{
start:
  %code = call i64 @tb_code(i64 %tb)
  %size = call i64 @tb_code_size(i64 %tb)
  %table = add i64 %code, %size
  %n = call i64 @tb_icount(i64 %tb)
  %first = call i64 @tb_pc(i64 %tb)
  br label %loop
loop:
  %i = phi i64 [ 0, %start ], [ %i1, %next ]
  %pc = phi i64 [ %first, %start ], [ %pc1, %next ]
  %p = phi i64 [ %table, %start ], [ %p4, %next ]
  %go = icmp ult i64 %i, %n
  br i1 %go, label %row, label %done
row:
  ; nearly always one byte below 64: the length of the instruction before
  %bp = inttoptr i64 %p to i8*
  %byte = load i8, i8* %bp
  %small = icmp ult i8 %byte, 64
  br i1 %small, label %short, label %long
short:
  %value0 = zext i8 %byte to i64
  %p0 = add i64 %p, 1
  br label %have
long:
  %d1 = call {{ i64, i64 }} @sleb128(i64 %p)
  %value1 = extractvalue {{ i64, i64 }} %d1, 0
  %p1 = extractvalue {{ i64, i64 }} %d1, 1
  br label %have
have:
  %step = phi i64 [ %value0, %short ], [ %value1, %long ]
  %p2 = phi i64 [ %p0, %short ], [ %p1, %long ]
  %pc1 = add i64 %pc, %step
  %beyond = icmp ugt i64 %pc1, %rip
  br i1 %beyond, label %done, label %next
next:
  %p3 = call i64 @skip(i64 %p2)
  %p4 = call i64 @skip(i64 %p3)
  %i1 = add i64 %i, 1
  br label %loop
done:
  ret i64 %i
}}

; is linear address %rip in block %tb?
define internal i1 @inside(i64 %tb, i64 %rip) alwaysinline {{
  %pc = call i64 @tb_pc(i64 %tb)
  %off = sub i64 %rip, %pc
  %size = call i64 @tb_size(i64 %tb)
  %in = icmp ult i64 %off, %size
  ret i1 %in
}}

define internal i64 @begun_now(i8* %uc, i64* %c) {{
  %limit = call i64 @get_limit(i64* %c)
  %left = call i64 @get_left(i64* %c)
  %entered = sub i64 %limit, %left
  %tb = call i64 @get_tb(i64* %c)
  %none = icmp eq i64 %tb, 0
  br i1 %none, label %whole, label %look
look:
  %buffer = getelementptr i64, i64* %c, i64 {CTX["rip"]}
  %f = call i64 @get_uc_reg_read(i64* %c)
  %fp = inttoptr i64 %f to i32 (i8*, i32, i64*)*
  %register = call i64 @get_rip_register(i64* %c)
  %register32 = trunc i64 %register to i32
  %status = call i32 %fp(i8* %uc, i32 %register32, i64* %buffer)
  %offset = load i64, i64* %buffer
  %base = call i64 @tb_cs_base(i64 %tb)
  %rip = add i64 %base, %offset
  %in = call i1 @inside(i64 %tb, i64 %rip)
  br i1 %in, label %part, label %whole
part:
  %k = call i64 @started(i64 %tb, i64 %rip)
  %n = call i64 @tb_icount(i64 %tb)
  %before = sub i64 %entered, %n
  %sum = add i64 %before, %k
  ret i64 %sum
whole:
  ret i64 %entered
}}

define i64 @begun(i8* %uc, i64* %c) {{
  %v = call i64 @begun_now(i8* %uc, i64* %c)
  ret i64 %v
}}

define internal void @stop(i8* %uc, i64* %c) {{
  %f = call i64 @get_uc_emu_stop(i64* %c)
  %fp = inttoptr i64 %f to i32 (i8*)*
  %status = call i32 %fp(i8* %uc)
  ret void
}}

; What `block` does not settle at once: a block that does not fit into what is left, one of a
; limited number of instructions, one whose description is not where it should be.
define internal void @odd_block(i8* %uc, i64 %addr, i64 %ret, i64* %c, i64 %tb) noinline {{
start:
  %pc = call i64 @tb_pc(i64 %tb)
  %code = call i64 @tb_code(i64 %tb)
  %off = sub i64 %ret, %code
  %d1 = icmp ne i64 %pc, %addr
  %d2 = icmp ugt i64 %off, 128
  %stranger = or i1 %d1, %d2
  %n = call i64 @tb_icount(i64 %tb)
  %cf = call i64 @tb_cflags(i64 %tb)
  %count = and i64 %cf, {COUNT_MASK}
  %left = call i64 @get_left(i64* %c)
  br i1 %stranger, label %lost, label %known
lost:
  %said = call i64 @get_flags(i64* %c)
  %aside = icmp eq i64 %said, {ASIDE}
  br i1 %aside, label %pass, label %report
pass:
  ret void
report:
  call void @set_flags(i64* %c, i64 {LOST})
  call void @set_at(i64* %c, i64 %addr)
  call void @stop(i8* %uc, i64* %c)
  ret void
known:
  ; A block of a limited number of instructions in the middle of a run: a store that hit its own
  ; block is done again, alone. What lies behind it in the block before has not run.
  %prev = call i64 @get_tb(i64* %c)
  %has = icmp ne i64 %prev, 0
  %limited = icmp ne i64 %count, 0
  %maybe = and i1 %has, %limited
  br i1 %maybe, label %again, label %check
again:
  %in = call i1 @inside(i64 %prev, i64 %addr)
  br i1 %in, label %undo, label %check
undo:
  %k = call i64 @started(i64 %prev, i64 %addr)
  %k1 = sub i64 %k, 1
  %pn = call i64 @tb_icount(i64 %prev)
  %back = sub i64 %pn, %k1
  %left1 = add i64 %left, %back
  br label %check
check:
  %have = phi i64 [ %left, %known ], [ %left, %again ], [ %left1, %undo ]
  %after = sub i64 %have, %n
  %short = icmp slt i64 %after, 0
  br i1 %short, label %spent, label %enter
enter:
  call void @set_left(i64* %c, i64 %after)
  call void @set_tb(i64* %c, i64 %tb)
  ret void
spent:
  call void @set_left(i64* %c, i64 %have)
  call void @set_tb(i64* %c, i64 0)
  call void @set_flags(i64* %c, i64 {OUT_OF_BUDGET})
  call void @set_at(i64* %c, i64 %addr)
  call void @stop(i8* %uc, i64* %c)
  ret void
}}

define internal void @enter_block(i8* %uc, i64 %addr, i8* %r, i64* %c) alwaysinline {{
start:
  ; The block's description lies in front of its code, and its code has just called.
  %ret = ptrtoint i8* %r to i64
  %ret1 = sub i64 %ret, 1
  %code = and i64 %ret1, -64
  %head = call i64 @get_tb_head(i64* %c)
  %tb = sub i64 %code, %head
  %pc = call i64 @tb_pc(i64 %tb)
  %n = call i64 @tb_icount(i64 %tb)
  %cf = call i64 @tb_cflags(i64 %tb)
  %left = call i64 @get_left(i64* %c)
  %rest = sub i64 %left, %n
  %d1 = xor i64 %pc, %addr
  %d2 = and i64 %cf, {COUNT_MASK}
  %d = or i64 %d1, %d2
  %odd = icmp ne i64 %d, 0
  %over = icmp slt i64 %rest, 0
  %slow0 = or i1 %odd, %over
  %slow1 = call i1 @llvm.expect.i1(i1 %slow0, i1 0)
  br i1 %slow1, label %slow, label %fast
fast:
  call void @set_left(i64* %c, i64 %rest)
  call void @set_tb(i64* %c, i64 %tb)
  ret void
slow:
  call void @odd_block(i8* %uc, i64 %addr, i64 %ret, i64* %c, i64 %tb)
  ret void
}}

define void @block(i8* %uc, i64 %addr, i32 %size, i64* %c) {{
  %r = call i8* @llvm.returnaddress(i32 0)
  call void @enter_block(i8* %uc, i64 %addr, i8* %r, i64* %c)
  ret void
}}

define void @block_parallel(i8* %uc, i64 %addr, i32 %size, i64* %c) {{
  %r = call i8* @llvm.returnaddress(i32 0)
  %at = call i64 @get_next_block(i64* %c)
  %field = inttoptr i64 %at to i32*
  store i32 {PARALLEL}, i32* %field
  call void @enter_block(i8* %uc, i64 %addr, i8* %r, i64* %c)
  ret void
}}

define internal void @leave(i8* %uc, i64* %c) {{
  %want = call i64 @get_leave(i64* %c)
  %no = icmp eq i64 %want, 0
  br i1 %no, label %stay, label %go
go:
  call void @set_leave(i64* %c, i64 0)
  call void @stop(i8* %uc, i64* %c)
  %f = call i64 @get_check_exit(i64* %c)
  %fp = inttoptr i64 %f to void (i8*, i32)*
  call void %fp(i8* %uc, i32 0)
  ret void
stay:
  ret void
}}

define void @port_out(i8* %uc, i32 %port, i32 %size, i32 %value, i64* %c) {{
start:
  %again = call i64 @get_again(i64* %c)
  %known = icmp ne i64 %again, 0
  br i1 %known, label %served_already, label %fresh
served_already:
  ret void
fresh:
  %door = call i64 @get_doorbell(i64* %c)
  %door32 = trunc i64 %door to i32
  %same = icmp eq i32 %port, %door32
  %wide = icmp ugt i32 %size, 1
  %serve = call i64 @get_serve(i64* %c)
  %ready0 = icmp ne i64 %serve, 0
  %so_far = call i64 @get_rings(i64* %c)
  %few = icmp ult i64 %so_far, {MANY_RINGS}
  %ready = and i1 %ready0, %few
  %ring0 = and i1 %same, %wide
  %ring = and i1 %ring0, %ready
  br i1 %ring, label %native, label %python
native:
  %begun = call i64 @begun_now(i8* %uc, i64* %c)
  %clock = call i64 @get_clock(i64* %c)
  %now = add i64 %clock, %begun
  %words = getelementptr i64, i64* %c, i64 {CTX["words"]}
  %ram = getelementptr i64, i64* %c, i64 {CTX["ram"]}
  %cpu = call i64 @get_cpu(i64* %c)
  %fp = inttoptr i64 %serve to i64 (i64*, i64*, i64, i64)*
  call void @set_serving(i64* %c, i64 1)
  %answer = call i64 %fp(i64* %words, i64* %ram, i64 %cpu, i64 %now)
  call void @set_serving(i64* %c, i64 0)
  call void @set_answer(i64* %c, i64 %answer)
  %done = icmp eq i64 %answer, 0
  br i1 %done, label %served, label %python
served:
  %rings = call i64 @get_rings(i64* %c)
  %rings1 = add i64 %rings, 1
  call void @set_rings(i64* %c, i64 %rings1)
  ret void
python:
  %sofar = call i64 @begun_now(i8* %uc, i64* %c)
  call void @set_begun(i64* %c, i64 %sofar)
  %f = call i64 @get_python_out(i64* %c)
  %pp = inttoptr i64 %f to void (i8*, i32, i32, i32, i64*)*
  call void %pp(i8* %uc, i32 %port, i32 %size, i32 %value, i64* %c)
  call void @set_begun(i64* %c, i64 0)
  call void @leave(i8* %uc, i64* %c)
  ret void
}}

define i32 @port_in(i8* %uc, i32 %port, i32 %size, i64* %c) {{
start:
  %again = call i64 @get_again(i64* %c)
  %known = icmp ne i64 %again, 0
  br i1 %known, label %answered_already, label %fresh
answered_already:
  %kept = call i64 @get_value(i64* %c)
  %kept32 = trunc i64 %kept to i32
  ret i32 %kept32
fresh:
  %count = call i64 @begun_now(i8* %uc, i64* %c)
  call void @set_begun(i64* %c, i64 %count)
  %f = call i64 @get_python_in(i64* %c)
  %pp = inttoptr i64 %f to i32 (i8*, i32, i32, i64*)*
  %v = call i32 %pp(i8* %uc, i32 %port, i32 %size, i64* %c)
  %answer = zext i32 %v to i64
  call void @set_value(i64* %c, i64 %answer)
  call void @set_begun(i64* %c, i64 0)
  call void @leave(i8* %uc, i64* %c)
  ret i32 %v
}}

define internal i64 @control(i64* %values, i64 %n) alwaysinline {{
  %p = getelementptr i64, i64* %values, i64 %n
  %v = load i64, i64* %p
  ret i64 %v
}}

define zeroext i1 @fill(i8* %uc, i64 %va, i32 %kind, i64* %entry, i64* %c) {{
start:
  %r = call i64 @get_uc_reg_read_batch(i64* %c)
  %rp = inttoptr i64 %r to i32 (i8*, i64, i64, i32)*
  %ids = call i64 @get_control_ids(i64* %c)
  %pointers = call i64 @get_control_pointers(i64* %c)
  %status = call i32 %rp(i8* %uc, i64 %ids, i64 %pointers, i32 5)
  %at = call i64 @get_controls(i64* %c)
  %values = inttoptr i64 %at to i64*
  %cr0 = call i64 @control(i64* %values, i64 0)
  %cr3 = call i64 @control(i64* %values, i64 1)
  %cr4 = call i64 @control(i64* %values, i64 2)
  %cs = call i64 @control(i64* %values, i64 3)
  %efer = call i64 @control(i64* %values, i64 5)
  ; Paging outside of long mode goes to Python: virtual-8086 mode is user mode whatever CS says.
  %lma = and i64 %efer, 1024
  %legacy = icmp eq i64 %lma, 0
  %pg = and i64 %cr0, 2147483648
  %paged = icmp ne i64 %pg, 0
  %narrow = and i1 %legacy, %paged
  br i1 %narrow, label %no, label %ask
ask:
  %cpl = and i64 %cs, 3
  %ring3 = icmp eq i64 %cpl, 3
  %user = zext i1 %ring3 to i64
  %access32 = sub i32 %kind, {_FIRST_ACCESS}
  %access = zext i32 %access32 to i64
  %words = getelementptr i64, i64* %c, i64 {CTX["words"]}
  %ram = getelementptr i64, i64* %c, i64 {CTX["ram"]}
  %w = call i64 @get_walk(i64* %c)
  %wp = inttoptr i64 %w to i64 (i64*, i64*, i64, i64, i64, i64, i64, i64, i64)*
  %result = call i64 %wp(i64* %words, i64* %ram, i64 %va, i64 %access, i64 %user, i64 %cr0,
    i64 %cr3, i64 %cr4, i64 %efer)
  %refused = icmp slt i64 %result, 0
  br i1 %refused, label %no, label %yes
yes:
  %page = and i64 %result, -4096
  store i64 %page, i64* %entry
  %rights64 = and i64 %result, 7
  %rights = trunc i64 %rights64 to i32
  %second = getelementptr i64, i64* %entry, i64 1
  %field = bitcast i64* %second to i32*
  store i32 %rights, i32* %field
  ret i1 true
no:
  ret i1 false
}}
"""

_PARTS = (
    _part("tb_pc", 0, 64)
    + _part("tb_cs_base", TB_CS_BASE, 64)
    + _part("tb_size", TB_SIZE, 16)
    + _part("tb_icount", TB_ICOUNT, 16)
    + _part("tb_cflags", TB_CFLAGS, 32)
    + _part("tb_code", TB_CODE, 64)
    + _part("tb_code_size", TB_CODE_SIZE, 64)
)
SOURCE = "".join(_field(name) for name in CTX) + _PARTS + _ROUTINES
