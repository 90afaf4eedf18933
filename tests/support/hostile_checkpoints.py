"""Checkpoints that are built to do harm or are damaged: pickles, tensors and archives in .pt files."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

CHECKPOINT = Path(__file__).parents[1] / "reference" / "checkpoints" / "v2_image.cfg_dictconfig.pt"
SMALL = {"cfg": {"model": {"_name": "data2vec_audio"}}, "model": OrderedDict(weight=torch.arange(6.0).view(2, 3))}

Maker = Callable[[Path], list[str]]
MAKERS: dict[str, Maker] = {}


def hostile(function: Any) -> Any:
    """Register a maker: it writes files into a folder and gives the command that reads them."""
    MAKERS[function.__name__] = function
    return function


# ---- pickles in .pt files ----


def convert(folder: Path) -> list[str]:
    return ["convert", str(folder / "bad.pt"), str(folder / "out"), "--license", "mit"]


def with_parts(path: Path, change: Callable[[str, bytes], bytes], source: Any = None) -> None:
    """The archive of torch.save, each part passed through `change`."""
    whole = io.BytesIO()
    torch.save(SMALL if source is None else source, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            new.writestr(info, change(info.filename, old.read(info)))


def pickled(name: str, stream: Callable[[], bytes]) -> None:
    def make(folder: Path) -> list[str]:
        data = stream()
        with_parts(folder / "bad.pt", lambda part, old: data if part.endswith("data.pkl") else old)
        return convert(folder)

    MAKERS[f"pickle: {name}"] = make


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def call(module: str, name: str, argument: str = "touch attacked") -> bytes:
    return f"c{module}\n{name}\n".encode() + text(argument) + b"\x85R"


def number(value: int) -> bytes:
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


PRIME = 2**61 - 1  # to which Python reduces numbers for their hash
BEGIN, END = b"\x80\x02", b"."
PICKLES = {
    "lists that hold each other twice": lambda: BEGIN + b"]" + b"".join(b"2\x86" for _ in range(40)) + END,
    "shared lists": lambda: BEGIN + b"]q\0" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(40)) + END,
    "shared tuples as a key": lambda: (
        BEGIN + b"}K\1q\0" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(40)) + b"Ns" + END
    ),
    "shared tuples as a key, doubled": lambda: BEGIN + b"}K\1" + b"2\x86" * 60 + b"Ns" + END,
    "a tuple in a tuple, deep, as a key": lambda: BEGIN + b"})" + b"\x85" * 1_000_000 + b"Ns" + END,
    "a list in a list, deep": lambda: BEGIN + b"]" * 500_000 + b"a" * 499_999 + END,
    "tuples in each other, deep": lambda: BEGIN + b"}" + text("cfg") + b")" + b"\x85" * 4_000 + b"s" + END,
    "a dict in itself": lambda: BEGIN + b"}q\0" + text("cfg") + b"h\0s" + END,
    "keys that collide": lambda: (
        BEGIN + b"}(" + b"".join(number(i * PRIME) + b"N" for i in range(300_000)) + b"u" + END
    ),
    "pairs as keys": lambda: (
        BEGIN + b"}(" + b"".join(number(i * PRIME) + b"K\1\x86N" for i in range(200_000)) + b"u" + END
    ),
    "a dict of a list": lambda: BEGIN + b"ccollections\nOrderedDict\n](" + b"(K\1K\2lK\3K\4e\x85R" + END,
    "an ordered dict of pairs": lambda: BEGIN + b"ccollections\nOrderedDict\n](K\1K\2\x86e\x85R" + END,
    "text of 2**63 bytes": lambda: BEGIN + b"\x8d" + struct.pack("<Q", 2**63 - 1) + b"a" + END,
    "text of 4 GB": lambda: BEGIN + b"X" + struct.pack("<I", 2**32 - 1) + b"a" + END,
    "a number of 2 GB": lambda: BEGIN + b"\x8b" + struct.pack("<i", 2**31 - 1) + b"a" + END,
    "a number of 10 MB": lambda: BEGIN + b"\x8b" + struct.pack("<i", 10**7) + b"a" * 10**7 + END,
    "a number of a million digits": lambda: BEGIN + b"L" + b"9" * 10**6 + b"L\n" + END,
    "a far place in the memo": lambda: BEGIN + b"]r" + struct.pack("<I", 2**32 - 1) + END,
    "a memo in decimals": lambda: BEGIN + b"]p" + b"9" * 5000 + b"\n" + END,
    "bytes of 2**62": lambda: BEGIN + b"\x8e" + struct.pack("<Q", 2**62) + END,
    "a bytearray": lambda: BEGIN + b"\x96" + struct.pack("<Q", 2**40) + END,
    "3 million values": lambda: BEGIN + b"(" + b"N" * 3_000_000 + b"t" + END,
    "a million marks": lambda: BEGIN + b"(" * 1_000_000 + END,
    "300,000 objects": lambda: BEGIN + b"]" + b"ccollections\nOrderedDict\n)Ra" * 300_000 + END,
    "10,000 names": lambda: BEGIN + b"".join(b"comegaconf.x%d\ny\n0" % i for i in range(10_000)) + b"N" + END,
    "10,000 allowed names": lambda: (
        BEGIN + b"](" + b"".join(b"comegaconf.x%d\ny\n" % i for i in range(10_000)) + b"e" + END
    ),
    "a frame of 2**62": lambda: b"\x80\4\x95" + struct.pack("<Q", 2**62) + b"N" + END,
    "os.system": lambda: BEGIN + call("os", "system") + END,
    "posix.system": lambda: BEGIN + call("posix", "system") + END,
    "eval": lambda: BEGIN + call("builtins", "eval", "__import__('os').system('touch attacked')") + END,
    "exec of Python 2": lambda: BEGIN + call("__builtin__", "execfile") + END,
    "subprocess": lambda: BEGIN + call("subprocess", "check_output") + END,
    "torch.load": lambda: BEGIN + call("torch", "load") + END,
    "torch.hub": lambda: BEGIN + call("torch.hub", "load") + END,
    "a storage from bytes": lambda: BEGIN + call("torch.storage", "_load_from_bytes") + END,
    "partial": lambda: BEGIN + call("functools", "partial") + END,
    "getattr": lambda: BEGIN + call("builtins", "getattr") + END,
    "a dotted name": lambda: BEGIN + call("torch._utils", "_import_dotted_name") + END,
    "by STACK_GLOBAL": lambda: pickle.dumps(os.system, 4),
    "by INST": lambda: BEGIN + b"(S'touch attacked'\nios\nsystem\n" + END,
    "by OBJ": lambda: BEGIN + b"(cos\nsystem\n" + text("touch attacked") + b"o" + END,
    "by NEWOBJ_EX": lambda: BEGIN + b"cos\nsystem\n)}\x92" + END,
    "by EXT4": lambda: BEGIN + b"\x84\1\0\0\0" + END,
    "by PERSID": lambda: BEGIN + b"Pcos\nsystem\n" + END,
    "state on a class": lambda: (
        BEGIN + b"comegaconf\nx\n)\x81}" + text("__class__") + call("os", "system") + b"sb" + END
    ),
    "an object that is no checkpoint": lambda: BEGIN + call("omegaconf", "x") + END,
    "nothing": lambda: b"",
    "noise": lambda: Random(0).randbytes(1000),
}
for _name, _stream in PICKLES.items():
    pickled(_name, _stream)


# ---- tensors and archives ----


def saved(name: str, content: Callable[[], Any]) -> None:
    def make(folder: Path) -> list[str]:
        torch.save(content(), folder / "bad.pt")
        return convert(folder)

    MAKERS[f"content: {name}"] = make


def checkpoint(**changes: Any) -> dict[str, Any]:
    """A file of the authors' code, with other options of the model."""
    content = torch.load(CHECKPOINT.with_name("v2_image.pt"), weights_only=True)
    model = dict(content["cfg"]["model"])
    for name, value in changes.items():
        place = model["modalities"]["image"] if name in model["modalities"]["image"] else model
        place[name] = value
    return content | {"cfg": dict(content["cfg"], model=model)}


