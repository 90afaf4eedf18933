"""`embed`: any data by any encoder, the vectors that `encode` gives, in the order of the data."""

import datasets
import numpy as np
import pandas
import pytest
import soundfile
import torch
from encoders import KINDS as ENCODERS
from encoders import encoder
from joint_models import joint_model
from PIL import Image
from recordings import voice
from safetensors.torch import load_file, save_file
from tiny_runs import KINDS as TINY_KINDS
from transformers import AutoImageProcessor, AutoTokenizer, ViTForImageClassification, Wav2Vec2FeatureExtractor

from modeling_data2vec import (
    Data2Vec2SpectrogramFeatureExtractor,
    Data2Vec2TextConfig,
    Data2Vec2TextForSequenceClassification,
    ImageTransform,
    encode,
)
from modeling_data2vec import decode_image as decode
from modeling_data2vec.hub_configs import recipe_folder
from modeling_data2vec.trainers import embed
from modeling_data2vec.trainers.embedding.data import SampleStream, open_data, windows
from modeling_data2vec.trainers.modalities.encoders import load_encoder

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def image_processor():
    processor = AutoImageProcessor.from_pretrained(recipe_folder("data2vec2-vision-tiny"))
    processor.size = {"height": 8, "width": 8}
    return processor


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Nine grey images in two folders, and one that is none."""
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 12), dtype=np.uint8)
    for i, image in enumerate(pixels):
        (folder / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / "ab"[i % 2] / f"{i}.png")
    (folder / "a" / "broken.png").write_bytes(b"no image")
    return folder


def vectors_of(images, model, processor):
    transform = ImageTransform.from_processor(processor)
    return encode(model, torch.stack([transform(decode(image, 1), None) for image in images]))


@pytest.mark.parametrize("name", ["our images", "ViT"])
def test_any_form_of_images_gives_the_same_vectors(name, photos, image_processor):
    model = encoder(name)
    files = sorted(photos.glob("*/[0-9].png"))
    expected = vectors_of(map(str, files), model, image_processor)
    given = QUIET | {"processor": image_processor, "batch_size": 2}
    folder = embed(model, photos, **given)
    np.testing.assert_allclose(folder.vectors, expected, atol=1e-6)
    assert folder.ids == [str(file.relative_to(photos)) for file in files]
    assert list(folder.left_out) == ["a/broken.png"] and "no picture" in folder.left_out["a/broken.png"]
    assert len(folder.rows) == 9 and set(range(10)) - set(folder.rows) == {5}  # the broken one comes after a/8.png

    images = [Image.open(file) for file in files]
    table = datasets.Dataset.from_dict({"image": list(map(str, files)), "name": [file.stem for file in files]})
    table = table.cast_column("image", datasets.Image())
    for data in (files, images, table, table.to_iterable_dataset()):
        found = embed(model, data, **given)
        np.testing.assert_array_equal(found.vectors, folder.vectors)
        assert list(found.rows) == list(range(9))
    arrays = embed(model, [np.asarray(image) for image in images], **given)
    np.testing.assert_allclose(arrays.vectors, folder.vectors, atol=0.02)  # resized without rounding to 8 bits
    assert embed(model, images, **given).ids == [str(i) for i in range(9)]
    named = embed(model, datasets.DatasetDict({"train": table}), id_column="name", **given)
    assert named.ids == [file.stem for file in files]


def test_recordings_of_unequal_length(recordings, tmp_path):
    model, extractor = encoder("our speech"), Wav2Vec2FeatureExtractor()
    clips = [voice(seconds, seed=seed) for seed, seconds in enumerate((0.4, 0.2, 0.9, 0.3, 0.6))]
    expected = encode(model, [torch.tensor(extractor(clip, sampling_rate=16_000).input_values[0]) for clip in clips])
    for i, clip in enumerate(clips):
        soundfile.write(tmp_path / f"{i}.wav", clip, 16_000, subtype="FLOAT")
    for data in (clips, [torch.from_numpy(clip) for clip in clips], tmp_path, sorted(tmp_path.glob("*.wav"))):
        found = embed(model, data, processor=extractor, batch_size=2, **QUIET)
        np.testing.assert_allclose(found.vectors, expected, atol=1e-5)
    assert found.ids == [str(tmp_path / f"{i}.wav") for i in range(5)]
    assert [name.split("/")[-1] for name in embed(model, recordings, processor=extractor, **QUIET).left_out] == [
        "broken.wav"
    ]


def test_spectrograms_of_clips_do_not_depend_on_their_batch():
    kind, fields = TINY_KINDS["spectrograms 2.0"]
    torch.manual_seed(0)
    model, extractor = kind(kind.config_class(**fields)), Data2Vec2SpectrogramFeatureExtractor(feature_size=16)
    clips = [voice(seconds, seed=seed) for seed, seconds in enumerate((0.4, 0.2, 0.9, 0.3, 0.6))]
    together = embed(model, clips, processor=extractor, **QUIET)
    alone = embed(model, clips, processor=extractor, batch_size=1, **QUIET)
    np.testing.assert_allclose(together.vectors, alone.vectors, atol=1e-5)
    assert together.vectors.shape == (5, 16)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_texts_options_and_forms_of_the_result(tokenizer, pooling):
    torch.manual_seed(0)
    words = AutoTokenizer.from_pretrained(tokenizer)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = Data2Vec2TextConfig(
        **sizes, average_top_k_layers=2, num_prenet_layers=1, vocab_size=len(words), num_extra_tokens=1
    )
    model = Data2Vec2TextForSequenceClassification(config)
    texts = ["a short one", "", "one that is a little longer than the first", "a short one"]
    found = embed(model, texts, processor=words, pooling=pooling, layer=[1, -1], normalize=True, **QUIET)
    assert found.vectors.shape == (3, 32) and found.vectors.dtype == np.float32
    assert found.left_out == {"1": "its text is empty"} and found.ids == ["0", "2", "3"]
    np.testing.assert_array_equal(found.vectors[0], found.vectors[2])
    np.testing.assert_allclose(np.linalg.norm(np.asarray(found), axis=1), 1, atol=1e-6)
    inputs = [torch.tensor(words(texts[row]).input_ids) for row in found.rows]
    plain = encode(model, inputs, pooling=pooling, layer=[1, -1])
    np.testing.assert_allclose(found.vectors, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-6)
    table = found.to_dataset().with_format("numpy")
    np.testing.assert_array_equal(np.stack(table["features"][:]), found.vectors)
    assert table["id"][:].tolist() == found.ids and table["row"][:].tolist() == [0, 2, 3]


def test_one_modality_of_a_joint_model(image_processor, photos):
    model = joint_model().eval()
    images = sorted(photos.glob("*/[0-9].png"))
    given = QUIET | {"processor": image_processor}
    size = model.config.of("vision").image_size
    image_processor.size = {"height": size, "width": size}
    found = embed(model, images, modality="vision", **given)
    alone = embed(model.base_model.slice("vision"), images, **given)
    image_processor.size = {"height": 8, "width": 8}
    np.testing.assert_array_equal(found.vectors, alone.vectors)
    with pytest.raises(ValueError, match="several modalities: name one"):
        embed(model, images, **given)


def test_memory_holds_one_window(image_processor):
    """No more samples than a part has are read before the part is done."""
    read = []

    class Counting(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    _, kind = load_encoder(encoder("our images"), image_processor)
    examples = Counting([{"image": np.zeros((8, 8), np.uint8)}] * 100)
    samples = SampleStream(examples, kind.reader("image"), None, None)
    for number, window in enumerate(windows(samples.read(), 20), 1):
        assert len(window) == 20 and len(read) == 20 * number


def test_a_stream_is_read_on_from_any_row(photos, image_processor):
    files = [str(file) for file in sorted(photos.glob("*/[0-9].png"))]
    table = datasets.Dataset.from_dict({"image": files}).cast_column("image", datasets.Image())
    _, kind = load_encoder(encoder("our images"), image_processor)
    whole = list(open_data(kind, table).read())
    for data in (table, table.to_iterable_dataset()):
        rest = list(open_data(kind, data).read(first=4))
        assert [sample.row for sample in rest] == [4, 5, 6, 7, 8]
        assert all(torch.equal(one.inputs, other.inputs) for one, other in zip(rest, whole[4:], strict=True))


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        ([], {}, "empty list"),
        (3, {}, "the data are a int, but must be a folder, table or Hub id"),
        (pandas.DataFrame({"image": ["a.png"]}), {}, "the data are a DataFrame, but must be a folder, table or Hub id"),
        (["/missing.png"], {}, "none of the images can be read; the first is /missing.png"),
        ("digits", {"pooling": "flatten"}, "--pooling is 'flatten'"),
        ("digits", {"id_column": "name"}, "id_column is 'name', but the data have the columns image, label"),
        ("digits", {"split": "dev"}, "not 'dev'"),
        ("digits", {"processor": None}, "the model comes from no folder or Hub id: give its processor"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_does_not_fit_is_named(data, options, said, image_processor):
    with pytest.raises(ValueError, match=said):
        embed(encoder("our images"), data, **(QUIET | {"processor": image_processor} | options))


def test_arrays_under_names_are_no_list(tmp_path, image_processor):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 8, 8), np.uint8), labels=[0, 1])
    with np.load(tmp_path / "a.npz") as arrays:
        with pytest.raises(ValueError, match="the data are a NpzFile, but must be a folder, table or Hub id"):
            embed(encoder("our images"), arrays, **(QUIET | {"processor": image_processor}))
        assert embed(encoder("our images"), arrays["images"], **(QUIET | {"processor": image_processor})).ids == [
            "0",
            "1",
        ]


def test_the_head_of_a_model_is_no_news_and_lacking_weights_are(tmp_path, caplog):
    model = ViTForImageClassification(encoder("ViT").config)
    model.save_pretrained(tmp_path / "model")
    AutoImageProcessor.from_pretrained(recipe_folder("data2vec2-vision-tiny")).save_pretrained(tmp_path / "model")
    load_encoder(str(tmp_path / "model"))
    assert not caplog.text
    weights = load_file(tmp_path / "model" / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("vit.layernorm.")}
    save_file(kept, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    load_encoder(str(tmp_path / "model"))
    assert "model lacks layernorm.bias, layernorm.weight: these weights are random" in caplog.text


def test_a_column_that_is_not_embedded_is_not_decoded(photos, image_processor):
    """Nor must it be: `Audio` needs a package of its own."""
    files = [str(file) for file in sorted(photos.glob("*/[0-9].png"))]
    table = datasets.Dataset.from_dict({"image": files, "sound": files})
    table = table.cast_column("image", datasets.Image()).cast_column("sound", datasets.Audio())
    samples = open_data(load_encoder(encoder("our images"), image_processor)[1], table, column="image")
    assert all(isinstance(sample.inputs, torch.Tensor) for sample in samples.read())


def test_there_are_encoders_of_all_kinds():
    assert {"our images", "ViT", "our speech"} <= set(ENCODERS)
