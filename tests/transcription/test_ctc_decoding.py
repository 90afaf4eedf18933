"""Greedy decoding is the likeliest path with its times, as transformers' own, whatever else the vocabulary holds."""

import itertools
import json

import pytest
import torch
from ctc_paths import VOCABULARY, collapse, path, tokenizer_of

from modeling_data2vec.trainers.finetuning.tasks.ctc import letter_tokenizer, vocabulary
from modeling_data2vec.trainers.transcription.ctc_decoding import Letters, Timed, greedy_transcript


@pytest.fixture
def letters(tmp_path):
    return Letters(tokenizer_of(tmp_path), len(VOCABULARY))


def test_the_text_is_that_of_the_likeliest_of_all_paths(letters):
    torch.manual_seed(0)
    for _ in range(20):
        scores = torch.randn(5, 4).log_softmax(-1)
        paths = itertools.product(range(4), repeat=5)
        best = max(paths, key=lambda indices: sum(scores[frame, i] for frame, i in enumerate(indices)))
        logits = torch.cat([scores, torch.full((5, 1), 9.0)], dim=1)  # <unk> is no letter, however likely
        assert greedy_transcript(logits, letters, 0.02).text == collapse([VOCABULARY[i] for i in best])


def test_letters_and_words_have_their_frames_as_seconds(letters):
    logits = path("<pad>", "a", "a", "l", "<pad>", "l", "|", "|", "<pad>", "a", "<pad>")
    transcript = greedy_transcript(logits, letters, 0.02)
    assert transcript.text == "all a"
    assert transcript.words == [Timed("all", 0.02, 0.12), Timed("a", 0.18, 0.2)]
    assert transcript.letters == [
        Timed("a", 0.02, 0.06),
        Timed("l", 0.06, 0.08),
        Timed("l", 0.1, 0.12),
        Timed("a", 0.18, 0.2),
    ]
    assert json.loads(json.dumps(transcript.to_dict()))["words"][0] == {"text": "all", "start": 0.02, "end": 0.12}


def test_silence_is_an_empty_text(letters):
    transcript = greedy_transcript(path("<pad>", "<pad>"), letters, 0.02)
    assert (transcript.text, transcript.words, transcript.letters) == ("", [], [])


def test_words_are_spelled_as_the_text(tmp_path):
    vocabulary = ["<pad>", "|", "A", "L", "<unk>"]
    tokenizer = tokenizer_of(tmp_path, vocabulary, do_lower_case=True)
    transcript = greedy_transcript(path("A", "L", vocabulary=vocabulary), Letters(tokenizer, 5), 0.02)
    assert transcript.text == transcript.words[0].text == "al"


def test_outputs_without_a_token_are_not_heard(letters):
    """A vocabulary that was rounded up, and one without <s>, which the tokenizer adds behind the last letter."""
    wide = Letters(letters.tokenizer, 8)
    assert wide.unheard == [4, 5, 6, 7]
    logits = torch.cat([path("a", "l"), torch.full((2, 3), 9.0)], dim=1)
    assert greedy_transcript(logits, wide, 0.02).text == "al"


def test_the_vocabulary_of_a_fine_tuning(tmp_path):
    names = list(vocabulary(["ab ba", "é"]))
    letters = Letters(letter_tokenizer(vocabulary(["ab ba", "é"])), len(names))
    logits = path("<unk>", "a", "b", "|", "<pad>", "é", vocabulary=names)
    assert greedy_transcript(logits, letters, 0.02).text == "ab é"


def test_a_tokenizer_of_another_model_is_refused(tmp_path, tokenizer, letters):
    with pytest.raises(ValueError, match="3 outputs, but its tokenizer .* 'l' beyond them"):
        Letters(letters.tokenizer, 3)
    with pytest.raises(ValueError, match="needs a Wav2Vec2CTCTokenizer"):
        Letters(tokenizer, 60)
    with pytest.raises(ValueError, match="'<pad>' beyond them"):
        Letters(tokenizer_of(tmp_path, ["|", "a", "l"]), 3)
