"""Cells of a table that hold a file: paths and bytes of every form, for pictures and for sound alike."""

import base64
import io
import json

import datasets
import numpy as np
import pytest
from example_images import photo
from recordings import voice, write

from modeling_data2vec.trainers.data.samples import UnreadableError
from modeling_data2vec.trainers.media.audio_decoding import decode_audio
from modeling_data2vec.trainers.media.image_transform import decode_image
from modeling_data2vec.trainers.modalities.image import load_images
from modeling_data2vec.trainers.modalities.speech import load_audio

pytestmark = pytest.mark.usefixtures("datasets_cache")


def png() -> bytes:
    file = io.BytesIO()
    photo().save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def wav(tmp_path) -> bytes:
    return write(tmp_path / "clip.wav", voice(0.5)).read_bytes()


FORMS = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "list": list,
    "uint8": lambda data: np.frombuffer(data, np.uint8),
    "dict": lambda data: {"bytes": data, "path": None},
    "dict without a path": lambda data: {"bytes": data},
    "dict of a list": lambda data: {"bytes": list(data), "path": "name"},
}


@pytest.mark.parametrize("form", FORMS)
def test_bytes_in_every_form(form, wav):
    assert np.array_equal(np.asarray(decode_image(FORMS[form](png()), 3)), np.asarray(photo()))
    assert np.array_equal(decode_audio(FORMS[form](wav)), decode_audio(wav))


@pytest.mark.parametrize("kind", ["binary", "list", "struct"])
@pytest.mark.parametrize("streaming", [False, True])
def test_columns_of_encoded_bytes(tmp_path, wav, kind, streaming):
    forms = {"binary": bytes, "list": list, "struct": lambda data: {"bytes": data, "path": "a"}}
    data = {"image": [forms[kind](png())] * 3, "audio": [forms[kind](wav)] * 3}
    datasets.Dataset.from_dict(data).to_parquet(tmp_path / "table.parquet")
    images, column = load_images(str(tmp_path / "table.parquet"), streaming=streaming)
    found = [np.asarray(decode_image(example[column], 3)) for example in images]
    assert len(found) == 3 and all(np.array_equal(one, np.asarray(photo())) for one in found)
    audio, column = load_audio(str(tmp_path / "table.parquet"), streaming=streaming)
    assert [len(decode_audio(example[column])) for example in audio] == [8_000] * 3


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (7, "int"),
        (1.5, "float"),
        ({"data": b"x"}, r"a dict with \['data'\]"),
        ([0.5, 0.25], "list"),
        ([300, 20], "list"),
        ({"bytes": "text", "path": None}, "str"),
    ],
)
def test_other_contents_are_named(value, held):
    for decode, noun in ((lambda one: decode_image(one, 3), "image"), (decode_audio, "audio")):
        with pytest.raises(ValueError, match=f"{noun} is held as {held}, but must be a file, its bytes") as error:
            decode(value)
        assert not isinstance(error.value, UnreadableError)  # a fault of the column, not of one file


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_base64_is_refused_by_name(tmp_path, prefix):
    text = prefix + base64.b64encode(png()).decode()
    (tmp_path / "table.jsonl").write_text("".join(json.dumps({"image": text}) + "\n" for _ in range(2)))
    message = "hold base64 text, which is taken for a path: decode the column"
    with pytest.raises(ValueError, match=f"2 cells of column 'image' .*{message}"):
        load_images(str(tmp_path / "table.jsonl"))
    with pytest.raises(ValueError, match="image is held as base64 text, which is taken for a path"):
        decode_image(text, 3)


def test_base64_of_sound_is_refused_by_name(wav):
    with pytest.raises(ValueError, match="audio is held as base64 text"):
        decode_audio({"bytes": None, "path": "/data/" + base64.b64encode(wav).decode()})
