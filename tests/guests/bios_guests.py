# SPDX-License-Identifier: GPL-2.0-only
"""Guests that call the BIOS: a program for each service, and one for taking vectors over."""

from __future__ import annotations

from .pc_program import Program, calls

_READ = "mov bx, 0xa000\n mov cx, {cx}\n mov ax, {ax}\n int 0x13"


def _read(ax: int, cx: int, more: str = "") -> str:
    return f"{more}\n" + _READ.format(ax=hex(ax), cx=hex(cx))


_EQUIPMENT = calls(
    "int 0x11\n and al, 0xfb",  # bit 2 is a mouse, which no -nodefaults takes away from QEMU
    "mov ax, [0x410]\n and al, 0xfb\n mov bx, [0x400]\n mov cx, [0x408]",
    "mov al, 0x10\n out 0x70, al\n in al, 0x71\n mov ah, 0\n mov bx, ax\n"
    " mov al, 0x14\n out 0x70, al\n in al, 0x71",
    "mov al, [0x475]\n mov ah, 0",
    *(
        f"mov al, {place:#x}\n out 0x70, al\n in al, 0x71\n mov ah, 0\n mov bl, al\n"
        f" mov al, {place + 1:#x}\n out 0x70, al\n in al, 0x71"
        for place in (0x11, 0x19, 0x1B, 0x1D, 0x1F, 0x21, 0x23)
    ),
)
_BARE = ("-nodefaults", "-vga", "std")
EQUIPMENT = Program(_EQUIPMENT, qemu=_BARE)
EQUIPMENT_WITH_FLOPPY = Program(_EQUIPMENT, floppy=True, qemu=_BARE)
DISK_PARAMETERS = Program(
    calls(
        "mov ah, 8\n int 0x13",
        "mov ah, 0x15\n int 0x13",
        "mov ah, 0x41\n mov bx, 0x55aa\n int 0x13",
        "mov ah, 0x41\n int 0x13",
        "mov dl, 0x81\n mov ah, 8\n int 0x13",
        "mov ah, 1\n int 0x13",
        "mov dl, 0x82\n mov ax, 0x0201\n int 0x13",
        "mov ah, 0\n int 0x13",
        "mov ah, 0x77\n int 0x13",
        "mov ah, 1\n int 0x13",
        "mov ah, 0x10\n int 0x13",
    )
)
DISK_READS = Program(
    calls(
        _read(0x0201, 0x0002),
        "mov ax, [0xa000]\n mov bx, [0xa1fe]",
        _read(0x0201, 0x0000),
        _read(0x0200, 0x0001),
        _read(0x0201, 0x0041),
        _read(0x0281, 0x0001),
        _read(0x0201, 0x0001, "mov dh, 16"),
        _read(0x0203, 0x003F),
        _read(0x0402, 0x0002),
        "mov si, offset packet\n mov ah, 0x42\n int 0x13",
        "mov ax, [0xa1fe]",
        "mov word ptr [packet + 8], 60\n mov word ptr [packet + 2], 10\n mov si, offset packet\n"
        " mov ah, 0x42\n int 0x13",
        "mov ax, [packet + 2]",
        "mov word ptr [packet + 8], 64\n mov si, offset packet\n mov ah, 0x42\n int 0x13",
        "mov byte ptr [packet], 8\n mov si, offset packet\n mov ah, 0x42\n int 0x13",
        "mov word ptr [0xb000], 26\n mov si, 0xb000\n mov ah, 0x48\n int 0x13",
        "mov ax, [0xb000]\n mov bx, [0xb004]\n mov cx, [0xb008]\n mov dx, [0xb00c]\n"
        " mov si, [0xb010]\n mov di, [0xb018]",
    ),
    data="packet: .byte 16, 0\n .word 1, 0xa000, 0\n .quad 0\n",
)
DISK_WRITES = Program(
    calls(
        "mov di, 0xa000\n mov cx, 512\n mov ax, 0x1234\n rep stosw",
        _read(0x0302, 0x0014),
        _read(0x0201, 0x0001),
        _read(0x0202, 0x0014),
        "mov ax, [0xa000]\n mov bx, [0xa3fe]\n mov cx, [0xa400]",
        "mov si, offset packet\n mov ah, 0x43\n int 0x13",
        "mov si, offset packet\n mov word ptr [packet + 4], 0xc000\n mov ah, 0x42\n int 0x13",
        "mov ax, [0xc000]\n mov bx, [0xa000]",
    ),
    data="packet: .byte 16, 0\n .word 2, 0xa000, 0\n .quad 30\n",
)
FLOPPY = Program(
    calls(
        "mov ah, 8\n int 0x13\n mov di, 0\n mov es, di",
        "mov dl, 1\n mov ah, 8\n int 0x13",
        "mov ah, 0x15\n int 0x13",
        "mov ah, 0x16\n int 0x13",
        "mov ah, 0x41\n mov bx, 0x55aa\n int 0x13",
        _read(0x0202, 0x0002),
        _read(0x0212, 0x0002),
        _read(0x0201, 0x0013),
        _read(0x0201, 0x5001),
        _read(0x0201, 0x4F12, "mov dh, 1"),
        "mov bx, 0xfe01\n mov cx, 1\n mov ax, 0x0201\n int 0x13",
        "mov ah, 1\n int 0x13",
        _read(0x0301, 0x0005),
        _read(0x0401, 0x0005),
        "mov ah, 0\n int 0x13",
    ),
    floppy=True,
)
_MAP = """
        xor     ebx, ebx
5:      mov     eax, 0xe820
        mov     edx, 0x534d4150
        mov     ecx, 24
        mov     di, 0xa000
        int     0x15
        jc      6f
        push    ebx
        push    ecx
        mov     si, 0xa000
        mov     cx, 10
7:      lodsw
        call    hex16
        loop    7b
        pop     ecx
        mov     ax, cx
        call    hex16
        pop     ebx
        mov     ax, bx
        call    hex16
        call    newline
        test    ebx, ebx
        jnz     5b
6:      mov     ebx, 77
        mov     eax, 0xe820
        mov     ecx, 24
        mov     edx, 0x534d4150
        int     0x15
        call    show
"""
_SIZES = calls(
    "int 0x12\n mov dl, 0",
    "mov ah, 0x88\n int 0x15",
    "mov ax, 0xe801\n int 0x15",
    "mov ah, 0xc1\n int 0x15",
)
MEMORY_MAP = Program(_MAP + _SIZES)
MEMORY_MAP_SMALL = Program(_MAP + _SIZES, memory=32)
MEMORY_MAP_ABOVE_4G = Program(_MAP + _SIZES, memory=4096)
UNSUPPORTED = Program(
    calls(
        "mov ah, 0xd8\n int 0x15",
        "mov ax, 0xec00\n mov bx, 2\n int 0x15",
        "mov ax, 0xe820\n mov edx, 0\n mov ecx, 20\n int 0x15",
        "mov eax, 0xe820\n mov edx, 0x534d4150\n mov ecx, 19\n int 0x15",
        "mov ax, 0xe881\n int 0x15",
        "mov ax, 0x2405\n int 0x15",
        "mov ah, 0x80\n int 0x15",
        "mov ah, 0x4f\n stc\n int 0x15",
        "mov ah, 0x91\n int 0x15",
        "mov ax, 0x2403\n int 0x15",
        "mov ah, 0x20\n int 0x1a",
        "mov ax, 0x4f00\n mov di, 0xa000\n int 0x16",
    )
)
BLOCK_MOVE = Program(
    calls(
        "mov si, offset table\n mov cx, 4\n mov ah, 0x87\n int 0x15",
        "mov si, offset back\n mov cx, 4\n mov ah, 0x87\n int 0x15",
        "mov ax, [0xa000]\n mov bx, [0xa002]\n mov cx, [0xa004]\n mov dx, [0xa006]",
    ),
    data="""
        .macro  descriptor base
        .word   0xffff, \\base & 0xffff
        .byte   \\base >> 16, 0x93, 0, 0
        .endm
table:  .skip   16
        descriptor (0x7c00 + 512)
        descriptor 0x234560
        .skip   16
back:   .skip   16
        descriptor 0x234560
        descriptor 0xa000
        .skip   16
""",
)
TELETYPE = Program(
    """
        mov     ah, 2
        mov     bh, 0
        mov     dx, 0x184d
        int     0x10
        mov     ax, 0x0941
        mov     bx, 0x0017
        mov     cx, 10
        int     0x10
        mov     si, 10
1:      mov     ax, 0x0e42
        int     0x10
        dec     si
        jnz     1b
        mov     ax, 0x0e08
        int     0x10
        mov     ax, 0x0e07
        int     0x10
        mov     ax, 0x0e09
        int     0x10
        mov     ax, 0x0e0d
        int     0x10
        mov     ax, 0x0e08
        int     0x10
        mov     ah, 3
        mov     bh, 0
        int     0x10
        call    show
        mov     ah, 2
        mov     bh, 0
        mov     dx, 0x1f60
        int     0x10
        mov     ah, 3
        mov     bh, 0
        int     0x10
        call    show
"""
)
WINDOWS = Program(
    """
        mov     cx, 24
1:      push    cx
        mov     al, cl
        add     al, 'A'
        mov     ah, 0x0e
        int     0x10
        call    newline
        pop     cx
        loop    1b
        mov     ax, 0x0601
        mov     bh, 0x1e
        mov     cx, 0x0205
        mov     dx, 0x0a14
        int     0x10
        mov     ax, 0x0702
        mov     bh, 0x2f
        mov     cx, 0x0b05
        mov     dx, 0x1014
        int     0x10
        mov     ax, 0x0700
        mov     bh, 0x70
        mov     cx, 0
        mov     dx, 0x0113
        int     0x10
        mov     ah, 2
        mov     bh, 0
        mov     dx, 0x0c4d
        int     0x10
        mov     ax, 0x0958
        mov     bx, 0x004e
        mov     cx, 10
        int     0x10
        mov     ax, 0x0a59
        mov     bx, 0x0012
        mov     cx, 2
        int     0x10
        mov     ah, 8
        mov     bh, 0
        int     0x10
        call    show
"""
)
STRINGS = Program(
    """
        mov     ax, 0x1301
        mov     bx, 0x0035
        mov     cx, 20
        mov     dx, 0x1405
        mov     bp, offset plain
        int     0x10
        mov     ax, 0x1303
        mov     bx, 0x0035
        mov     cx, 3
        mov     dx, 0x164e
        mov     bp, offset coloured
        int     0x10
        mov     ax, 0x1300
        mov     bx, 0x0044
        mov     cx, 20
        mov     dx, 0x0005
        mov     bp, offset plain
        int     0x10
        mov     ah, 3
        mov     bh, 0
        int     0x10
        call    show
""",
    data="""
plain:  .ascii  "string\\x07 with\\ttab\\r\\nnext"
coloured:
        .byte   'a', 1, 'b', 2, 'c', 3
""",
)
PAGES = Program(
    """
        mov     ax, 0x0501
        int     0x10
        mov     ah, 2
        mov     bh, 1
        mov     dx, 0x0203
        int     0x10
        mov     ax, 0x0e5a
        int     0x10
        mov     ah, 3
        mov     bh, 1
        int     0x10
        mov     si, dx
        mov     ah, 0x0f
        int     0x10
        mov     di, ax
        mov     ax, 0x0500
        int     0x10
        mov     bh, 0
        call    show
        mov     ax, 0xb800
        mov     es, ax
        mov     ax, es:[0x1000 + 2 * (2 * 80 + 3)]
        push    0
        pop     es
        call    show
        mov     ax, 0x1a00
        int     0x10
        call    show
        mov     ah, 0x12
        mov     bx, 0x10
        int     0x10
        call    show
"""
)
FORTY_COLUMNS = Program(
    """
        mov     ax, 1
        int     0x10
        mov     cx, 50
1:      mov     ax, 0x0e42
        int     0x10
        loop    1b
        mov     ah, 1
        mov     cx, 0x2607
        int     0x10
        mov     ah, 3
        mov     bh, 0
        int     0x10
        mov     bx, 0x40
        mov     ds, bx
        .irp    place, 0x84, 0x4a, 0x4c, 0x63, 0x87, 0x89, 0x85, 0x60
        mov     ax, [\\place]
        call    show
        .endr
"""
)
TIME_OF_DAY = Program(
    calls(
        "mov ah, 2\n int 0x1a\n mov dh, 0",
        "mov ah, 4\n int 0x1a",
        "mov ah, 5\n mov cx, 0x2021\n mov dx, 0x0615\n int 0x1a",
        "mov ah, 4\n int 0x1a",
        "mov ah, 3\n mov cx, 0x2358\n mov dx, 0x1000\n int 0x1a",
        "mov ah, 2\n int 0x1a\n mov dh, 0",
        "mov ah, 1\n mov cx, 0x0017\n mov dx, 0x1234\n int 0x1a",
        "mov ah, 0\n int 0x1a\n mov dl, 0",
        "mov ax, 0xb103\n mov ecx, 0x060000\n int 0x1a",
        "mov ax, 0xb109\n mov di, 0\n int 0x1a",
        "mov ax, 0xb102\n mov cx, 0x7000\n mov dx, 0x8086\n int 0x1a",
        "mov ax, 0xb102\n mov cx, 0x7777\n mov dx, 0x8086\n int 0x1a",
    )
)
KEY_BUFFER = Program(
    calls(
        "mov ah, 1\n int 0x16",
        "mov ah, 2\n int 0x16",
        "mov ah, 0x12\n int 0x16",
        "mov ah, 5\n mov cx, 0x1e61\n int 0x16",
        "mov ah, 5\n mov cx, 0x48e0\n int 0x16",
        "mov ah, 5\n mov cx, 0x48e0\n int 0x16",
        "mov ah, 1\n int 0x16",
        "mov ah, 0\n int 0x16",
        "mov ah, 0x11\n int 0x16",
        "mov ah, 0x10\n int 0x16",
        "mov ah, 0\n int 0x16",
        "mov ah, 9\n int 0x16",
        "mov ax, 0x0305\n int 0x16",
        "mov ax, 0x9200\n int 0x16",
        "xor si, si\n1: mov ah, 5\n mov cx, 0x1e61\n int 0x16\n inc si\n test al, al\n jz 1b",
    )
)
KEYS_TYPED = Program(
    calls(*["mov ah, 0\n int 0x16"] * 9, "mov ah, 2\n int 0x16"),
    keys=(
        ("a", "a"),
        ("shift-b", "B"),
        ("ret", "{Enter}"),
        ("f5", "{F5}"),
        ("ctrl-c", "{Ctrl-C}"),
        ("alt-x", "{Alt-X}"),
        ("up", "{Up}"),
        ("shift-1", "!"),
        ("esc", "{Esc}"),
    ),
)
TAKEN_OVER = Program(
    """
        cli                             # INT 10h: every letter comes out as the next one
        mov     eax, [0x40]
        mov     [old_video], eax
        mov     word ptr [0x40], offset video
        mov     word ptr [0x42], 0
        mov     eax, [0x70]             # INT 1Ch counts
        mov     [old_tick], eax
        mov     word ptr [0x70], offset tick
        mov     word ptr [0x72], 0
        sti
        mov     ax, 0x0e47
        int     0x10
        mov     ax, 0x0e4e
        int     0x10
        mov     bx, 7
1:      hlt
        cmp     word ptr [ticks], 3
        jb      1b
        cli
        mov     eax, [old_video]
        mov     [0x40], eax
        mov     eax, [old_tick]
        mov     [0x70], eax
        mov     ax, [ticks]
        call    hex16
""",
    data="""
video:  cmp     ah, 0x0e
        jne     1f
        inc     al
1:      .byte   0x2e, 0xff, 0x2e        # jmp far cs:[old_video]
        .word   old_video
tick:   inc     word ptr cs:[ticks]
        .byte   0x2e, 0xff, 0x2e        # jmp far cs:[old_tick]
        .word   old_tick
old_video: .long 0
old_tick:  .long 0
ticks:  .word   0
""",
)
BOOT_AGAIN = Program(
    """
        mov     ax, [0x500]             # INT 19h brings the boot sector back, RAM stays
        call    hex16
        inc     word ptr [0x500]
        cmp     ax, 2
        jae     1f
        mov     word ptr [0x7c00 + 300], 0x1234
        int     0x19
1:      mov     ax, [0x7c00 + 300]
        call    hex16
"""
)

GUESTS = {name: value for name, value in sorted(globals().items()) if isinstance(value, Program)}
"""The programs by name."""
