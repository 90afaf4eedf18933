"""Byte-level BPE on Python's own documentation: ids, round trips, and folders that others can load."""

import json
import string
from pydoc_data.topics import topics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import AutoTokenizer, RobertaTokenizer

from modeling_data2vec import Data2Vec2TextConfig
from modeling_data2vec.trainers.modalities.tokenizer_training import TokenizerOptions, build_tokenizer, train_tokenizer

CORPUS = [topics[name] for name in sorted(topics)][:20]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CORPUS, 600, max_length=64)


def options(tmp_path, **changes) -> TokenizerOptions:
    return TokenizerOptions("python-docs", str(tmp_path / "tokenizer"), vocab_size=400, limit=50, **changes)


# ---- training ----


def test_special_tokens_are_where_roberta_has_them(tokenizer):
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert tokenizer.convert_tokens_to_ids(names) == [0, 1, 2, 3, 599]
    assert (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id) == (0, 2, 599)
    assert (len(tokenizer), tokenizer.model_max_length) == (600, 64)
    config = Data2Vec2TextConfig()
    assert (config.bos_token_id, config.pad_token_id, config.eos_token_id) == (0, 1, 2)


def test_encodes_as_roberta_does(tokenizer):
    """The same merges in transformers' own RoBERTa tokenizer give the same ids, for one text and for two."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocab = {**model["vocab"], "<mask>": 599}
    merges = [tuple(pair) for pair in model["merges"]]
    mask = AddedToken("<mask>", lstrip=True, special=True)  # as in the published roberta-base
    roberta = RobertaTokenizer(vocab=vocab, merges=merges, mask_token=mask)
    for text in ("Boolean operations are or_test, and_test", "a <mask> b", "ﬁ 日本  \n\t🙂", ""):
        assert tokenizer(text).input_ids == roberta(text).input_ids
        assert tokenizer(text, "not").input_ids == roberta(text, "not").input_ids


def test_learns_words(tokenizer):
    assert len(tokenizer(CORPUS[0]).input_ids) < 0.6 * len(CORPUS[0].encode())


def test_equal_texts_give_equal_tokenizers(tokenizer):
    again = train_tokenizer(iter(CORPUS), 600, max_length=64)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    other = train_tokenizer(CORPUS[:10], 600)
    assert other.backend_tokenizer.to_str() != tokenizer.backend_tokenizer.to_str()


@given(text=st.text(st.characters(exclude_categories=["Cs"])))  # surrogates are no text
@settings(deadline=None)
def test_any_text_decodes_to_itself(tokenizer, text):
    ids = tokenizer(text, split_special_tokens=True).input_ids
    assert ids[0] == 0 and ids[-1] == 2 and 3 not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("texts", [[], ["", " \n"], [None]])
def test_no_text(texts):
    with pytest.raises(ValueError, match="nothing to learn"):
        train_tokenizer(texts, 300)


def test_too_small_a_vocabulary():
    with pytest.raises(ValueError, match="vocab_size is 260, but 256 bytes and 5 special tokens alone need 261"):
        train_tokenizer(CORPUS, 260)
    smallest = train_tokenizer(CORPUS, 261)
    assert smallest.decode(smallest(CORPUS[0]).input_ids, skip_special_tokens=True) == CORPUS[0]
    assert not json.loads(smallest.backend_tokenizer.to_str())["model"]["merges"]


def test_too_little_text_for_the_vocabulary(caplog):
    small = train_tokenizer([string.ascii_lowercase], 8_000)
    assert f"gave only {len(small)} tokens of the 8000" in caplog.text
    assert small.mask_token_id == len(small) - 1


# ---- the command ----


def test_folder_loads_with_equal_ids(tmp_path):
    built = build_tokenizer(options(tmp_path, max_length=64))
    loaded = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert loaded.is_fast and loaded.special_tokens_map == built.special_tokens_map
    assert len(loaded) == 400 and loaded.model_max_length == 64
    for text in (*CORPUS, "a <mask> b", "日本"):
        assert loaded(text).input_ids == built(text).input_ids
        assert loaded.decode(built(text).input_ids) == built.decode(built(text).input_ids)
    padded = loaded(CORPUS[:2], padding=True, truncation=True, return_tensors="pt")
    assert padded.input_ids.shape == (2, 64)


def test_streams_and_tables(tmp_path):
    first = build_tokenizer(options(tmp_path))
    streamed = build_tokenizer(
        TokenizerOptions("python-docs", str(tmp_path / "2"), vocab_size=400, limit=50, streaming=True)
    )
    assert streamed.get_vocab() == first.get_vocab()


def test_beside_a_config(tmp_path):
    """A model's folder may come first; its tokenizer goes there, too."""
    Data2Vec2TextConfig(vocab_size=400).save_pretrained(tmp_path / "tokenizer")
    build_tokenizer(options(tmp_path))
    assert len(AutoTokenizer.from_pretrained(tmp_path / "tokenizer")) == 400
    names = {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert {file.name for file in (tmp_path / "tokenizer").iterdir()} == names


def test_refuses_to_overwrite(tmp_path):
    build_tokenizer(options(tmp_path))
    before = (tmp_path / "tokenizer" / "tokenizer.json").read_bytes()
    with pytest.raises(ValueError, match=r"already holds a tokenizer \(tokenizer.json, tokenizer_config.json\)"):
        build_tokenizer(options(tmp_path))
    assert (tmp_path / "tokenizer" / "tokenizer.json").read_bytes() == before


def test_nothing_is_left_of_a_failure(tmp_path):
    (tmp_path / "blank.txt").write_text("\n\n \n\n")
    with pytest.raises(ValueError, match="nothing to learn"):
        build_tokenizer(TokenizerOptions(str(tmp_path / "blank.txt"), str(tmp_path / "new")))
    with pytest.raises(ValueError, match="there is no file or folder"):
        build_tokenizer(TokenizerOptions(str(tmp_path / "missing.txt"), str(tmp_path / "new")))
    with pytest.raises(ValueError, match="vocab_size is 5"):
        build_tokenizer(TokenizerOptions("python-docs", str(tmp_path / "new"), vocab_size=5))
    assert not (tmp_path / "new").exists()
