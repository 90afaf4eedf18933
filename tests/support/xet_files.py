"""What a Xet client has written to a folder: the hash that names each file, by the file's SHA-256.

Clients write chunks into "xorbs" and say in "shards" which chunks make up which file. Of a shard only the list of files
is read here: a header, then for each file its hash, its segments, their verification and its SHA-256. The form is not
documented; hf_xet 1.8 writes it so.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

VERSION = "1.8.0"  # of hf_xet
HEADER, RECORD = 48, 48  # bytes
END = b"\xff" * 32
WITH_VERIFICATION, WITH_METADATA = 1 << 31, 1 << 30


def xet_hashes(folder: str | Path) -> dict[str, tuple[str, int]]:
    """SHA-256 to (Xet hash, size in bytes) of all files in a folder's shards."""
    found = {}
    for path in Path(folder).rglob("*.mdb"):
        found |= {sha256: (name, size) for name, size, sha256 in _files(path.read_bytes())}
    return found


def _hexadecimal(digest: bytes) -> str:
    """Four little-endian numbers of 64 bits, as the clients write a hash."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))


def _files(shard: bytes) -> Iterator[tuple[str, int, str]]:
    position = HEADER
    while shard[position : position + 32] != END:
        name = shard[position : position + 32]
        flags, segments = struct.unpack_from("<II", shard, position + 32)
        position += RECORD
        size = 0
        for _ in range(segments):
            size += struct.unpack_from("<I", shard, position + 36)[0]
            position += RECORD
        if flags & WITH_VERIFICATION:
            position += segments * RECORD
        if flags & WITH_METADATA:
            yield _hexadecimal(name), size, _hexadecimal(shard[position : position + 32])
            position += RECORD
