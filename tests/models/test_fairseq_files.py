"""fairseq/files.py: data is read, and nothing else happens, whatever a file holds."""

import argparse
import os
import pickle
import stat
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import pytest
import torch

from modeling_data2vec.fairseq.files import UnsafeFileError, read_checkpoint, resolved, write_checkpoint

GOOD = {"cfg": {"model": {"_name": "data2vec_audio"}}, "model": OrderedDict(weight=torch.arange(6.0).view(2, 3))}


class Calls:
    """What pickles as a call of any function, which happens when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def marker(tmp_path) -> Path:
    """A file that an attack would make."""
    return tmp_path / "attacked"


def saved(folder: Path, content, **options) -> Path:
    path = folder / "checkpoint.pt"
    torch.save(content, path, **options)
    return path


def rewritten(path: Path, change) -> Path:
    """The archive with each part passed through `change(info, data)`, which returns both anew, or None to drop it."""
    with zipfile.ZipFile(path) as archive:
        parts = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in parts:
            if (changed := change(info, data)) is not None:
                archive.writestr(*changed)
    return path


def with_pickle(folder: Path, stream: bytes) -> Path:
    """A well-formed archive with another pickle in it."""
    return rewritten(
        saved(folder, GOOD), lambda info, data: (info, stream if info.filename.endswith("/data.pkl") else data)
    )


# ---- what can be read ----


def test_tensors_and_containers_come_back(tmp_path):
    content = read_checkpoint(saved(tmp_path, GOOD))
    assert content["cfg"] == GOOD["cfg"]
    assert torch.equal(content["model"]["weight"], GOOD["model"]["weight"])


def test_namespaces_and_other_containers_become_plain(tmp_path):
    content = read_checkpoint(
        saved(tmp_path, GOOD | {"args": argparse.Namespace(arch="a", nested=defaultdict(int, n=1))})
    )
    assert content["args"] == {"arch": "a", "nested": {"n": 1}}


def test_written_files_are_read(tmp_path):
    path = tmp_path / "new" / "file.pt"
    write_checkpoint(path, GOOD)
    assert torch.equal(read_checkpoint(path)["model"]["weight"], GOOD["model"]["weight"])
    assert [one.name for one in path.parent.iterdir()] == ["file.pt"]


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(AttributeError):
        write_checkpoint(tmp_path / "file.pt", {"function": lambda: None})
    assert not list(tmp_path.iterdir())


def test_references_are_followed():
    assert resolved({"a": ["${b.c}", 1], "b": {"c": "${d}"}, "d": 2}) == {"a": [2, 1], "b": {"c": 2}, "d": 2}
    with pytest.raises(ValueError, match="'b.c'"):
        resolved({"a": "${b.c}"})
    with pytest.raises(ValueError, match="itself"):
        resolved({"a": "${b}", "b": "${a}"})


# ---- attacks ----


@pytest.mark.parametrize("place", ["cfg", "model", "task_state", "deep", "key"])
def test_a_call_is_refused_by_name_wherever_it_stands(tmp_path, marker, place):
    evil = Calls(os.system, f"touch {marker}")
    content = dict(GOOD)
    if place == "deep":
        content["optimizer_history"] = [{"a": [({"b": (evil,)},)]}]
    elif place == "key":
        content["extra"] = OrderedDict([(Calls(eval, f"open({str(marker)!r}, 'w')"), 1)])
    elif place == "model":
        content["model"] = OrderedDict(weight=evil)
    else:
        content[place] = evil
    with pytest.raises(UnsafeFileError, match="posix.system|builtins.eval"):
        read_checkpoint(saved(tmp_path, content))
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "os system",
            "subprocess Popen",
            "builtins exec",
            "__builtin__ eval",
            "builtins getattr",
            "builtins __import__",
        ),
        *("torch load", "torch._utils _import_dotted_name", "torch.storage _load_from_bytes", "torch.hub load"),
        *("importlib import_module", "functools partial", "operator attrgetter", "types CodeType", "pickle loads"),
        *(
            "numpy.testing.rundocs main",
            "collections OrderedDict.__init__.__globals__",
            "runpy run_path",
            "sys modules",
        ),
        *("webbrowser open", "pydoc pipepager", "asyncio.unix_events _UnixSubprocessTransport", "shutil rmtree"),
    ],
)
def test_names_that_are_not_of_checkpoints_are_refused(tmp_path, name):
    module, attribute = name.split()
    stream = b"\x80\x02c" + module.encode() + b"\n" + attribute.encode() + b"\n)R."
    with pytest.raises(UnsafeFileError, match=f"{attribute.split('.')[0]}.*not loaded"):
        read_checkpoint(with_pickle(tmp_path, stream))


@pytest.mark.parametrize("name", ["fairseq.data.dictionary os.system", "omegaconf.os system", "examples.x eval"])
def test_allowed_names_are_never_imported(tmp_path, marker, name):
    """A name under an allowed package is a placeholder, even where it would lead to something else."""
    module, attribute = name.split()
    command = f"touch {marker}".encode()
    call = b"c" + module.encode() + b"\n" + attribute.encode() + b"\n(X" + len(command).to_bytes(4, "little") + command
    stream = b"\x80\x02}X\x01\x00\x00\x00a" + call + b"tRs."
    assert read_checkpoint(with_pickle(tmp_path, stream)) == {"a": command.decode()}
    assert not marker.exists()


def test_other_ways_to_import_are_refused(tmp_path, marker):
    with pytest.raises(UnsafeFileError, match="STACK_GLOBAL"):
        read_checkpoint(saved(tmp_path, GOOD | {"x": Calls(os.system, f"touch {marker}")}, pickle_protocol=4))
    for instruction in (b"\x80\x02(S'touch'\nios\nsystem\n.", b"\x80\x02\x82\x01."):
        with pytest.raises(UnsafeFileError, match="INST|EXT1"):
            read_checkpoint(with_pickle(tmp_path, instruction))
    assert not marker.exists()


def test_state_that_is_set_on_a_placeholder_does_nothing(tmp_path, marker):
    namespace = argparse.Namespace(__setstate__="x", __class__=argparse.Namespace, state="x")
    assert read_checkpoint(saved(tmp_path, GOOD | {"args": namespace}))["args"]["state"] == "x"


def test_a_compressed_part_is_refused(tmp_path):
    def compress(info, data):
        info.compress_type = zipfile.ZIP_DEFLATED
        return info, data

    with pytest.raises(UnsafeFileError, match="compressed"):
        read_checkpoint(rewritten(saved(tmp_path, {"zeros": torch.zeros(1 << 20)}), compress))


def test_overlapping_parts_are_refused(tmp_path):
    """A bomb without compression: many entries of the directory lead to the same bytes."""
    path = saved(tmp_path, {"zeros": torch.zeros(1 << 12)})
    archive = zipfile.ZipFile(path, "a")
    large = max(archive.infolist(), key=lambda info: info.file_size)
    for number in range(50):
        info = zipfile.ZipInfo(large.filename + str(number))
        info.header_offset, info.file_size, info.compress_size, info.CRC = (
            large.header_offset,
            large.file_size,
            large.compress_size,
            large.CRC,
        )
        archive.filelist.append(info)
    archive._didModify = True  # type: ignore[attr-defined]
    archive.close()
    with pytest.raises(UnsafeFileError, match="more than it has"):
        read_checkpoint(path)


@pytest.mark.parametrize("shape", ["stretched", "repeated"])
def test_weights_larger_than_the_file_are_refused(tmp_path, shape):
    one = torch.zeros(1000)
    weights = (
        {"w": one[:1].expand(1 << 40)} if shape == "stretched" else {str(i): one.view(10, 100) for i in range(500)}
    )
    with pytest.raises(UnsafeFileError, match="more than the file has"):
        read_checkpoint(saved(tmp_path, {"model": OrderedDict(weights)}))


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "archive/../../evil", "C:/evil", "archive\\..\\evil"])
def test_parts_that_lead_out_of_the_archive_are_refused(tmp_path, name):
    path = saved(tmp_path, GOOD)
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = name
        archive.writestr(info, b"evil")
    with pytest.raises(UnsafeFileError, match="leads out of the archive"):
        read_checkpoint(path)


def test_links_twins_and_second_folders_are_refused(tmp_path):
    path = saved(tmp_path, GOOD)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("checkpoint/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, b"/etc/passwd")
    with pytest.raises(UnsafeFileError, match="link"):
        read_checkpoint(path)
    path = saved(tmp_path, GOOD)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("checkpoint/data.pkl", pickle.dumps({}, 2))
    with pytest.raises(UnsafeFileError, match="two parts"):
        read_checkpoint(path)
    path = saved(tmp_path, GOOD)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", pickle.dumps({}, 2))
    with pytest.raises(UnsafeFileError, match="more than one folder"):
        read_checkpoint(path)


def test_endless_content_is_refused(tmp_path):
    endless: dict = {"model": {}}
    endless["cfg"] = endless
    with pytest.raises(UnsafeFileError, match="without end"):
        read_checkpoint(saved(tmp_path, endless))


# ---- damage ----


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_off_says_so(tmp_path, share):
    path = saved(tmp_path, GOOD | {"more": torch.zeros(1000)})
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="cut off|complete"):
        read_checkpoint(path)


@pytest.mark.parametrize("stream", [b"", b"\x80\x02", b"\x80\x02}q\x00X\xff", b"garbage", b"\x80\x02h\x05."])
def test_a_damaged_pickle_says_so(tmp_path, stream):
    with pytest.raises(ValueError, match="damaged pickle|can't be read|not loaded"):
        read_checkpoint(with_pickle(tmp_path, stream))


def test_other_files_and_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        read_checkpoint(tmp_path / "missing.pt")
    (tmp_path / "text.pt").write_text("no archive")
    with pytest.raises(ValueError, match="no checkpoint of torch.save"):
        read_checkpoint(tmp_path / "text.pt")
    with pytest.raises(ValueError, match="holds a list"):
        read_checkpoint(saved(tmp_path, [1]))
    with zipfile.ZipFile(tmp_path / "empty.pt", "w") as archive:
        archive.writestr("archive/readme", b"")
    with pytest.raises(ValueError, match="0 parts called data.pkl"):
        read_checkpoint(tmp_path / "empty.pt")
