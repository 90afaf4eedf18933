"""Documents to blocks: nothing is lost, order is kept, and streams give what map-style data give."""

import logging as python_logging
from itertools import chain

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers import BertTokenizer, GPT2Tokenizer

from modeling_data2vec.trainers.data.packing import PackedDocuments, PackedStream, Tokenize, pack_documents
from modeling_data2vec.trainers.data.samples import IterableSampleDataset, SampleDataset
from modeling_data2vec.trainers.modalities.text import TextReader, python_docs
from modeling_data2vec.trainers.modalities.tokenizer_training import train_tokenizer

pytestmark = pytest.mark.usefixtures("datasets_cache")

TEXTS = python_docs()["text"][:150]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 500)


def table(texts) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": texts, "number": list(range(len(texts)))})


def joined(tokenizer, texts) -> list[int]:
    """What the blocks must hold: each text's tokens and </s>."""
    bodies = (tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids for text in texts)
    return [token for body in bodies for token in [*body, 2]]


def rows(blocks) -> list[list[int]]:
    if isinstance(blocks, (PackedStream, datasets.IterableDataset)):
        return [list(example["input_ids"]) for example in blocks]
    return [list(blocks[index]["input_ids"]) for index in range(len(blocks))]


# ---- blocks ----


@pytest.mark.parametrize("block_length", [3, 16, 129])
def test_no_token_is_lost(tokenizer, block_length):
    blocks = rows(pack_documents(table(TEXTS), tokenizer, block_length))
    assert list(chain.from_iterable(blocks)) == joined(tokenizer, TEXTS)
    assert {len(block) for block in blocks[:-1]} == {block_length - 1}
    assert 1 <= len(blocks[-1]) <= block_length - 1


documents = st.lists(st.lists(st.integers(3, 99), max_size=12), min_size=1, max_size=30).filter(any)


@given(documents=documents, length=st.integers(1, 20))
@settings(deadline=None, max_examples=40)
def test_any_documents_and_length(documents, length):
    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})
    dataset = datasets.Dataset.from_dict({"input_ids": documents}, features=features)
    blocks = PackedDocuments(dataset, length)
    tokens = list(chain.from_iterable(documents))
    assert rows(blocks) == [tokens[start : start + length] for start in range(0, len(tokens), length)]
    stream = PackedStream(dataset.to_iterable_dataset(), lambda ids: {"input_ids": ids}, "input_ids", length)
    assert rows(stream) == rows(blocks)
    for index in (len(blocks), -len(blocks) - 1):
        with pytest.raises(IndexError):
            blocks[index]
    assert list(blocks[-1]["input_ids"]) == rows(blocks)[-1]


def test_rows_that_were_chosen(tokenizer):
    """A selection is an index over the table on disk; packing must follow it."""
    chosen = table(TEXTS).shuffle(seed=1).select(range(20))
    blocks = rows(pack_documents(chosen, tokenizer, 32))
    assert list(chain.from_iterable(blocks)) == joined(tokenizer, chosen["text"])


def test_shorter_corpus_than_a_block(tokenizer):
    blocks = pack_documents(table(["not"]), tokenizer, 512)
    assert rows(blocks) == [joined(tokenizer, ["not"])]


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("shards", [1, 4])
def test_streams_give_the_same(tokenizer, pack, shards):
    stream = table(TEXTS).to_iterable_dataset(num_shards=shards)
    found = rows(pack_documents(stream, tokenizer, 40, pack=pack))
    assert found == rows(pack_documents(table(TEXTS), tokenizer, 40, pack=pack))


def test_documents_that_are_not_joined(tokenizer):
    texts = ["", *TEXTS]
    blocks = pack_documents(table(texts), tokenizer, 40, pack=False)
    whole = [joined(tokenizer, [text]) for text in TEXTS]
    assert any(len(one) > 78 for one in whole) and any(len(one) < 39 for one in whole)
    assert rows(blocks) == [one[start : start + 39] for one in whole for start in range(0, len(one), 39)]
    assert blocks.sizes.tolist() == [len(block) for block in rows(blocks)]
    assert list(blocks[-1]["input_ids"]) == rows(blocks)[-1]
    with pytest.raises(IndexError):
        blocks[len(blocks)]


