"""Tables say what stands in their files, and nothing else: cells are characters, and a damaged file is named."""

import bz2
import gzip
import json
import lzma

import datasets
import pyarrow as pa
import pytest

from modeling_data2vec.trainers.sources.table_rows import csv_rows, json_rows
from modeling_data2vec.trainers.sources.tables import read_csv, read_json, read_paragraphs, read_parquet

pytestmark = pytest.mark.usefixtures("datasets_cache")


@pytest.fixture(params=[False, True], ids=["indexed", "streamed"])
def streaming(request):
    return request.param


# ---- cells ----


def test_cells_are_the_characters_in_the_file(tmp_path, streaming):
    cells = ["007", "0", "1.50", "null", "NA", "nan", "", "True", "1e5", "2021-01-01", " a ", "ü"]
    for separator, suffix in ((",", "csv"), ("\t", "tsv")):
        path = tmp_path / f"cells.{suffix}"
        path.write_text("".join(f"{a}{separator}{b}\n" for a, b in [("id", "text"), *enumerate(cells)]))
        dataset = read_csv([path], streaming=streaming)
        assert [row["text"] for row in dataset] == [cell or None for cell in cells]
        assert [row["id"] for row in dataset] == [str(index) for index in range(len(cells))]


def test_numbers_are_read_where_they_are_asked_for(tmp_path, streaming):
    (tmp_path / "clips.csv").write_text("path,start,end\n1.wav,0.5,2\n2.wav,,1e1\n")
    rows = list(read_csv([tmp_path / "clips.csv"], numbers=("start", "end"), streaming=streaming))
    assert rows == [{"path": "1.wav", "start": 0.5, "end": 2.0}, {"path": "2.wav", "start": None, "end": 10.0}]
    (tmp_path / "clips.jsonl").write_text('{"path": "1.wav", "start": "0.5"}\n{"path": "2.wav", "start": 2}\n')
    rows = list(read_json([tmp_path / "clips.jsonl"], numbers=("start", "end"), streaming=streaming))
    assert rows == [{"path": "1.wav", "start": 0.5}, {"path": "2.wav", "start": 2.0}]


@pytest.mark.parametrize("cell", ["00:01", "1,5", "1_0", "nan", "two"])
def test_what_is_no_number_is_named(tmp_path, cell):
    (tmp_path / "clips.tsv").write_text(f"path\tstart\n0.wav\t1\n1.wav\t{cell}\n")
    with pytest.raises(ValueError, match=rf"clips.tsv, line 3: column 'start' holds '{cell}', but must hold a number"):
        read_csv([tmp_path / "clips.tsv"], numbers=("start",))


def test_quotes_of_a_tsv_are_characters(tmp_path, streaming):
    lines = ['"hello there', "good day", 'they said "yes"', '"quoted"', "'", "a, b"]
    (tmp_path / "clips.tsv").write_text("path\tsentence\n" + "".join(f"{i}.wav\t{s}\n" for i, s in enumerate(lines)))
    assert [row["sentence"] for row in read_csv([tmp_path / "clips.tsv"], streaming=streaming)] == lines


def test_quotes_of_a_csv_enclose_cells(tmp_path, streaming):
    (tmp_path / "a.csv").write_text('text,label\n"a, b",0\n"say ""yes""\nor no",1\n5" pipe,2\n')
    rows = list(read_csv([tmp_path / "a.csv"], streaming=streaming))
    assert [row["text"] for row in rows] == ["a, b", 'say "yes"\nor no', '5" pipe']


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbftext,label\na,1\nb,2\n",
        b"text,label\r\na,1\r\nb,2\r\n",
        b"text,label\ra,1\rb,2",
        b"text;label\na;1\nb;2\n",
        b"sep=|\r\ntext|label\r\na|1\r\nb|2\r\n",
        b"text,label\n\na,1\n\nb,2\n\n",
        b" text , label\na,1\nb,2\n",
        b'"text","label"\n"a","1"\n"b","2"\n',
    ],
    ids=["BOM", "CRLF", "CR", "semicolons", "sep=", "empty lines", "spaces in header", "all quoted"],
)
def test_csv_as_programs_write_it(tmp_path, content, streaming):
    (tmp_path / "a.csv").write_bytes(content)
    rows = list(read_csv([tmp_path / "a.csv"], streaming=streaming))
    assert rows == [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}]


