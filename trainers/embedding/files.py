"""The file of a long extraction: written part by part, complete or not there, and gone on with after a kill.

Parts are small parquet files in a folder beside the output, `features.parquet.parts`, which goes when all are joined.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..files.output_checks import check_output_file
from ..files.writing import new_file, write_text
from .embed import Embeddings

SETTINGS = "settings.json"


class PartFiles:
    """The parts of an output file that are there so far.

    Args:
        output: the file to be, `.parquet` or `.npy`.

    Raises:
        ValueError: it is there already, or can't be written.
    """

    def __init__(self, output: str | Path) -> None:
        self.output = Path(output)
        self.folder = self.output.with_name(f"{self.output.name}.parts")
        check_output_file(self.output, "--output")
        for path in (self.output, *self._sidecar()):
            if path.exists():
                raise ValueError(f"{path} is there already: choose another --output, or remove it")

    def go_on(self, settings: dict[str, Any]) -> int:
        """The number of parts that an earlier, killed extraction has finished; 0 for a new one.

        Args:
            settings: everything that the vectors depend on; parts of others can't be gone on with.

        Raises:
            ValueError: parts are there, but of other settings.
        """
        path = self.folder / SETTINGS
        if not path.exists():
            self.remove()
            write_text(path, json.dumps(settings, indent=2))
            return 0
        before = json.loads(path.read_text(encoding="utf-8"))
        different = [name for name in settings if settings[name] != before.get(name)]
        if different:
            name = different[0]
            raise ValueError(
                f"{self.folder} holds parts of an extraction that was not finished, but with {name} "
                f"{before.get(name)!r} instead of {settings[name]!r}: repeat its options to go on, or remove the folder"
            )
        return len(self._parts())

    @contextmanager
    def nothing_without_parts(self) -> Iterator[None]:
        """Leave nothing behind of a call that fails before its first part is finished."""
        try:
            yield
        except Exception:
            if not self._parts():
                self.remove()
            raise

    def write(self, number: int, part: Embeddings) -> None:
        """Write the next part."""
        columns = {
            "row": pa.array(part.rows, pa.int64()),
            "id": pa.array(part.ids, pa.string()),
            "features": pa.array(list(part.vectors), pa.list_(pa.float32())),
        }
        table = pa.table(columns).replace_schema_metadata({"left_out": json.dumps(part.left_out)})
        with new_file(self.folder / f"{number:08}.parquet") as unfinished:
            pq.write_table(table, unfinished)

    def left_out(self) -> dict[str, str]:
        """Why samples without a vector have none, by their names."""
        found: dict[str, str] = {}
        for path in self._parts():
            found |= json.loads(pq.read_schema(path).metadata[b"left_out"])
        return found

    def join(self, facts: dict[str, Any]) -> tuple[int, int]:
        """Make the output of all parts, one after the other in memory, and remove them.

        Args:
            facts: go into the file's metadata (parquet) or beside the names of the rows (npy).

        Returns:
            (vectors N, numbers in each D); (0, 0), and no output, if there is no vector.
        """
        counts = [pq.read_metadata(path).num_rows for path in self._parts()]
        if not sum(counts):
            return 0, 0
        length = next(part["features"][0].as_py() for part in self._tables() if len(part))
        shape = sum(counts), len(length)
        if self.output.suffix == ".npy":
            self._write_npy(shape, facts)
        else:
            self._write_parquet(shape[1], facts)
        self.remove()
        return shape

    def remove(self) -> None:
        """Remove the parts. The settings go first: without them, nobody goes on from what a kill leaves."""
        (self.folder / SETTINGS).unlink(missing_ok=True)
        for path in self._parts():
            path.unlink()

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.parquet"))

    def _tables(self) -> Iterator[pa.Table]:
        return map(pq.read_table, self._parts())

    def _sidecar(self) -> list[Path]:
        return [self.output.with_suffix(".json")] if self.output.suffix == ".npy" else []

    def _write_parquet(self, length: int, facts: dict[str, Any]) -> None:
        kinds = {"row": pa.int64(), "id": pa.string(), "features": pa.list_(pa.float32(), length)}
        schema = pa.schema(kinds, metadata={"data2vec": json.dumps(facts)})
        with new_file(self.output) as unfinished, pq.ParquetWriter(unfinished, schema) as writer:
            for table in self._tables():
                writer.write_table(table.cast(schema))

    def _write_npy(self, shape: tuple[int, int], facts: dict[str, Any]) -> None:
        (sidecar,) = self._sidecar()
        with new_file(self.output) as vectors, new_file(sidecar) as names, names.open("w", encoding="utf-8") as text:
            array = np.lib.format.open_memmap(vectors, mode="w+", dtype=np.float32, shape=shape)
            text.write(json.dumps(facts, ensure_ascii=False)[:-1] + ', "ids": [')
            first = 0
            for table in self._tables():
                values = table["features"].combine_chunks().flatten().to_numpy()
                array[first : first + len(table)] = values.reshape(len(table), -1)
                entries = [json.dumps(name, ensure_ascii=False) for name in table["id"].to_pylist()]
                text.write(("," if first and entries else "") + "\n" + ",\n".join(entries))
                first += len(table)
            text.write("]}\n")
            array.flush()
