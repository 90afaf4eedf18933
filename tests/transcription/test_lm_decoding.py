"""Beam search sums over all alignments, adds what the language model says, and refuses files that are none."""

import gzip
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from ctc_paths import VOCABULARY, collapse, path, tokenizer_of

from modeling_data2vec.trainers.transcription.ctc_decoding import Letters, Timed
from modeling_data2vec.trainers.transcription.lm_decoding import BeamDecoder, lm_words

pytest.importorskip("ctc_beam_decoder", reason="pip install ctc-beam-decoder")
EXACT = {"beam_width": 10**6, "beam_prune": -math.inf, "letter_prune": -30.0}
ARPA = """\\data\\
ngram 1=5
ngram 2=4

\\1-grams:
-2.0\t<unk>
0\t<s>\t-0.3
-1.0\t</s>
-0.7\ta\t-0.2
-0.9\tal\t-0.1

\\2-grams:
-0.4\t<s> a
-0.5\ta al
-0.6\tal </s>
-0.8\t<s> al

\\end\\
"""
# log10 p of the sentence in this model: a bigram where there is one, else back-off and unigram.
SENTENCES = {
    "": -0.3 - 1.0,
    "a al": -0.4 - 0.5 - 0.6,
    "a": -0.4 + (-0.2 - 1.0),
    "al": -0.8 - 0.6,
    "al a": -0.8 + (-0.1 - 0.7) + (-0.2 - 1.0),
}


@pytest.fixture
def letters(tmp_path):
    return Letters(tokenizer_of(tmp_path), len(VOCABULARY))


@pytest.fixture
def arpa(tmp_path):
    file = tmp_path / "bigram.arpa"
    file.write_text(ARPA)
    return file


def sums(logits: torch.Tensor) -> dict[str, float]:
    """ln p of every text: the sum over every path that collapses to it, written out."""
    scores = logits[:, :4].double().log_softmax(-1).numpy()
    found: dict[str, list[float]] = {}
    for indices in itertools.product(range(4), repeat=len(scores)):
        text = " ".join(collapse([VOCABULARY[i] for i in indices]).split())
        found.setdefault(text, []).append(sum(scores[frame, i] for frame, i in enumerate(indices)))
    return {text: float(np.logaddexp.reduce(values)) for text, values in found.items()}


@pytest.mark.parametrize("seed", range(10))
def test_without_pruning_it_is_the_sum_over_all_alignments(letters, seed):
    torch.manual_seed(seed)
    logits = 2 * torch.randn(6, 5)
    expected = sums(logits)
    beam = BeamDecoder(letters, **EXACT)
    found = beam.beams(logits)
    assert {text for text, *_ in found} == set(expected)
    for text, _, score in found:
        assert score == pytest.approx(expected[text], abs=1e-4)
    assert beam(logits, 0.02).text == max(expected, key=expected.get)


def test_a_sum_can_beat_the_likeliest_path(letters):
    """Two frames: the best path is silence, .5 * .5, but 'a' has three paths that together are likelier."""
    logits = torch.tensor([[0.5, 1e-9, 0.5 - 2e-9, 1e-9, 0.0]] * 2).log()
    assert BeamDecoder(letters, **EXACT)(logits, 0.02).text == "a"


@pytest.mark.parametrize("seed", range(10))
def test_the_score_with_a_language_model_is_the_one_by_hand(letters, arpa, seed):
    torch.manual_seed(seed)
    logits = 2 * torch.randn(6, 5)
    expected = sums(logits)
    beam = BeamDecoder(letters, arpa, lm_weight=0.7, word_bonus=1.1, **EXACT)
    found = {text: score for text, _, score in reversed(beam.beams(logits))}
    for text, log10 in SENTENCES.items():
        by_hand = expected[text] + 0.7 * math.log(10) * log10 + 1.1 * len(text.split())
        same_for_all = 0.7 * math.log(10) * -1.0 + 1.1  # the end as a word
        assert found[text] == pytest.approx(by_hand + same_for_all, abs=1e-4)