def test_long_cells_and_columns_without_a_name(tmp_path):
    (tmp_path / "a.csv").write_text(f",text\n0,{'long ' * 40_000}\n")  # as pandas writes its index
    (row,) = read_csv([tmp_path / "a.csv"])
    assert row == {"Unnamed: 0": "0", "text": "long " * 40_000}


@pytest.mark.parametrize("suffix, compress", [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_compressed_tables(tmp_path, suffix, compress, streaming):
    (tmp_path / f"a.csv.{suffix}").write_bytes(compress(b"text\n007\n"))
    (tmp_path / f"a.jsonl.{suffix}").write_bytes(compress(b'{"text": "007"}\n'))
    assert list(read_csv([tmp_path / f"a.csv.{suffix}"], streaming=streaming)) == [{"text": "007"}]
    assert list(read_json([tmp_path / f"a.jsonl.{suffix}"], streaming=streaming)) == [{"text": "007"}]


def test_zstandard(tmp_path):
    with pa.CompressedOutputStream(str(tmp_path / "a.csv.zst"), "zstd") as file:
        file.write("text\nü\n".encode())
    assert list(read_csv([tmp_path / "a.csv.zst"])) == [{"text": "ü"}]


# ---- JSON ----


@pytest.mark.parametrize("form", ["lines", "list", "indented list"])
def test_json_of_every_form(tmp_path, form, streaming):
    rows = [
        {"text": "007", "n": 1, "tags": ["a"]},
        {"text": "null", "n": 2.5, "meta": {"k": 1}},
        {"text": "2021-01-01"},
    ]
    text = (
        "\n".join(map(json.dumps, rows)) if form == "lines" else json.dumps(rows, indent=form.startswith("in") or None)
    )
    (tmp_path / "a.json").write_text(text)
    found = list(read_json([tmp_path / "a.json"], streaming=streaming))
    assert [row["text"] for row in found] == ["007", "null", "2021-01-01"]  # a date stays text
    assert [row["n"] for row in found] == [1.0, 2.5, None]
    assert [row["tags"] for row in found] == [["a"], None, None]
    assert [row["meta"] for row in found] == [None, {"k": 1}, None]


def test_a_json_column_of_several_types_holds_text(tmp_path, streaming):
    """However late in the file the other type comes."""
    rows = [{"text": "a", "end": None}] * 2_500 + [{"text": 7, "end": 2}, {"text": ["b"], "end": 2.5}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(read_json([tmp_path / "a.jsonl"], streaming=streaming))
    assert [row["text"] for row in found[-3:]] == ["a", "7", '["b"]']
    assert [row["end"] for row in found[-3:]] == [None, 2.0, 2.5]


# ---- damaged files ----


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.csv", b"text,label\ngood,1\nbad,0,3\n", r"a.csv, line 3, has 3 cells, but the first line names 2 columns"),
        ("a.csv", b"text,label\ngood\n", r"a.csv, line 2, has 1 cell, but the first line names 2 columns"),
        ("a.tsv", b"text\tlabel\na\t1\nb\t2\t3\n", r"a.tsv, line 3, has 3 cells"),
        ("a.csv", b'text,label\na,1\n"open,2\nb,3\n', r"a.csv, line 3, has a quote that is not closed"),
        ("a.csv", b'text,label\n"open,2\nsay "yes",3\n', r"a.csv, line 2, has a quote that is not closed"),
        ("a.csv", "text,label\na,1\ncafé,2\n".encode("latin-1"), r"a.csv is not text in UTF-8 \(line 3, .*\): convert"),
        ("a.tsv", "text\tlabel\na\t1\n".encode("utf-16"), r"a.tsv is text in UTF-16: save it as UTF-8"),
        ("a.csv", "text,label\na,1\n".encode("utf-16-le"), r"a.csv, line 1, holds a NUL byte"),
        ("a.csv", b"text,label\na,1\nb\0,2\n", r"a.csv, line 3, holds a NUL byte"),
        ("a.csv", b"text,text\na,1\n", r"a.csv has several columns of the name 'text'"),
        ("a.csv", b"text\tlabel\na\t1\n", r"one column, 'text\\tlabel'.*separated by tabs, but must be by commas"),
        ("a.csv", b"id|text\n1|a\n", r"one column, 'id|text'.*separated by vertical bars"),
        ("a.tsv", b"text,label\na,1\n", r"one column, 'text,label'.*separated by commas, but must be by tabs"),
        ("a.csv.gz", gzip.compress(b"text,label\n" * 99, mtime=0)[:-20], r"a.csv.gz can't be decompressed .*cut short"),
        ("a.csv.gz", b"text,label\na,1\n", r"a.csv.gz can't be decompressed"),
        ("a.csv.xz", lzma.compress(b"text,label\na,1\n")[:-9], r"a.csv.xz can't be decompressed"),
    ],
)
def test_damaged_csv(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_csv([tmp_path / name])
    with pytest.raises(ValueError, match=message):
        list(read_csv([tmp_path / name], streaming=True))


@pytest.mark.parametrize(
    "content, message",
    [
        (b'{"text": "a"}\n{"text": "b"\n', r"a.json, line 2, is not a JSON object \(.*\): write a row as one object"),
        (b'{"text": "a"}\n\n7\n', r'a.json, line 3, is 7, but must be an object: {"text": ...}'),
        (b'{\n  "text": ["a"]\n}\n', r"a.json, line 1, is not a JSON object .*or all rows as one list of objects"),
        (b'[{"text": "a"}, 7]', r"a.json: entry 2 of its list is 7, but must be an object"),
        (b'[{"text": "a"},\n', r"a.json, line 2, is not JSON"),
        ('{"text": "é"}\n'.encode("latin-1"), r"a.json is not text in UTF-8"),
    ],
)
def test_damaged_json(tmp_path, content, message, streaming):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json([tmp_path / "a.json"], streaming=streaming)


def test_parquet_files_without_rows(tmp_path, streaming):
    """`datasets` says "BatchSize must be greater than 0" of an empty shard."""
    rows = {"image": [b"a", b"b"], "label": [0, 1]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "1.parquet")
    datasets.Dataset.from_dict(rows).select([]).to_parquet(tmp_path / "0.parquet")
    files = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    assert [row["label"] for row in read_parquet(files, with_folder=True, streaming=streaming)] == [0, 1]
    assert not list(read_parquet(files[:1], with_folder=True, streaming=streaming))


@pytest.mark.parametrize("left", [0, 3, -9])
def test_damaged_parquet(tmp_path, left, streaming):
    datasets.Dataset.from_dict({"text": ["a", "b"]}).to_parquet(tmp_path / "whole.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:left])
    with pytest.raises(ValueError, match=r"a.parquet is no whole parquet file \(.*\): get it again"):
        read_parquet([tmp_path / "a.parquet"], streaming=streaming)


def test_tables_with_different_columns_are_an_error(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,1\n")
    (tmp_path / "b.csv").write_text("label,text\n2,b\n")
    assert list(read_csv([tmp_path / "a.csv", tmp_path / "b.csv"]))[1] == {"text": "b", "label": "2"}
    (tmp_path / "c.csv").write_text("text,class\na,1\n")
    with pytest.raises(ValueError, match=r"a.csv has the columns text, label, but .*c.csv has text, class: name one"):
        read_csv([tmp_path / "a.csv", tmp_path / "c.csv"])


# ---- paths and cache ----


@pytest.mark.parametrize("name", ["a [1]", "b*", "c?", "d::e", "file:", "{f}", "~", "100%", " ü"])
def test_a_path_is_a_path(tmp_path, name, streaming):
    folder = tmp_path / name
    folder.mkdir()
    other = tmp_path / "b-private"
    other.mkdir()
    for place, text in ((folder, "mine"), (other, "not mine")):
        (place / f"{name}.csv").write_text(f"text\n{text}\n")
        (place / f"{name}.jsonl").write_text(f'{{"text": "{text}"}}\n')
        (place / f"{name}.txt").write_text(text)
        datasets.Dataset.from_dict({"text": [text]}).to_parquet(tmp_path / "plain.parquet")
        (tmp_path / "plain.parquet").rename(place / f"{name}.parquet")
    for read, suffix in ((read_csv, "csv"), (read_json, "jsonl"), (read_paragraphs, "txt"), (read_parquet, "parquet")):
        assert [row["text"] for row in read([folder / f"{name}.{suffix}"], streaming=streaming)] == ["mine"]


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "a.csv"
    for text in ("one", "three", "seven"):
        path.write_text(f"text\n{text}\n")
        assert read_csv([path])["text"] == [text]


def test_rows_know_their_lines(tmp_path):
    (tmp_path / "a.csv").write_text('text\n"one\ntwo"\n\nthree\n')
    assert [line for line, _ in csv_rows(tmp_path / "a.csv")] == [2, 5]
    (tmp_path / "a.jsonl").write_text('\n{"a": 1}\n\n{"a": 2}\n')
    assert [line for line, _ in json_rows(tmp_path / "a.jsonl")] == [2, 4]
