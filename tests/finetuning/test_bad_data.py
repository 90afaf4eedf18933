"""Labels, transcripts and images that can't be learned from: refused, or passed over with a warning."""

import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image
from tiny_tasks import write_rows

from modeling_data2vec.trainers.finetuning.arguments import FinetuningArguments
from modeling_data2vec.trainers.finetuning.options import FinetuningOptions
from modeling_data2vec.trainers.finetuning.run import finetune


def test_patience_needs_something_to_wait_for(bodies, digits, tmp_path):
    with pytest.raises(ValueError, match="--patience needs data to evaluate on"):
        digits(bodies("images 2.0"), tmp_path, patience=2, eval_split=None)


@pytest.mark.parametrize(
    ("rows", "other", "match"),
    [
        ([{"text": "good"}], None, "has 0 label columns among .*--label_column"),
        ([{"text": "good", "label": "a"}] * 3, None, "one class only"),
        ([{"text": "good", "label": "a"}, {"text": "bad", "label": None}], None, "row 2 has no label"),
        (
            [{"text": "good", "label": "a"}, {"text": "bad", "label": "b"}],
            [{"text": "odd", "label": "c"}] * 2,
            r"'test' has labels that the training split lacks: 'c' \(2x\). Known are a, b: remove these rows",
        ),
    ],
    ids=["no labels", "one class", "a missing label", "an unseen label"],
)
def test_labels_that_can_not_be_learned(rows, other, match, bodies, tmp_path):
    write_rows(tmp_path / "data" / "train.jsonl", rows)
    write_rows(tmp_path / "data" / "test.jsonl", other or rows)
    options = FinetuningOptions(
        str(bodies("text 2.0")), str(tmp_path / "data"), "text-classification", test_split="test"
    )
    with pytest.raises(ValueError, match=match):
        finetune(options, FinetuningArguments(str(tmp_path / "out"), use_cpu=True))


def ctc(model, folder, output, **options):
    args = FinetuningArguments(str(output), use_cpu=True, max_steps=1, per_device_train_batch_size=2, disable_tqdm=True)
    return finetune(FinetuningOptions(str(model), str(folder), "ctc", **options), args)


def recorded(folder, train, test=()):
    """Clips of noise with the given transcripts."""
    folder.mkdir()
    for split, said in (("train", train), ("test", test)):
        for index in range(len(said)):
            noise = 0.1 * np.random.default_rng(index).standard_normal(6_000)
            soundfile.write(folder / f"{split}{index}.wav", noise, 16_000)
        if said:
            rows = [{"path": f"{split}{index}.wav", "text": text} for index, text in enumerate(said)]
            write_rows(folder / f"{split}.jsonl", rows)
    return folder


def test_empty_transcripts_are_passed_over(bodies, tmp_path, caplog):
    folder = recorded(tmp_path / "data", ["ab", "", "  ", "ba"], ["ab", None])
    result = ctc(bodies("speech 2.0"), folder, tmp_path / "out", eval_split="test")
    assert "2 of 4 transcripts are empty, in rows 2, 3" in caplog.text
    assert "its transcript is empty" in caplog.text and "Leaving out clip" in caplog.text
    assert result.metrics["validation"]["wer"] >= 0
    shutil.rmtree(folder)
    with pytest.raises(ValueError, match="all 2 transcripts in column 'text' are empty"):
        ctc(bodies("speech 2.0"), recorded(folder, ["", " "]), tmp_path / "other")


def test_letters_outside_the_vocabulary(bodies, tmp_path, caplog):
    folder = recorded(tmp_path / "data", ["Ab", "ba"], ["aé"])
    result = ctc(bodies("speech 2.0"), folder, tmp_path / "out", test_split="test", lowercase=True)
    assert "letters that the vocabulary lacks: 'é' (1x)" in caplog.text
    assert result.metrics["test"]["cer"] > 0
    assert list(result.task.tokenizer.get_vocab()) == ["<pad>", "<unk>", "|", "a", "b"]
    shutil.rmtree(folder)
    with pytest.raises(ValueError, match=r"lacks letters of the transcripts: 'x' \(2x\).*--drop_letters"):
        ctc(bodies("speech 2.0"), recorded(folder, ["ax", "bx"]), tmp_path / "more", tokenizer=str(tmp_path / "out"))


def test_transcripts_that_do_not_fit_their_clip(bodies, tmp_path, caplog):
    folder = recorded(tmp_path / "data", ["ab", "a" * 30])  # 37 frames, of which 30 equal letters need 59
    ctc(bodies("speech 2.0"), folder, tmp_path / "out")
    assert "1 of 2 clips have fewer frames than their transcript needs" in caplog.text
    assert "train1.wav (37 of 59)" in caplog.text
    assert "its transcript needs 59 frames, but it has 37" in caplog.text
    shutil.rmtree(folder)
    with pytest.raises(ValueError, match=r"2 of 2 clips have fewer .*'text' belong to these clips\?"):
        ctc(bodies("speech 2.0"), recorded(folder, ["a" * 30, "b" * 40]), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_broken_image_does_not_count(bodies, tmp_path, caplog):
    for split, count in (("train", 8), ("test", 3)):
        for name in ("dark", "bright"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for index in range(count):
                shade = np.full((8, 8, 3), 200 if name == "bright" else 20, np.uint8)
                Image.fromarray(shade).save(tmp_path / "data" / split / name / f"{index}.png")
    (tmp_path / "data" / "test" / "dark" / "0.png").write_bytes(b"no image")
    options = FinetuningOptions(
        str(bodies("images 2.0")), str(tmp_path / "data"), "image-classification", eval_split="test"
    )
    args = FinetuningArguments(str(tmp_path / "out"), use_cpu=True, max_steps=1, disable_tqdm=True)
    result = finetune(options, args)
    assert len(result.trainer.eval_dataset) == 5 and "Leaving out image" in caplog.text
