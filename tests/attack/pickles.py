"""Pickles that mean harm, pickles that mean well, and what is between them; ``python -m tests.attack.pickles 1000``.

The command reads that many mutated pickles in a process whose memory is limited, and prints what came of them.
"""

from __future__ import annotations

import json
import pickle
import pickletools
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from datasets.core.errors import DataError
from datasets.decode.safe_pickle import read_pickle

SHARED_MEMORY = Path("/dev/shm")  # where it is, files are much faster than on a disk
MEMORY = 256 << 20  # bytes that the command may need beyond what it has when it begins


def plain(value: Any) -> bytes:
    """The instructions for a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def within(value: bytes) -> bytes:
    """A pickle of {"train": {"text": value}}."""
    return b"\x80\x02}" + plain("train") + b"}" + plain("text") + value + b"ss."


def dtype(code: str = "f4", order: str = "<", fields: Any = None) -> bytes:
    state = plain((3, order, None, fields, None, -1, -1, 0))
    return b"cnumpy\ndtype\n" + plain((code, False, True)) + b"R" + state + b"b"


NDARRAY = b"cnumpy\nndarray\n"
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\n" + NDARRAY + plain((0,)) + plain("b") + b"\x87R"
ENCODE = b"c_codecs\nencode\n"


def array(shape: bytes = plain((2,)), kind: bytes = dtype(), data: bytes = b"U\x08" + b"\0\0\x80\x3f" * 2) -> bytes:
    """The instructions for an array, as Python 2 wrote them unless told otherwise."""
    return EMPTY + b"(K\x01" + shape + kind + b"\x89" + data + b"tb"


def scalar(kind: bytes, data: bytes) -> bytes:
    return b"cnumpy.core.multiarray\nscalar\n" + kind + b"U" + bytes([len(data)]) + data + b"\x86R"


def from_buffer(rest: bytes) -> bytes:
    """An array as protocol 5 has it, up to its order."""
    data = b"U\x08" + b"\0" * 8
    return b"cnumpy.core.numeric\n_frombuffer\n(" + data + dtype() + plain((2,)) + rest + b"tR"


def state(attributes: dict[str, Any]) -> bytes:
    """What BUILD sets with setattr."""
    return plain((None, attributes)) + b"b"


POINTER = {"shape": (4,), "typestr": "<f4", "data": (4096, False), "version": 3}
SYSTEM = plain("touch canary")

HOSTILE: dict[str, bytes] = {
    # ---- what an object is told
    "a pointer on the array's class": within(b"]" + NDARRAY + state({"__array_interface__": POINTER}) + b"a"),
    "a pointer on an array": within(EMPTY + state({"__array_interface__": POINTER})),
    "a pointer on a dtype": within(dtype() + state({"__array_interface__": POINTER})),
    "other defaults of a function": within(ENCODE + state({"__defaults__": ("utf-8",)})),
    "a list that is told something": within(b"]" + plain({"a": 1}) + b"b"),
    "a state of attributes": within(EMPTY + plain({"value": 3}) + b"b"),
    "a state twice": within(array() + plain((1, (1,), None, False, b"")) + b"b"),
    # ---- what runs
    "os.system": b"cos\nsystem\n" + SYSTEM + b"\x85R.",
    "posix.system by its name on the stack": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + SYSTEM + b"\x85R.",
    "an instance of old": b"(" + SYSTEM + b"ios\nsystem\n.",
    "an object of old": b"(cos\nsystem\n" + SYSTEM + b"o.",
    "an object of a class": b"\x80\x02cos\nsystem\n" + SYSTEM + b"\x85\x81.",
    "an object of a class with names": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + SYSTEM + b"\x85}\x92.",
    "an object of a known class": within(NDARRAY + b")\x81"),
    "an instance of a known class": within(b"(inumpy\nndarray\n"),
    "a name within a known name": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93.",
    "a name below a known module": b"cnumpy.core.multiarray\nfromfile\n.",
    "builtins.eval": b"cbuiltins\neval\n" + plain("open('canary', 'w')") + b"\x85R.",
    "getattr": b"cbuiltins\ngetattr\n" + plain(("a", "encode")) + b"R.",
    "another encoding": within(ENCODE + plain(("616263", "hex")) + b"R"),
    "a text that is called": within(plain("print") + b")R"),
    "extension 1": b"\x80\x02\x82\x07.",
    "extension 2": b"\x80\x02\x83\x07\x00.",
    "extension 4": b"\x80\x02\x84\x07\x00\x00\x00.",
    "a persistent name": b"Pcanary\n.",
    "a persistent object": within(plain("canary") + b"Q"),
    "a buffer from outside": b"\x80\x05\x97.",
    "a read-only buffer": b"\x80\x05\x97\x98.",
    "a set": within(b"\x8f(K\x01\x90"),
    "a frozen set": within(b"(K\x01\x91"),
    # ---- what is slow or large
    "numbers that collide": b"\x80\x02}("
    + b"".join(b"\x8a\x0b" + (i * (2**61 - 1)).to_bytes(11, "little") + b"N" for i in range(20_000))
    + b"u.",
    "tuples that are keys": b"\x80\x02}(" + b"".join(plain((i, -1)) + b"N" for i in range(2000)) + b"u.",
    "a list within itself as a key": b"\x80\x02}]q\x00h\x00ah\x00Ns.",
    "more entries than there are fields": b"\x80\x02}(" + b"".join(plain(str(i)) + b"}" for i in range(2000)) + b"u.",
    "a key of a megabyte": b"\x80\x02}" + plain("a" * 1_000_000) + b"}s.",
    "a tuple of itself twice, 25 times": within(b"K\x01\x85" + b"2\x86" * 25),
    "a tuple of itself twice, 60 times": within(b"K\x01\x85" + b"2\x86" * 60),
    "a list in itself": within(b"]q\x00h\x00a"),
    "a list in itself twice": within(b"]q\x00(h\x00h\x00e"),
    "a text that is encoded again and again": within(
        plain("a" * 100_000) + b"q\x070](" + (ENCODE + b"h\x07X\6\0\0\0latin1\x86R") * 5000 + b"e"
    ),
    "objects that are shared by many arrays": within(
        plain(["a"] * 20_000) + b"q\x090](" + array(plain((20_000,)), dtype("O8", "|"), b"h\x09") * 300 + b"e"
    ),
    "a long scalar again and again": within(
        plain("a" * 90_000) + b"q\x070" + dtype("S90000", "|") + b"q\x080]("
        + b"cnumpy.core.multiarray\nscalar\nh\x08h\x07\x86R" * 5000 + b"e"
    ),
    "marks in marks": b"(" * 300_000 + b".",
    "lists in lists": b"]" * 300_000 + b"a" * 299_999 + b".",
    "tuples in tuples": b")" + b"\x85" * 300_000 + b".",
    "dicts in dicts": b"}" + (plain("a") + b"}") * 100_000 + b"s" * 100_000 + b".",
    "copies": within(b"]" + b"2" * 300_000),
    "a million instructions": b"N" + b"N0" * 500_000 + b".",
    "bytes of the largest size": b"\x80\x04\x8e" + struct.pack("<Q", 2**63 - 1) + b"a.",
    "bytes of a terabyte": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"a.",
    "a bytearray of a terabyte": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"a.",
    "a text of four gigabytes": b"X\xff\xff\xff\xffa.",
    "a text of a terabyte": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"a.",
    "a frame of a terabyte": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.",
    "a number of two gigabytes": b"\x8b\xff\xff\xff\x7fa.",
    "a number of 100,000 bytes": within(b"\x8b" + struct.pack("<i", 100_000) + b"\x7f" * 100_000),
    "a number of 5,000 digits": within(b"L" + b"7" * 5000 + b"L\n"),
    "a place of the largest number": b"]r\xff\xff\xff\xff.",
    "places that collide": b"N" + b"".join(b"p%d\n" % (i * (2**61 - 1)) for i in range(20_000)) + b".",
    # ---- what is no array
    "more bytes than the shape has": within(array(plain((1,)))),
    "fewer bytes than the shape has": within(array(plain((3,)))),
    "a shape that wraps around": within(array(plain((1 << 32, 1 << 30)), data=b"U\x00")),
    "a shape of a hundred axes": within(array(plain((1,) * 99 + (2,)))),
    "a negative shape": within(array(plain((-2,)))),
    "a shape of truths": within(array(plain((True, 2)))),
    "a shape that is a list": within(array(plain([2]))),
    "no axes": within(array(b")", data=b"U\x04abcd")),
    "texts of no length": within(array(plain((1 << 40,)), dtype("S0", "|"), b"U\x00")),
    "letters that do not exist": within(array(plain((2,)), dtype("U1"), b"U\x08" + b"\xff" * 8)),
    "half a letter": within(array(plain((1,)), dtype("U1"), b"U\x04\x00\xd8\x00\x00")),
    "half a letter in an object": within(array(plain((1,)), dtype("O8", "|"), b"]X\x03\0\0\0\xed\xa0\x80a")),
    "objects": within(array(plain((2,)), dtype("O8", "|"), plain([[1], [2]]))),
    "objects from bytes, which are pointers": within(array(plain((1,)), dtype("O8", "|"), b"U\x08" + b"\x10" * 8)),
    "an object scalar": within(b"]" + scalar(dtype("O8", "|"), b"\x10" * 8) + b"a"),
    "records": within(array(kind=dtype("V4", "|"))),
    "dates": within(array(kind=dtype("M8"))),
    "complex numbers": within(array(kind=dtype("c8"))),
    "a dtype that is a program": within(b"cnumpy\ndtype\n" + plain(([("a", "f4")], False, True)) + b"R"),
    "a dtype with fields": within(dtype(fields=("a",))),
    "a dtype alone": within(dtype()),
    "an array never filled": within(EMPTY),
    "an array of something else": within(EMPTY.replace(NDARRAY, dtype())),
    "a name alone": within(NDARRAY),
    "a name in a list": within(b"]" + NDARRAY + b"a"),
    "arrays in a list": within(b"]" + array() + b"a"),
    "lists of unequal lengths": within(plain([[1, 2], [3]])),
    "numbers and texts": within(plain([1, "a"])),
    "an empty list": within(b"]"),
    "a text": within(plain("a")),
    "axes that are not there": within(from_buffer(plain("K") + plain((3,)))),
    "axes that are texts": within(from_buffer(plain("K") + plain(("a",)))),
    "axes that are missing": within(from_buffer(plain("K"))),
    "an order that does not exist": within(from_buffer(plain("Z"))),
    # ---- what is no program
    "nothing on the stack": b".",
    "nothing to take": b"\x80\x02R.",
    "no mark": b"\x80\x02t.",
    "no end": within(array())[:-1],
    "a name with line ends": b"\x80\x04\x8c\x03a\nb\x8c\x05\x1b[31m\x93.",
    "a name of a megabyte": b"\x80\x04\x8c\x01a" + plain("b" * 1_000_000) + b"\x93.",
    "an entry without a value": b"\x80\x02}(" + plain("a") + b"u.",
    "an entry of a list": b"\x80\x02]" + plain("a") + b"Ns.",
    "an appended number": b"\x80\x02K\x01K\x01a.",
    "a text that is not closed": b"S'abc\n.",
    "an instruction that does not exist": b"\xff.",
}  # fmt: skip


def good() -> list[bytes]:
    """What numpy writes: every protocol, kind of number, text and order; and what Python 2 and numpy 1 wrote."""
    data = {
        "train": {
            "text": np.ones((2, 3, 2), np.float32),
            "vision": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "audio": np.arange(12, dtype=">i2").reshape(2, 2, 3).transpose(1, 0, 2),
            "labels": [np.float64(1.5), -2],
            "id": np.array([[b"a", b"b"], [b"c", b"d"]]),
        },
        "valid": {"id": np.array([["a", "b"]], dtype=object), "names": np.array(["ab", "c"]), "none": None},
    }
    files = [pickle.dumps(data, protocol) for protocol in range(6)]
    files += [file.replace(b"numpy._core", b"numpy.core") for file in files[:3]]
    return [*files, within(array()), within(plain([[1, 2], [3, 4]])), within(plain([["a"], ["b"]]))]


def mutated(files: list[bytes], seed: int) -> bytes:
    """One of the files with one or two changes: bytes, whole instructions, pieces of the other files."""
    rng = np.random.default_rng(seed)
    out = bytearray(files[rng.integers(len(files))])
    for _ in range(rng.integers(1, 3)):
        place = int(rng.integers(len(out) + 1))
        other = files[rng.integers(len(files))]
        start = int(rng.integers(len(other)))
        match rng.integers(8):
            case 0 if out:
                out[place % len(out)] ^= 1 << int(rng.integers(8))
            case 1 if out:
                out[place % len(out)] = int(rng.integers(256))
            case 2:
                out[place:place] = ord(rng.choice(list(pickletools.code2op))).to_bytes(1, "little")
            case 3:
                del out[place : place + int(rng.integers(1, 20))]
            case 4:
                out[place:place] = other[start : start + int(rng.integers(1, 200))]
            case 5:
                out[place : place + 4] = b"\xff\xff\xff\x7f"
            case 6:
                out[place:place] = out[place : place + int(rng.integers(1, 100))] * int(rng.integers(1, 20))
            case _:
                out[place:] = other[start:]
    return bytes(out)


def outcome(path: Path) -> str:
    """``read`` or the name of the DataError; whatever was read is looked at, byte by byte."""
    try:
        found = read_pickle(path)
    except DataError as error:
        line = str(error)
        assert "\n" not in line and line.isprintable() and len(line) < 600 and str(path) in line, line
        return type(error).__name__
    for fields in found.values():
        for values in fields.values():
            assert values.ndim and values.size <= path.stat().st_size
            assert len(" ".join(map(str, values.reshape(-1).tolist())).encode()) >= values.size - 1
    return "read"


def main(cases: range) -> None:
    files = good() * 10 + [file for file in HOSTILE.values() if len(file) < 2000]
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    before, began, slowest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic(), 0.0
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as folder:
        path = Path(folder, "mutated.pkl")
        for case in cases:
            path.write_bytes(mutated(files, case))
            start = time.monotonic()
            try:
                outcomes[outcome(path)] += 1
            except Exception as error:
                raise AssertionError(f"case {case}: {error!r}") from error
            slowest = max(slowest, time.monotonic() - start)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({
        "outcomes": outcomes, "seconds": time.monotonic() - began, "slowest": slowest, "grown_mb": grown / 1024,
    }))  # fmt: skip


if __name__ == "__main__":
    main(range(*map(int, sys.argv[1:])))
