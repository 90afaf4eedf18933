"""Transcripts and the symbols that they are written in, by the tokenizer's own output."""

import json
from types import SimpleNamespace

import datasets
import pytest
from transformers import AutoTokenizer, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

from modeling_data2vec.trainers.finetuning.options import FinetuningOptions
from modeling_data2vec.trainers.finetuning.tasks.ctc import CTC, load_letters, unknown_symbols
from modeling_data2vec.trainers.modalities.clips import require_one_transcript
from modeling_data2vec.trainers.sources.opening import with_files

LONG_A, ASPIRATED_T = "a\u02d0", "t\u02b0"
BASE = ("<pad>", "<unk>", "|")


def letters(folder, symbols, base=BASE, **settings) -> str:
    """The folder of a tokenizer with these symbols."""
    folder.mkdir()
    path = folder / "letters.json"
    path.write_text(json.dumps({symbol: index for index, symbol in enumerate([*base, *symbols])}), encoding="utf-8")
    given = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": None, "eos_token": None} | settings
    Wav2Vec2CTCTokenizer(str(path), **given).save_pretrained(folder)
    return str(folder)


def fitted(said, **options) -> CTC:
    """The task, after it has seen a table with these transcripts."""
    one = CTC(SimpleNamespace(), Wav2Vec2FeatureExtractor(), FinetuningOptions("model", "data", "ctc", **options), None)
    one.column, one.text_column = "audio", "text"
    table = datasets.Dataset.from_dict({"audio": [None] * len(said), "text": said})
    one.survey(table)
    one.fit(table)
    return one


def test_symbols_of_several_letters_are_read_as_the_tokenizer_reads_them(tmp_path):
    said = [f"{ASPIRATED_T} {LONG_A} n", f"n {LONG_A}"]
    task = fitted(said, tokenizer=letters(tmp_path / "phonemes", [ASPIRATED_T, LONG_A, "n"]))
    tokens = [task.tokenizer.convert_ids_to_tokens(task.tokenizer(text).input_ids) for text in said]
    assert tokens == [[ASPIRATED_T, LONG_A, "n"], ["n", LONG_A]]
    assert task.config.vocab_size == 6 and task.config.pad_token_id == 0
    with pytest.raises(ValueError, match=r"lacks letters of the transcripts: 'a' \(2x\), 't' \(1x\)"):
        fitted(["t a n", "a"], tokenizer=str(tmp_path / "phonemes"))


def test_a_tokenizer_that_changes_the_case_reads_both(tmp_path):
    task = fitted(["ab C", "Ab"], tokenizer=letters(tmp_path / "capitals", "ABC", do_lower_case=True))
    assert task.tokenizer.batch_decode([task.tokenizer("ab C").input_ids], group_tokens=False) == ["ab c"]
    with pytest.raises(ValueError, match=r"'D' \(1x\)"):
        fitted(["abd"], tokenizer=str(tmp_path / "capitals"))


@pytest.mark.parametrize(
    ("options", "written"), [({"uppercase": True}, "ABC"), ({"lowercase": True}, "abc"), ({}, "ABCc")]
)
def test_transcripts_are_written_as_asked(options, written):
    assert fitted(["AB", "Cc"], **options).tokenizer.get_vocab().keys() == {*BASE, *written}


def test_only_one_way_to_write():
    with pytest.raises(ValueError, match="--lowercase and --uppercase both say"):
        FinetuningOptions("model", "data", "ctc", lowercase=True, uppercase=True)


def test_spaces_need_a_symbol_too(tmp_path):
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(letters(tmp_path / "letters", "ab"))
    assert not unknown_symbols(["a b"], tokenizer)
    assert unknown_symbols(["a xx|"], tokenizer) == {"x": 2}


def test_ids_with_gaps_have_an_output_each(tmp_path):
    folder = tmp_path / "gaps"
    letters(folder, "ab")
    (folder / "vocab.json").write_text(json.dumps({"<pad>": 0, "<unk>": 1, "|": 2, "a": 3, "b": 40}))
    assert fitted(["ab"], tokenizer=str(folder)).config.vocab_size == 41


def test_a_vocabulary_alone_is_enough(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "<unk>": 1, "|": 2, "a": 3}))
    assert load_letters(str(tmp_path)).get_vocab()["a"] == 3


def test_tokenizers_of_other_kinds(tmp_path, tokenizer):
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(tmp_path / "bpe")
    with pytest.raises(ValueError, match="but ctc needs a Wav2Vec2CTCTokenizer"):
        load_letters(str(tmp_path / "bpe"))
    with pytest.raises(ValueError, match=r"missing' can't be loaded: name a folder with tokenizer_config.json and"):
        load_letters(str(tmp_path / "missing"))


def test_unknown_letters_of_another_split_without_a_symbol_for_them(tmp_path, caplog):
    other = datasets.Dataset.from_dict({"text": ["ax"]})
    task = fitted(["ab"], tokenizer=letters(tmp_path / "with", "ab"))
    task.check(other, "test")
    assert "Split 'test' has letters that the vocabulary lacks: 'x' (1x)" in caplog.text
    task = fitted(["ab"], tokenizer=letters(tmp_path / "without", "ab", base=("<pad>", "|"), unk_token=None))
    with pytest.raises(ValueError, match=r"split 'test' has letters .*'x' \(1x\).* has no symbol for unknown ones"):
        task.check(other, "test")


def test_whole_numbers_are_what_stands_in_the_table():
    assert fitted([70, 0]).transcripts(datasets.Dataset.from_dict({"text": [70, 0]})) == ["70", "0"]


@pytest.mark.parametrize("said", [[["a", "b"]], [0.5]], ids=["lists", "fractions"])
def test_a_column_that_holds_no_text(said):
    with pytest.raises(ValueError, match="column 'text' holds .*, not transcripts: name another --label_column"):
        fitted(said)


def test_a_transcript_can_not_hold_the_blank():
    with pytest.raises(ValueError, match=r"column 'text' holds '<pad>' \(row 2\), which is read as CTC's blank"):
        fitted(["ab", "a <pad>"])


def test_empty_transcripts_are_named_by_row(caplog):
    fitted(["ab", None, "  ", "b"])
    assert "2 of 4 transcripts are empty, in rows 2, 3: these clips are passed over" in caplog.text
    with pytest.raises(ValueError, match="all 2 transcripts in column 'text' are empty"):
        fitted(["", None])


@pytest.mark.parametrize("parts", [{}, {"start": [None, None, 1.0]}, {"offset": [0.0, 0.0, 1.0]}])
def test_one_sound_has_one_transcript(parts):
    """As of a table whose times have other names, or were lost."""
    sound = {"path": ["long.wav", "long.wav", "long.wav" if parts else "other.wav"], "text": ["ab", "ba", "ab"]} | parts
    table = datasets.Dataset.from_dict(sound)
    message = "rows 1, 2 have the same sound of long.wav, but different transcripts: say which part"
    with pytest.raises(ValueError, match=message):
        require_one_transcript(with_files(table, "path", table["path"][:]), "path", table["text"][:])
    table = table.select([0, 2])
    require_one_transcript(with_files(table, "path", table["path"][:]), "path", table["text"][:])