def test_names_of_special_tokens_are_plain_text(tokenizer):
    """A document can't end another one, or hold padding."""
    (ids,) = Tokenize(tokenizer)(["a</s><pad><mask> b"])["input_ids"]
    assert ids.count(2) == 1 and not {0, 1, 3, tokenizer.mask_token_id} & set(ids)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a</s><pad><mask> b"


def test_the_tokenizers_own_settings_do_not_matter(tokenizer):
    expected = rows(pack_documents(table(TEXTS), tokenizer, 40))
    cutting = train_tokenizer(TEXTS, 500)
    cutting(TEXTS[:3], truncation=True, max_length=4, padding="max_length")
    assert rows(pack_documents(table(TEXTS), cutting, 40)) == expected


def test_tokens_are_cached(tokenizer, tmp_path):
    table(TEXTS).save_to_disk(tmp_path / "data")

    def files(block_length: int) -> list[str]:
        packed = pack_documents(datasets.load_from_disk(tmp_path / "data"), tokenizer, block_length)
        return [file["filename"] for file in packed.documents.cache_files]

    first = files(40)
    tokenizer("not", split_special_tokens=True)  # changes the tokenizer's state, but nothing of its tokens
    assert files(40) == first
    assert files(50) == first, "blocks of another length are cut from the same tokens"


def test_empty_documents(tokenizer, caplog):
    with caplog.at_level(python_logging.WARNING):
        blocks = pack_documents(table(["", "not", None, " \n ", "or"]), tokenizer, 40)
    assert rows(blocks) == [joined(tokenizer, ["not", "or"])]
    assert "Passing over 3 of 5 documents: they are empty." in caplog.text
    with pytest.raises(ValueError, match="the 2 documents hold no text"):
        pack_documents(table(["", "\n"]), tokenizer, 40)


def test_tokenizers_that_do_not_fit(tokenizer):
    with pytest.raises(ValueError, match="block_length is 2, but a start, a token and an end need 3"):
        pack_documents(table(TEXTS), tokenizer, 2)
    bert = BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "not": 4})
    assert rows(pack_documents(table(["not"]), bert, 8)) == [[4, 3]]
    assert TextReader(bert)({"input_ids": [4, 3]})["input_ids"].tolist() == [2, 4, 3]
    bare = GPT2Tokenizer(vocab={"a": 0}, merges=[], bos_token=None, eos_token=None, unk_token="a")
    with pytest.raises(ValueError, match="set bos_token and eos_token"):
        pack_documents(table(TEXTS), bare, 8)


# ---- samples of them ----


def test_samples(tokenizer):
    reader = TextReader(tokenizer)
    packed = pack_documents(table(TEXTS), tokenizer, 32)
    samples = SampleDataset(packed, reader, seed=3)
    sample = samples[1]
    assert sample["input_ids"].dtype == torch.int64 and sample["input_ids"].shape == (32,)
    assert sample["input_ids"].tolist() == [0, *joined(tokenizer, TEXTS)[31:62]]
    streamed = IterableSampleDataset(pack_documents(table(TEXTS).to_iterable_dataset(), tokenizer, 32), reader, seed=3)
    streamed.set_epoch(0)
    for index, other in enumerate(streamed):
        assert torch.equal(samples[index]["input_ids"], other["input_ids"])
    assert index == len(samples) - 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_read_every_document(tokenizer, num_workers):
    texts = [text for text in TEXTS if text]
    stream = pack_documents(table(texts).to_iterable_dataset(num_shards=4), tokenizer, 32)
    loader = DataLoader(IterableSampleDataset(stream, TextReader(tokenizer)), batch_size=None, num_workers=num_workers)
    found = np.concatenate([sample["input_ids"][1:] for sample in loader])
    assert sorted(found) == sorted(joined(tokenizer, texts))


def test_empty_samples_are_passed_over(tokenizer, caplog):
    samples = SampleDataset([{"input_ids": ids} for ids in ([5, 2], [], [6, 2])], TextReader(tokenizer))
    assert samples[1]["input_ids"].tolist() == samples[2]["input_ids"].tolist()
    assert samples.unreadable() == ["text 1"] and "Passing over text 1: it is empty" in caplog.text
