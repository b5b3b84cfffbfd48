"""Arrays out of a pickle that somebody else made, without running anything that it asks for.

A pickle is a program. It is not run here: its instructions are read one by one, and those that make numbers, texts,
containers and numpy's arrays of them are followed. No name in it is ever imported or called, no object is handed a
state, and an array is made only of as many bytes as its shape needs. Whatever else it asks for is refused.
"""

from __future__ import annotations

import math
import os
import pickletools
import re
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from datasets.core.checks import printable, refuse_pointer
from datasets.core.errors import ManifestError, UnsafePickleError

DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,4}|O8?)")
INSTRUCTIONS = 1_000_000  # five times as many as the largest of the published files has
ENTRIES, LETTERS = 1000, 200  # of one dict, of one of its keys: more would only be there to be slow
DEPTH = 32  # axes of an array, and lists within lists
COPIES = 4  # times the size of the file that may be copied out of it: a real file needs 3, of what it shares none


class _Name(Enum):
    """The names that a pickle of arrays may hold, whatever module they are in."""

    RECONSTRUCT = "_reconstruct"
    FROMBUFFER = "_frombuffer"
    SCALAR = "scalar"
    NDARRAY = "ndarray"
    DTYPE = "dtype"
    ENCODE = "encode"
    BYTES = "bytes"