def test_a_space_at_the_end_costs_nothing(letters, arpa):
    beam = BeamDecoder(letters, arpa)
    plain, spaced = path("a", "<pad>", "|", "a", "l", "<pad>"), path("a", "<pad>", "|", "a", "l", "|")
    (one, _, score), (other, _, again) = (beam.beams(40 * logits)[0] for logits in (plain, spaced))
    assert one == other == "a al"
    assert score == pytest.approx(again, abs=1e-4)


def test_the_language_model_decides_between_what_sounds_alike(letters, arpa):
    logits = 5 * path("a", "<pad>", "|", "a", "<pad>", "l")
    logits[5, 0] = 5.2  # silence is a little likelier than the l
    assert BeamDecoder(letters)(logits, 0.02).text == "a a"
    transcript = BeamDecoder(letters, arpa)(logits, 0.02)
    assert transcript.text == "a al"
    assert [word.text for word in transcript.words] == ["a", "al"]
    assert transcript.words[0] == Timed("a", 0.0, 0.02)
    assert (transcript.words[1].start, transcript.words[1].end) == (0.06, 0.12)


def test_silence_is_an_empty_text(letters, arpa):
    assert BeamDecoder(letters, arpa)(30 * path("<pad>", "<pad>"), 0.02).text == ""


def test_words_of_a_file_plain_or_packed(letters, arpa, tmp_path):
    packed = tmp_path / "bigram.arpa.gz"
    packed.write_bytes(gzip.compress(ARPA.encode()))
    assert lm_words(arpa) == lm_words(packed) == ["a", "al"]
    logits = 3 * path("a", "<pad>", "|", "a", "l")
    assert BeamDecoder(letters, packed)(logits, 0.02) == BeamDecoder(letters, arpa)(logits, 0.02)


def test_a_model_made_from_text_by_kaldingram(letters, tmp_path):
    pytest.importorskip("kaldingram", reason="pip install kaldingram")
    text, arpa = tmp_path / "text.txt", tmp_path / "made.arpa"
    text.write_text("a al\na al al\nal a\na al a\n")
    command = [
        sys.executable,
        "-m",
        "kaldingram.cli",
        "train",
        "--ngram-order",
        "3",
        "--text",
        str(text),
        "--lm",
        str(arpa),
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert sorted(lm_words(arpa)) == ["a", "al"]
    assert BeamDecoder(letters, arpa)(5 * path("a", "|", "a", "l"), 0.02).text == "a al"


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"RIFF\xff\xfe", b"\\data\\\nngram 1=3\n\n\\2-grams:\n", b"\x1f\x8bnone"]
)
def test_what_is_no_language_model_is_refused(letters, tmp_path, content):
    file = tmp_path / "bad.arpa"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad.arpa"):
        BeamDecoder(letters, file)


def test_a_cut_file_is_refused(letters, tmp_path):
    file = tmp_path / "cut.arpa"
    file.write_text(ARPA[: ARPA.index("\\2-grams:") + 20])
    with pytest.raises(ValueError, match=r"cut.arpa"):
        BeamDecoder(letters, file)


def test_other_faults_are_named(letters, arpa, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no language model .*absent"):
        BeamDecoder(letters, tmp_path / "absent.arpa")
    capitals = tmp_path / "capitals.arpa"
    capitals.write_text(ARPA.replace("\ta", "\tA").replace("\tal", "\tAL"))
    with pytest.raises(ValueError, match=r"e.g. 'A.*'al': make it from text in these letters"):
        BeamDecoder(letters, capitals)
    with pytest.raises(ValueError, match="beam_width is 0"):
        BeamDecoder(letters, beam_width=0)
    monkeypatch.setitem(sys.modules, "ctc_beam_decoder", None)
    with pytest.raises(ImportError, match="pip install ctc-beam-decoder"):
        BeamDecoder(letters, arpa)
