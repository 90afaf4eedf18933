"""Text as people have it: every kind of source, tokenizers that don't belong to the model, labels for probes."""

import json

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig, Data2VecTextConfig, ModernBertConfig, RobertaConfig

from modeling_data2vec import Data2Vec2TextConfig
from modeling_data2vec.trainers.evaluation.features import encode
from modeling_data2vec.trainers.modalities.encoders import load_encoder
from modeling_data2vec.trainers.modalities.text import (
    SentenceReader,
    TextModality,
    check_tokenizer,
    load_labelled_text,
    load_text,
    python_docs,
)
from modeling_data2vec.trainers.modalities.tokenizer_training import train_tokenizer

pytestmark = pytest.mark.usefixtures("datasets_cache")

TEXTS = [text for text in python_docs()["text"] if "\n\n" not in text][:30]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 500)


@pytest.fixture(scope="module")
def table():
    """Each text with a class: whether it is about exceptions."""
    return datasets.Dataset.from_dict(
        {"text": TEXTS, "label": ["exception" in text for text in TEXTS], "number": list(range(len(TEXTS)))}
    ).cast_column("label", datasets.ClassLabel(names=["other", "exceptions"]))


def texts(dataset, column) -> list[str]:
    return [example[column] for example in dataset]


@pytest.mark.parametrize(
    ("config_class", "longest"),
    [(Data2VecTextConfig, 30), (RobertaConfig, 30), (BertConfig, 32), (ModernBertConfig, 32)],
)
def test_texts_are_cut_at_what_a_model_of_transformers_takes(config_class, longest, tokenizer, table, tmp_path):
    """The tokenizer allows more; some models have two positions less than `max_position_embeddings`."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    tokens = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    config = config_class(**sizes, **tokens, vocab_size=len(tokenizer), max_position_embeddings=32)
    encoder, kind = load_encoder(AutoModel.from_config(config), tokenizer)
    assert tokenizer.model_max_length > 32 and tokenizer.pad_token_id == 1
    (sample,) = kind.reader("text")({"text": 100 * "a long text "}).values()
    table.to_parquet(tmp_path / "texts.parquet")
    inputs, _ = kind.labelled(str(tmp_path / "texts.parquet"), split="train", column="text", label_column="label")
    assert len(sample) == max(map(len, inputs)) == longest
    assert np.isfinite(encode(encoder, [sample, *inputs])).all()


@pytest.mark.parametrize("streaming", [False, True])
def test_documents_that_are_not_joined(tokenizer, table, tmp_path, streaming):
    """Each makes samples of its own, and what is known of their lengths makes batches of similar ones."""
    table.to_parquet(tmp_path / "texts.parquet")
    config = Data2Vec2TextConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    kind = TextModality(config, tokenizer, {"block_length": 16, "pack": False})
    samples = kind.samples(str(tmp_path / "texts.parquet"), split="train", column="text", streaming=streaming, seed=0)
    found = [
        sample["input_ids"].tolist()
        for sample in (samples if streaming else map(samples.__getitem__, range(len(samples))))
    ]
    bodies = [[*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id] for text in TEXTS]
    expected = [[tokenizer.bos_token_id, *body[at : at + 15]] for body in bodies for at in range(0, len(body), 15)]
    assert sorted(found) == sorted(expected)
    if not streaming:
        assert samples.lengths == [len(one) for one in found]
        assert kind.num_positions(samples) == sum(samples.lengths)


# ---- sources ----


@pytest.mark.parametrize("streaming", [False, True])
def test_text_files(tmp_path, streaming):
    """An empty line ends a document; single line ends belong to it, whatever system wrote them."""
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("\n\n".join(TEXTS[:10]) + "\n", encoding="utf-8")
    (tmp_path / "b" / "c.TXT").write_text("\n\n".join(TEXTS[10:]), encoding="utf-8", newline="\r\n")
    (tmp_path / "notes.md").write_text("no data")
    dataset, column = load_text(str(tmp_path), streaming=streaming)
    assert column == "text" and isinstance(dataset, datasets.IterableDataset) == streaming
    assert [text.strip("\n") for text in texts(dataset, column)] == [text.strip("\n") for text in TEXTS]
    assert len(texts(*load_text(str(tmp_path / "a.txt"), streaming=streaming))) == 10


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_tables(tmp_path, table, suffix, streaming):
    file = tmp_path / f"data.{suffix}"
    {"parquet": table.to_parquet, "jsonl": table.to_json, "csv": table.to_csv}[suffix](str(file))
    assert texts(*load_text(str(file), streaming=streaming)) == TEXTS


def test_saved_datasets(tmp_path, table):
    datasets.DatasetDict({"train": table, "test": table.select(range(3))}).save_to_disk(tmp_path / "data")
    assert texts(*load_text(str(tmp_path / "data"))) == TEXTS
    assert texts(*load_text(str(tmp_path / "data"), split="test", streaming=True)) == TEXTS[:3]


def test_splits_of_a_folder(tmp_path):
    (tmp_path / "train.txt").write_text("one\n\ntwo\n")
    (tmp_path / "test.txt").write_text("three\n")
    assert len(load_text(str(tmp_path))[0]) == 2
    assert texts(*load_text(str(tmp_path), split="test")) == ["three\n"]
    with pytest.raises(ValueError, match=r"no split 'dev', only \['test', 'train'\]"):
        load_text(str(tmp_path), split="dev")


@pytest.mark.parametrize("streaming", [False, True])
def test_python_docs(streaming):
    dataset, column = load_text("python-docs", streaming=streaming)
    found = texts(dataset, column)
    assert len(found) == len(set(found)) > 1_000 and all(text.strip() for text in found)
    assert any("lambda" in text for text in found)
    with pytest.raises(ValueError, match="the split 'train' alone, not 'test'"):
        load_text("python-docs", split="test")


def test_columns(tmp_path, table):
    table.rename_column("text", "gloss").to_parquet(tmp_path / "a.parquet")
    assert texts(*load_text(str(tmp_path), text_column="gloss")) == TEXTS
    with pytest.raises(ValueError, match="0 text columns among .*name one with text_column"):
        load_text(str(tmp_path))
    with pytest.raises(ValueError, match="column 'number' of .* holds .*int64.*, not text"):
        load_text(str(tmp_path), text_column="number")


@pytest.mark.parametrize("streaming", [False, True])
def test_nothing_to_read(tmp_path, streaming):
    (tmp_path / "empty.txt").write_text("")
    if not streaming:  # of a stream nobody knows beforehand
        with pytest.raises(ValueError, match="is empty: there is nothing to train on"):
            load_text(str(tmp_path / "empty.txt"))
    with pytest.raises(ValueError, match="there is no file or folder .*missing.txt. here"):
        load_text(str(tmp_path / "missing.txt"), streaming=streaming)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"holds no texts \(.txt\), no tables"):
        load_text(str(tmp_path / "folder"), streaming=streaming)


def test_another_encoding(tmp_path):
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1") * 9)
    with pytest.raises(ValueError, match=r"latin.txt is not text in UTF-8 \(.*\): convert it"):
        load_text(str(tmp_path / "latin.txt"))


# ---- what fits together ----


def test_tokenizers_of_other_models(tokenizer):
    def check(block_length=64, **changes):
        check_tokenizer(tokenizer, Data2Vec2TextConfig(**{"vocab_size": 500, **changes}), block_length)

    check()
    check(vocab_size=512)
    check(max_position_embeddings=64)
    check(max_position_embeddings=32, position_embeddings=False, use_alibi=True)
    with pytest.raises(ValueError, match="the tokenizer has 500 tokens, but the model's vocab_size is 499"):
        check(vocab_size=499)
    with pytest.raises(ValueError, match="pad token has the id 1, but the model's pad_token_id is 0"):
        check(pad_token_id=0)
    with pytest.raises(
        ValueError, match="block_length is 64, but the model's max_position_embeddings leaves room for 63"
    ):
        check(max_position_embeddings=63)
    unpadded = train_tokenizer(TEXTS, 500)
    unpadded.pad_token = None
    with pytest.raises(ValueError, match="id None, .* after giving it a pad_token of its own"):
        check_tokenizer(unpadded, Data2Vec2TextConfig(vocab_size=500), 64)


# ---- labelled text ----


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_labelled_text(tmp_path, tokenizer, table, suffix):
    file = tmp_path / f"data.{suffix}"
    {"parquet": table.to_parquet, "jsonl": table.to_json, "csv": table.to_csv}[suffix](str(file))
    found, labels = load_labelled_text(str(file), tokenizer, split="train", max_length=24)
    assert np.array_equal(labels, table["label"])
    for ids, text in zip(found, TEXTS, strict=True):
        expected = tokenizer(text, truncation=True, max_length=24, split_special_tokens=True).input_ids
        assert ids.dtype == torch.int64 and ids.tolist() == expected


def test_a_part_of_labelled_text(tmp_path, tokenizer):
    lines = [{"sentence": text, "kind": "word" if " " not in text else "words"} for text in ["not", "", "or else"]]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    arguments = {"split": "train", "max_length": 24, "label_column": "kind"}
    found, labels = load_labelled_text(str(tmp_path / "a.jsonl"), tokenizer, **arguments)
    assert len(found) == 2 and labels.tolist() == ["word", "words"]
    assert len(load_labelled_text(str(tmp_path / "a.jsonl"), tokenizer, limit=1, **arguments)[0]) == 1
    with pytest.raises(ValueError, match="0 label columns .*: probes need labels"):
        load_labelled_text(str(tmp_path / "a.jsonl"), tokenizer, split="train", max_length=24)
    with pytest.raises(ValueError, match="no room for a start, a token and an end"):
        load_labelled_text(str(tmp_path / "a.jsonl"), tokenizer, split="train", max_length=2, label_column="kind")


@pytest.mark.parametrize(
    ("text", "said"),
    [(7, "held as int"), (["a"], "held as list"), (b"a", "held as bytes"), ("a\ud800", "holds half a character")],
)
def test_what_is_no_text_is_named(text, said):
    reader = SentenceReader(train_tokenizer(["a cat"], 270, max_length=16))
    with pytest.raises(ValueError, match=said):
        reader({"text": text})
