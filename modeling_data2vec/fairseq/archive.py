"""Checks of a checkpoint file before anything of it is loaded: its archive, and its pickle's instructions.

A pickle is a program, and a short one can ask for endless memory or time without naming anything forbidden: by
containers that hold each other twice, by keys that are slow to hash or collide. So the program is read once without
running it, and refused where it goes beyond what checkpoints need.
"""

import io
import pickletools
import re
import stat
import struct
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Names that are rebuilt as what they are, by torch: tensors, their storages and containers.
REBUILT = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_(tensor_v2|parameter)|torch\.Size|torch\.device"
    r"|torch\.(Float|Half|BFloat16|Double|Long|Int|Short|Char|Byte|Bool)Storage"
)
# Names that become `Inert`: settings, dictionaries and counters. Nothing is imported for them.
INERT = re.compile(
    r"(fairseq|fairseq_cli|omegaconf|examples|data2vec|multimodal|hydra)\.[\w.]+"
    r"|argparse\.Namespace|typing\.\w+|enum\.\w+|pathlib\.(Pure)?(Posix|Windows)?Path"
    r"|builtins\.(dict|list|tuple|set|int|float|bool|str|bytes|complex|object)"
    r"|numpy\.(core|_core)\.multiarray\.(scalar|_reconstruct)|numpy\.(dtype|ndarray|float64|float32|int64)"
    r"|_codecs\.encode|copy_reg\._reconstructor|copyreg\._reconstructor"
)
DEFAULTDICT = "collections.defaultdict"
# What each instruction takes from the stack, None for all above the mark; some add it to what is below.
TAKEN: dict[str, int | None] = {
    "APPEND": 1,
    "SETITEM": 2,
    "BUILD": 1,
    "APPENDS": None,
    "SETITEMS": None,
    "TUPLE": None,
    "TUPLE1": 1,
    "TUPLE2": 2,
    "TUPLE3": 3,
    "REDUCE": 2,
    "NEWOBJ": 2,
    "BINPERSID": 1,
}
ADDING = ("APPEND", "SETITEM", "BUILD", "APPENDS", "SETITEMS")
TEXT = ("BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINSTRING", "STRING")
# The instructions that torch.save writes, in any protocol; of others, some import.
WRITTEN = {
    *TAKEN,
    *TEXT,
    *("PROTO", "STOP", "MARK", "GLOBAL", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "FRAME", "MEMOIZE"),
}

# Limits, twice and more what the authors' largest files have (1,000 weights with Adam's moments, 50,000 tokens).
PICKLE_BYTES = 2**26
INSTRUCTIONS = 1_000_000
CALLS = 200_000  # instructions that make objects of classes
NAMES = 300  # of classes and functions
NUMBER_KEYS = 20_000  # of dicts: unlike text, numbers can be chosen so that each collides with all others
VALUES = 1_000_000  # when what stands in several places is counted in each
PARTS_BYTES = 2**24  # of the archive's directory


class UnsafeFileError(ValueError):
    """A file that asks for more than data: it is not loaded."""