NAMES = {
    **{f"numpy.{core}.multiarray _reconstruct": _Name.RECONSTRUCT for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray scalar": _Name.SCALAR for core in ("core", "_core")},
    **{f"numpy.{core}.numeric _frombuffer": _Name.FROMBUFFER for core in ("core", "_core")},
    "numpy ndarray": _Name.NDARRAY,
    "numpy dtype": _Name.DTYPE,
    "_codecs encode": _Name.ENCODE,
    **{f"{module} bytes": _Name.BYTES for module in ("__builtin__", "builtins")},
}


class _DType:
    """A dtype while it is put together: its code, then its state, of which the byte order counts."""

    def __init__(self, code: str) -> None:
        if not DTYPE.fullmatch(code):
            raise ValueError(f"a dtype {printable(code)}, not one of numbers or texts")
        self.code, self.order = code.lstrip("<>|="), ">" if code[0] == ">" else "<"

    def numpy(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Array:
    """An array, which may be named before it is filled."""

    def __init__(self, value: np.ndarray | None = None) -> None:
        self.value = value


class _Stream:
    """A file to read from. A size that it does not have is never asked for: Python would allocate it first."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.size = file, os.fstat(file.fileno()).st_size
        self.tell, self.readline = file.tell, file.readline

    def read(self, count: int) -> bytes:
        return self.file.read(min(count, self.size - self.tell()) if count > 1 else count)


class _Program:
    """The stack and the memo of a pickle whose instructions are followed one by one."""

    def __init__(self, size: int) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # what lies under each mark
        self.memo: dict[int, Any] = {}
        self.left = COPIES * size

    def spend(self, count: int) -> None:
        """A few bytes may be used again and again: what is made of them in all is bounded by the file's size."""
        self.left -= count
        if self.left < 0:
            raise ValueError("what it shares would grow beyond the size of the file")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise ValueError("it takes a value that is not there")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.below:
            raise ValueError("it takes values from a mark that is not there")
        values, self.stack = self.stack, self.below.pop()
        return values

    def top(self) -> Any:
        if not self.stack:
            raise ValueError("it changes a value that is not there")
        return self.stack[-1]

    def follow(self, instruction: str, given: Any) -> None:
        """Does what one instruction says.

        Args:
            instruction: Its name in ``pickletools``.
            given: Its argument.

        Raises:
            UnsafePickleError: No pickle of arrays asks for this.
            ValueError: It makes no sense where it stands.
        """
        known = (
            self._follow_memo(instruction, given)
            or self._follow_constant(instruction, given)
            or self._follow_container(instruction)
            or self._follow_stack(instruction)
            or self._follow_object(instruction, given)
        )
        if known:
            return
        if instruction in ("EXT1", "EXT2", "EXT4"):
            raise UnsafePickleError(f"asks for the extension {given}")
        if instruction in ("PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER"):
            raise UnsafePickleError("asks for an object outside of it")
        raise UnsafePickleError(f"asks for {instruction}")  # sets, and every other way to make an object of a class

    # Each of these does what an instruction of its kind says, and returns whether it was one.
    def _follow_memo(self, instruction: str, given: Any) -> bool:
        match instruction:
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.top()
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                if not 0 <= given < INSTRUCTIONS:
                    raise ValueError("it remembers a value under an impossible number")
                self.memo[given] = self.top()
            case "GET" | "BINGET" | "LONG_BINGET":
                if given not in self.memo:
                    raise ValueError("it recalls a value that is not there")
                self.push(self.memo[given])
            case _:
                return False
        return True

    def _follow_constant(self, instruction: str, given: Any) -> bool:
        match instruction:
            case (
                "UNICODE" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8" | "STRING" | "BINSTRING"
                | "SHORT_BINSTRING" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8" | "FLOAT" | "BINFLOAT"
            ):  # fmt: skip
                self.push(given)
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4":
                if not -(1 << 63) <= given < 1 << 63:
                    raise ValueError("a whole number of more than 64 bits")
                self.push(given)
            case "NONE":
                self.push(None)
            case "NEWTRUE" | "NEWFALSE":
                self.push(instruction == "NEWTRUE")
            case _:
                return False
        return True

    def _follow_container(self, instruction: str) -> bool:
        match instruction:
            case "EMPTY_TUPLE":
                self.push(())
            case "EMPTY_LIST":
                self.push([])
            case "EMPTY_DICT":
                self.push({})
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                values = [self.pop() for _ in range(int(instruction[-1]))]
                self.push(tuple(reversed(values)))
            case "TUPLE":
                fixed = tuple(self.pop_to_mark())
                self.push(fixed)
            case "LIST":
                listed = self.pop_to_mark()
                self.push(listed)
            case "DICT":
                entries: dict[str, Any] = {}
                self.set_items(entries, self.pop_to_mark())
                self.push(entries)
            case "APPEND" | "APPENDS":
                values = [self.pop()] if instruction == "APPEND" else self.pop_to_mark()
                if not isinstance(self.top(), list):
                    raise ValueError("it appends to what is no list")
                self.top().extend(values)
            case "SETITEM" | "SETITEMS":
                values = [self.pop(), self.pop()][::-1] if instruction == "SETITEM" else self.pop_to_mark()
                self.set_items(self.top(), values)
            case _:
                return False
        return True

    def _follow_stack(self, instruction: str) -> bool:
        match instruction:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self.below.append(self.stack)
                self.stack = []
            case "POP":
                if self.stack:
                    self.stack.pop()
                else:
                    self.pop_to_mark()
            case "POP_MARK":
                self.pop_to_mark()
            case "DUP":
                self.push(self.top())
            case _:
                return False
        return True

    def _follow_object(self, instruction: str, given: Any) -> bool:
        match instruction:
            case "GLOBAL":
                self.push(_name(given))
            case "STACK_GLOBAL":
                name, module = self.pop(), self.pop()
                if not isinstance(name, str) or not isinstance(module, str):
                    raise ValueError("a name that is no text")
                self.push(_name(f"{module} {name}"))
            case "REDUCE":
                args = self.pop()
                self.push(self.made(self.pop(), args))
            case "BUILD":
                state = self.pop()
                self.fill(self.top(), state)
            case _:
                return False
        return True

    def set_items(self, target: Any, values: Sequence[Any]) -> None:
        """Keys are short texts: they cannot be chosen to collide, as numbers and tuples of numbers can."""
        if not isinstance(target, dict) or len(values) % 2:
            raise ValueError("it sets an entry of what is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str) or len(key) > LETTERS:
                raise ValueError("a dict with a key that is no short text")
            target[key] = value
            if len(target) > ENTRIES:
                raise ValueError(f"a dict of more than {ENTRIES} entries")

    def made(self, name: Any, args: Any) -> Any:
        """What numpy's function of that name would make of the arguments."""
        match name, args:
            case _Name.DTYPE, (str(code), *_):
                return _DType(code)
            case _Name.RECONSTRUCT, (_Name.NDARRAY, *_):
                return _Array()
            case _Name.SCALAR, (dtype, data):
                return self.array(data, dtype, (1,), "C")[0].item()
            case _Name.FROMBUFFER, (data, dtype, shape, "C" | "F" as order):
                return _Array(self.array(data, dtype, shape, order))
            case _Name.FROMBUFFER, (data, dtype, shape, "K", tuple(axes)) if all(type(n) is int for n in axes):
                return _Array(self.array(data, dtype, shape, "C").transpose(axes))  # bytes in the order of memory
            case _Name.ENCODE, (str(text), "latin1" | "latin-1"):
                self.spend(len(text))
                return text.encode("latin1")
            case _Name.BYTES, ():
                return b""
        raise ValueError("it makes something that is no array")

    def fill(self, target: Any, state: Any) -> None:
        """What numpy's objects would do with the state that they are handed."""
        match target, state:
            case _DType(), (3, "<" | ">" | "|" | "=" as order, None, None, None, int(), int(), int()):
                target.order = ">" if order == ">" else "<"
            case _Array(value=None), (1, shape, dtype, fortran, data):
                target.value = self.array(data, dtype, shape, "F" if fortran else "C")
            case _:
                raise ValueError("it hands a state to what is no new array or dtype")

    def array(self, data: Any, dtype: Any, shape: Any, order: Literal["C", "F"]) -> np.ndarray:
        if not isinstance(dtype, _DType) or not isinstance(shape, tuple) or len(shape) > DEPTH:
            raise ValueError("an array without a dtype or shape")
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("an array with an impossible shape")
        if dtype.code.startswith("O"):
            if not isinstance(data, list) or len(data) != math.prod(shape):
                raise ValueError(f"an array {shape} of other than as many objects")
            return self.texts(data).reshape(shape, order=order)
        data = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(data, bytes | bytearray) or len(data) != math.prod(shape) * dtype.numpy().itemsize:
            raise ValueError(f"an array {shape} of other than as many bytes")
        self.spend(len(data))
        flat = np.frombuffer(data, dtype.numpy())
        if flat.dtype.kind == "U":
            letters = flat.view(f"{dtype.order}u4")
            if (letters > 0x10FFFF).any() or ((letters >= 0xD800) & (letters <= 0xDFFF)).any():
                raise ValueError("an array of texts with a letter that does not exist")
        return flat.reshape(shape, order=order)

    def texts(self, values: Sequence[Any]) -> np.ndarray:
        """(n,) texts of any lengths, which are not copied."""
        if not all(isinstance(x, str | bytes) for x in values):
            raise ValueError("an array of objects that are not all texts")
        made = np.empty(len(values), object)
        for i, text in enumerate(values):
            self.spend(1 + len(text))
            made[i] = text.decode("latin1") if isinstance(text, bytes) else text
            made[i].encode()  # refuses half a surrogate pair, which no file could be given as a name
        return made

    def finished(self, value: Any) -> np.ndarray:
        """An array, or lists of numbers or of texts as one."""
        if isinstance(value, _Array) and value.value is not None and value.value.ndim:
            return value.value
        if not isinstance(value, list | tuple):
            raise ValueError(f"a {type(value).__name__}, not a filled array with axes")
        shape, first = [], value
        while isinstance(first, list | tuple):
            shape.append(len(first))
            if not first or len(shape) > DEPTH:
                raise ValueError("lists that are empty or without end, not an array")
            first = first[0]
        flat = list(self.leaves(value, shape))
        if isinstance(first, str | bytes):
            return self.texts(flat).reshape(shape)
        if not all(isinstance(x, bool | int | float) for x in flat):
            raise ValueError("lists of more than numbers or texts, not an array")
        made = np.array(flat).reshape(shape)
        if made.dtype.kind not in "biuf":
            raise ValueError("lists of numbers that do not go together, not an array")
        return made

    def leaves(self, value: Any, shape: Sequence[int]) -> Iterator[Any]:
        self.spend(1)
        if not shape:
            yield value
        elif isinstance(value, list | tuple) and len(value) == shape[0]:
            for one in value:
                yield from self.leaves(one, shape[1:])
        else:
            raise ValueError("lists of unequal lengths, not an array")


def _name(name: str) -> _Name:
    if name not in NAMES:
        raise UnsafePickleError(f"asks for {printable(name.replace(' ', '.', 1))}")
    return NAMES[name]


def read_pickle(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The arrays in a pickle of a dict of dicts of arrays; lists count as arrays, what is None is left out.

    All of it is held in memory at once. Raises UnsafePickleError for a pickle that names anything but arrays, and
    ManifestError for one that is damaged, holds something else or would grow beyond its size.
    """
    refuse_pointer(path, ManifestError)
    try:
        with path.open("rb") as file:
            stream = _Stream(file)
            program = _Program(stream.size)
            for number, (instruction, given, _) in enumerate(pickletools.genops(stream)):  # type: ignore[arg-type]
                if number == INSTRUCTIONS:
                    raise ValueError(f"more than {INSTRUCTIONS} instructions")
                program.follow(instruction.name, given)
        found = program.pop()
        if not isinstance(found, dict) or not all(isinstance(fields, dict) for fields in found.values()):
            raise ValueError("it holds no dict of dicts")
        return {
            part: {name: program.finished(value) for name, value in fields.items() if value is not None}
            for part, fields in found.items()
        }
    except UnsafePickleError as error:
        raise UnsafePickleError(
            f"{path}: {error}, which no file of features needs; it was not read: get the published file"
        ) from None
    except ValueError as error:
        raise ManifestError(f"{path}: not a pickle of arrays ({printable(error)}); get the file again") from error