def not_numbers(weights: dict[str, Any]) -> dict[str, Any]:
    return {name: value * float("nan") if torch.is_tensor(value) else value for name, value in weights.items()}


for _name, _content in {
    "a stretched view": lambda: {"cfg": SMALL["cfg"], "model": {"w": torch.zeros(1).expand(1 << 40)}},
    "one weight 500 times": lambda: {
        "cfg": SMALL["cfg"],
        "model": {str(i): torch.zeros(1000).expand(100, 1000) for i in range(500)},
    },
    "a list": lambda: [1, 2],
    "a tensor": lambda: torch.zeros(3),
    "weights that are text": lambda: SMALL | {"model": {"weight": "text"}},
    "no weights": lambda: SMALL | {"model": {}},
    "no config": lambda: {"model": SMALL["model"]},
    "a config that refers to itself": lambda: SMALL | {"cfg": {"model": {"_name": "${model._name}"}}},
    "a config that refers to all of it, often": lambda: (
        SMALL | {"cfg": {"model": {str(i): "${a}" for i in range(20_000)}, "a": list(range(20_000))}}
    ),
    "a billion layers": lambda: checkpoint(depth=10**9),
    "layers as text": lambda: checkpoint(depth="many"),
    "a width of a billion": lambda: checkpoint(embed_dim=10**9),
    "a negative width": lambda: checkpoint(embed_dim=-16),
    "no options": lambda: checkpoint(modalities=None),
    "a list for options": lambda: SMALL | {"cfg": {"model": {"_name": ["data2vec_multi"]}}},
    "weights of NaN": lambda: checkpoint() | {"model": not_numbers(checkpoint()["model"])},
}.items():
    saved(_name, _content)