def allowed_names(path: Path) -> set[str]:
    """Check a file of torch.save, and give all classes and functions that its pickle names.

    Raises:
        UnsafeFileError: it names something that it may not, or is built to do harm.
        ValueError: it is no such file, or damaged.
    """
    try:
        with path.open("rb") as file:
            _check_directory(file, path)
        with zipfile.ZipFile(path) as archive:
            _check_archive(archive, path)
            pickles = [entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise ValueError(f"{path} has {len(pickles)} parts called data.pkl, but a file of torch.save has one")
            if pickles[0].file_size > PICKLE_BYTES:
                raise UnsafeFileError(
                    f"{path} has a pickle of {pickles[0].file_size:,} bytes, too many for a checkpoint"
                )
            stream = archive.read(pickles[0])
    except (zipfile.BadZipFile, EOFError, NotImplementedError, struct.error) as error:
        raise ValueError(
            f"{path} is no checkpoint of torch.save (1.6 or later), or is cut off: download it again ({error})"
        ) from error
    names = _Reader(path).names(stream)
    for name in sorted(names):
        if not (REBUILT.fullmatch(name) or INERT.fullmatch(name) or name == DEFAULTDICT):
            raise UnsafeFileError(
                f"{path} names {name[:200]}, which a data2vec checkpoint has no use for and which could run code: it "
                "is not loaded. If you trust where it comes from, save the tensors anew without it"
            )
    return names


# ---- the archive ----


def _check_directory(file: Any, path: Path) -> None:
    """Its size is a claim of the file's end, and is read into memory before its entries can be looked at."""
    file.seek(0, io.SEEK_END)
    length = file.tell()
    file.seek(max(0, length - 2**17))
    end = file.read()
    place = end.rfind(b"PK\5\6")
    if place < 0:
        return  # zipfile says that it is no archive
    (size,) = struct.unpack_from("<L", end, place + 12)
    if size == 0xFFFFFFFF and (large := end.rfind(b"PK\6\6")) >= 0:
        (size,) = struct.unpack_from("<Q", end, large + 40)
    if size > PARTS_BYTES:
        raise UnsafeFileError(f"{path} has a list of parts of {size:,} bytes, too long for a checkpoint")


def _check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    total, names, tops = 0, set(), set()
    for entry in archive.infolist():
        parts = entry.filename.split("/")
        if entry.filename.startswith("/") or ".." in parts or "\\" in entry.filename or ":" in parts[0]:
            raise UnsafeFileError(f"{path} has a part called {entry.filename!r}, which leads out of the archive")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UnsafeFileError(f"{path} has a part that is a link: {entry.filename!r}")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise UnsafeFileError(f"{path} has a compressed part, {entry.filename!r}; torch.save compresses nothing")
        if entry.flag_bits & 1:
            raise UnsafeFileError(f"{path} has an encrypted part, {entry.filename!r}; torch.save encrypts nothing")
        if entry.filename in names:
            raise UnsafeFileError(f"{path} has two parts called {entry.filename!r}")
        names.add(entry.filename)
        tops.add(parts[0])
        total += entry.file_size
    if total > path.stat().st_size:
        raise UnsafeFileError(f"{path} claims to hold {total:,} bytes, more than it has")
    if len(tops) > 1:
        raise UnsafeFileError(f"{path} holds more than one folder: {', '.join(sorted(tops))}")


# ---- the pickle ----


class _Reader:
    """Follows a pickle's instructions with sizes in place of values: 0 for text, 1 for other things, and for a tuple
    as much as it holds, in each place where it holds it. Names stand for classes and functions.

    A tuple is what a key's hash can take endlessly long for: `a = (x, x); b = (a, a); ...`.
    """

    def __init__(self, path: Path):
        self.path = path
        self.stack: list[int | str] = []
        self.marks: list[int] = []
        self.memo: dict[int, int | str] = {}
        self.values = self.calls = self.number_keys = 0

    def names(self, stream: bytes) -> set[str]:
        """All that the pickle names."""
        found: set[str] = set()
        try:
            for number, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(stream))):
                if opcode.name not in WRITTEN:
                    raise UnsafeFileError(
                        f"{self.path} is not loaded: it has the pickle instruction {opcode.name}, and checkpoints have "
                        "none such"
                    )
                self._follow(opcode.name, argument)
                if opcode.name == "GLOBAL":
                    found.add(str(self.stack[-1]))
                if number % 1000 == 0 or opcode.name == "STOP":
                    self._check(number, len(found))
            if self.marks or len(self.stack) != 1:
                raise ValueError("it ends with more or less than one value")
        except UnsafeFileError:
            raise
        except Exception as error:  # pickletools raises whatever a damaged stream leads to
            reason = str(error).split("\n")[0][:200] or type(error).__name__
            raise ValueError(f"{self.path} holds a damaged pickle ({reason})") from error
        return found

    def _check(self, instructions: int, names: int) -> None:
        for what, found, limit in (
            ("instructions", instructions, INSTRUCTIONS),
            ("names of classes", names, NAMES),
            ("values, when those in several places are counted in each,", self.values, 10 * VALUES),
            ("keys of dicts that are no text", self.number_keys, NUMBER_KEYS),
            ("objects of classes", self.calls, CALLS),
        ):
            if found > limit:
                raise UnsafeFileError(
                    f"{self.path} has more than {limit:,} {what} in its pickle, many more than a checkpoint: it is not "
                    "loaded"
                )

    def _follow(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name.endswith("BINPUT") or name == "MEMOIZE":
            self.memo[len(self.memo) if argument is None else argument] = stack[-1]
        elif name.endswith("BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "GLOBAL":
            module, _, attribute = str(argument).partition(" ")
            module, attribute = NAME_MAPPING.get((module, attribute), (IMPORT_MAPPING.get(module, module), attribute))
            stack.append(f"{module}.{attribute}")
        elif name in TAKEN:
            start = self.marks.pop() if TAKEN[name] is None else len(stack) - int(TAKEN[name] or 0)
            taken = stack[start:]
            if start < int(name in ADDING) or len(taken) < int(TAKEN[name] or 0):
                raise ValueError(f"{name} finds too little on the stack")
            del stack[start:]
            self._count(name, taken)
            if name not in ADDING:
                stack.append(1 + sum(_size(one) for one in taken))
        elif name not in ("PROTO", "FRAME", "STOP"):
            stack.append(0 if name in TEXT else 1)

    def _count(self, name: str, taken: list[int | str]) -> None:
        self.values += sum(map(_size, taken))
        if name.startswith("SETITEM"):
            self.number_keys += sum(1 for key in taken[::2] if _size(key))
        if name in ("REDUCE", "NEWOBJ", "BUILD"):
            self.calls += 1
        if taken[:1] == ["collections.OrderedDict"] and taken[1] != 1:
            raise UnsafeFileError(f"{self.path} is not loaded: it makes a dict of a list, which torch.save never does")


def _size(value: int | str) -> int:
    return value if isinstance(value, int) else 1


# ---- what was loaded ----


def check_extent(value: Any, what: str, children: Any) -> None:
    """Require that a value is finite and of a sensible size when all that it shares is written out in each place.

    Args:
        value: anything.
        what: beginning of the error.
        children: gives what a value holds, a sequence.

    Raises:
        UnsafeFileError: it isn't.
    """
    waiting, count = [value], 0
    while waiting:
        count += 1
        waiting += children(waiting.pop())
        if count + len(waiting) > VALUES:
            raise UnsafeFileError(
                f"{what} holds more than {VALUES:,} values, or objects inside each other without end: it is not loaded"
            )


def items_of(value: Any) -> list[Any]:
    """The contents of a plain container: keys and values, or items."""
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, list | tuple | set | frozenset) else []
