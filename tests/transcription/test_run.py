"""`data2vec transcribe`: a trained recogniser on real recordings, short and long, on the command line."""

import json
import random
import subprocess
import sys

import jiwer
import pytest
import soundfile
import spoken_digits
from recordings import voice, write
from transformers import pipeline

from modeling_data2vec.trainers.cli import run
from modeling_data2vec.trainers.media.audio_decoding import audio_duration, decode_audio
from modeling_data2vec.trainers.transcription.run import SpeechRecognizer

FAMILIES = ["2.0", "1.0"]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    """A recogniser of ten digits, trained on ten recordings, as `save_pretrained` leaves it."""
    folder = tmp_path_factory.mktemp("recogniser")
    files = spoken_digits.digit_files()
    assert len(files) == 10
    model = spoken_digits.recogniser(request.param)
    spoken_digits.train(model, steps=160)
    model.save_pretrained(folder)
    spoken_digits.processor(folder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def files():
    return {word: str(file) for word, file in spoken_digits.digit_files().items()}


@pytest.fixture(scope="module")
def long_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "digits.flac"
    sound, _ = spoken_digits.digits(random.Random(1), 15)
    soundfile.write(path, sound, 16_000)
    return path


def test_real_words_are_heard_with_their_times(folder, files, capsys):
    assert run("transcribe", [str(folder), *files.values()]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{file}\t{word}" for word, file in files.items()]

    assert run("transcribe", [str(folder), files["seven"], "--timestamps"]) == 0
    text, word = capsys.readouterr().out.splitlines()
    start, end, again = word.split()
    assert text == again == "seven"
    assert 0 <= float(start) < float(end) <= audio_duration(files["seven"])

    assert run("transcribe", [str(folder), files["one"], files["two"], "--json", "--timestamps"]) == 0
    one, two = map(json.loads, capsys.readouterr().out.splitlines())
    assert (one["file"], one["text"], two["text"]) == (files["one"], "one", "two")
    assert "".join(letter["text"] for letter in one["letters"]) == one["words"][0]["text"] == "one"


def test_the_pipeline_of_transformers_says_the_same_with_the_same_times(folder, files, long_file):
    recogniser = pipeline("automatic-speech-recognition", model=str(folder), device="cpu")
    ours = SpeechRecognizer.from_pretrained(str(folder))
    for word in ("four", "nine"):
        theirs = recogniser(decode_audio(files[word]), return_timestamps="char")
        (transcript,) = ours.transcribe([files[word]])
        assert theirs["text"] == transcript.text == word
        times = [(chunk["text"], *chunk["timestamp"]) for chunk in theirs["chunks"]]
        assert times == [(one.text, pytest.approx(one.start), pytest.approx(one.end)) for one in transcript.letters]
    # In chunks, too: its stride arithmetic needs inputs_to_logits_ratio of the config.
    chunked = recogniser(decode_audio(long_file), chunk_length_s=6, stride_length_s=1.5)["text"]
    (transcript,) = ours.transcribe([long_file])
    assert jiwer.cer(transcript.text, chunked) < 0.5  # trained on single words, it mishears a row of them


def test_long_recordings_read_the_same_in_windows(folder, long_file):
    recogniser = SpeechRecognizer.from_pretrained(str(folder))
    (expected,) = recogniser.logits([long_file], chunk_seconds=60)
    expected = expected.log_softmax(-1).exp()
    wrong = {}
    for overlap in (0.0, 2.0):
        (logits,) = recogniser.logits([long_file], chunk_seconds=6, overlap_seconds=overlap)
        found = logits.log_softmax(-1).exp()
        wrong[overlap] = float((found.argmax(-1) != expected.argmax(-1)).float().mean())
    assert wrong[2.0] <= wrong[0.0]
    assert wrong[2.0] < 0.05


def test_words_are_those_of_the_language_model(folder, files, tmp_path, capsys):
    pytest.importorskip("ctc_beam_decoder", reason="pip install ctc-beam-decoder")
    arpa = tmp_path / "even.arpa"
    even = spoken_digits.WORDS[::2]
    head = "\\data\\\nngram 1=8\nngram 2=1\n\n\\1-grams:\n-9\t<unk>\t0\n-99\t<s>\t0\n-1\t</s>\n"
    words = "".join(f"-1\t{word}\t0\n" for word in even)
    arpa.write_text(f"{head}{words}\n\\2-grams:\n-1\t<s> two\n\n\\end\\\n")
    asked = [files[word] for word in even]
    assert run("transcribe", [str(folder), *asked, "--lm", str(arpa), "--json", "--timestamps"]) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [result["text"] for result in results] == [result["words"][0]["text"] for result in results] == list(even)
    for file, result in zip(asked, results, strict=True):
        assert 0 <= result["words"][0]["start"] < result["words"][0]["end"] <= audio_duration(file)


def test_faults_are_one_clear_line(tmp_path, capsys, monkeypatch):
    recogniser, pretrained, bare = tmp_path / "recogniser", tmp_path / "pretrained", tmp_path / "bare"
    model = spoken_digits.recogniser("2.0")
    for place in (recogniser, bare):
        model.save_pretrained(place)
    spoken_digits.processor(recogniser).save_pretrained(recogniser)
    model.base_model.save_pretrained(pretrained)
    good = str(write(tmp_path / "good.wav", voice(1)))
    (tmp_path / "broken.wav").write_bytes(b"RIFF no sound")
    (tmp_path / "no.arpa").write_text("hello")

    def fails(*arguments) -> str:
        assert run("transcribe", [str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("data2vec transcribe: ")
        return error

    assert "no file 'absent.wav' (1 of 2 are missing)" in fails(recogniser, good, "absent.wav")
    assert "no trained lm_head" in fails(pretrained, good)
    assert "can't be loaded: name a folder" in fails(tmp_path / "nothing", good)
    assert "can't be loaded" in fails(bare, good)
    (bare / "adapter_config.json").write_text("{}")
    assert "holds an adapter alone: merge it" in fails(bare, good)
    assert "is no language model" in fails(recogniser, good, "--lm", tmp_path / "no.arpa")
    assert "no language model" in fails(recogniser, good, "--lm", tmp_path / "absent.arpa")
    assert "less than half of --chunk_seconds" in fails(recogniser, good, "--chunk_seconds", 5)
    assert run("transcribe", [str(recogniser), str(tmp_path / "broken.wav"), good]) == 2
    printed = capsys.readouterr()
    assert printed.out.startswith(good) and "1 of 2 files can't be transcribed" in printed.err
    monkeypatch.setitem(sys.modules, "ctc_beam_decoder", None)
    assert "pip install ctc-beam-decoder" in fails(recogniser, good, "--lm", tmp_path / "no.arpa")


def test_models_of_other_kinds_are_refused(tmp_path, capsys):
    from tiny_runs import tiny_model

    tiny_model("text 2.0").base_model.save_pretrained(tmp_path / "text")
    good = str(write(tmp_path / "good.wav", voice(1)))
    assert run("transcribe", [str(tmp_path / "text"), good]) == 2
    assert "data2vec2-text model, which has no CTC head" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_runs_by_itself(folder, files):
    command = [sys.executable, "-m", "data2vec_cli", "transcribe", str(folder), files["six"]]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "six\n"