def rebuilt(name: str, size: int, stride: int, offset: int, numel: int, key: str = "0") -> None:
    """A tensor whose shape and storage are claims."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(numel) + b"tQ"
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + number(size) + b"\x85" + number(stride)
    )
    tensor += b"\x85\x89ccollections\nOrderedDict\n)RtR"
    pickled(name, lambda: BEGIN + b"}(" + text("model") + b"}" + text("w") + tensor + b"su" + END)


rebuilt("a tensor larger than its storage", 10**9, 1, 0, 6)
rebuilt("a tensor of 2**62 numbers", 2**62, 0, 0, 6)
rebuilt("strides beyond the storage", 3, 2**40, 0, 6)
rebuilt("an offset below zero", 3, 1, -5, 6)
rebuilt("a storage of 2**40 numbers", 6, 1, 0, 2**40)
rebuilt("a storage that is not there", 6, 1, 0, 6, "../../etc/passwd")


@hostile
def archive_compressed(folder: Path) -> list[str]:
    whole = io.BytesIO()
    torch.save({"zeros": torch.zeros(1 << 24)}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(folder / "bad.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    return convert(folder)


@hostile
def archive_of_many_parts(folder: Path) -> list[str]:
    with zipfile.ZipFile(folder / "bad.pt", "w") as new:
        for part in range(60_000):
            new.writestr(f"archive/{part:0300}", b"")
    with (folder / "bad.pt").open("ab"):
        return convert(folder)


@hostile
def archive_cut_off(folder: Path) -> list[str]:
    data = CHECKPOINT.read_bytes()
    (folder / "bad.pt").write_bytes(data[: len(data) // 2])
    return convert(folder)


@hostile
def archive_empty(folder: Path) -> list[str]:
    (folder / "bad.pt").write_bytes(b"")
    return convert(folder)


def mutated(seed: int) -> Maker:
    """A real file with bytes of its pickle changed, so that it means something else, or nothing."""

    def make(folder: Path) -> list[str]:
        random = Random(seed)

        def change(part: str, data: bytes) -> bytes:
            if not part.endswith("data.pkl"):
                return data
            changed = bytearray(data)
            for _ in range(1 + seed % 20):
                changed[random.randrange(len(changed))] = random.randrange(256)
            return bytes(changed)

        with zipfile.ZipFile(CHECKPOINT) as old, zipfile.ZipFile(folder / "bad.pt", "w") as new:
            for info in old.infolist():
                new.writestr(info, change(info.filename, old.read(info)))
        return convert(folder)

    return make


MUTATED = {f"mutated: {seed}": mutated(seed) for seed in range(30)}
