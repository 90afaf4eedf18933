"""Tables of paired samples, their batches, and training on them beside the modalities."""

import json
import math
import sys
from pathlib import Path

import datasets
import example_images
import numpy as np
import pytest
import torch
from recordings import voice, write
from tiny_runs import arguments, tiny_joint_model, tiny_mix
from transformers import Wav2Vec2FeatureExtractor

from modeling_data2vec import Data2Vec2ForPreTraining
from modeling_data2vec.trainers import Data2VecTrainer, ImageTransform
from modeling_data2vec.trainers.data.samples import IterableSampleDataset, SampleDataset
from modeling_data2vec.trainers.modalities.image import ImageReader
from modeling_data2vec.trainers.modalities.mixture import JointCollator, MixtureDataset, MixtureSource
from modeling_data2vec.trainers.modalities.pairs import PairsCollator, PairsReader, load_pairs, shuffled_pairs
from modeling_data2vec.trainers.modalities.speech import AudioReader
from modeling_data2vec.trainers.modalities.text import SentenceReader
from modeling_data2vec.trainers.modalities.tokenizer_training import train_tokenizer

STAMPS = Path("/usr/share/tuxpaint/stamps")
NAMES = ["zero", "one of them", "two", "three", "four, which is even", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Ten digits as pictures, written names, and sounds of unequal length."""
    folder = tmp_path_factory.mktemp("pairs")
    images = sorted(example_images.save(folder / "pictures").rglob("*.png"))
    rows = []
    for number, (image, name) in enumerate(zip(images, NAMES, strict=False)):
        audio = write(folder / "sounds" / f"{number}.wav", voice(0.12 + 0.01 * number, seed=number))
        rows.append({"image": str(image.relative_to(folder)), "audio": f"sounds/{audio.name}", "text": name})
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def readers(folder: Path) -> dict:
    tokenizer = train_tokenizer(NAMES, 280)
    transform = ImageTransform((8, 8), 1, [0.3], [0.35], crop_scale=(1.0, 1.0), horizontal_flip=False)
    return {
        "audio": AudioReader(Wav2Vec2FeatureExtractor(), max_duration=0.15),
        "text": SentenceReader(tokenizer, max_length=12),
        "vision": ImageReader(transform),
    }


def samples(folder: Path) -> SampleDataset:
    return SampleDataset(load_pairs(str(folder))[0], PairsReader(readers(folder)))


def joint(**fields) -> Data2Vec2ForPreTraining:
    """The tiny joint model, with heads, and with room for the tokenizer's ids."""
    config = tiny_joint_model(cross_modal_layers=1, **fields).config
    config.text_config.vocab_size = 300
    return Data2Vec2ForPreTraining(config)


def test_a_sample_has_what_the_readers_of_its_parts_give(folder):
    dataset, columns = load_pairs(str(folder))
    assert columns == {"audio": "audio", "text": "text", "vision": "image"}
    own = readers(folder)
    sample = PairsReader(own)(dataset[4])["pairs"]
    for name, reader in own.items():
        for key, value in reader(dataset[4]).items():
            assert torch.equal(sample[name][key], value)
    ids = sample["text"]["input_ids"].tolist()
    assert own["text"].read.start == ids[0] and ids[-1] == own["text"].tokenize.end and len(ids) <= 12


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_other_tables_and_other_names_of_columns(folder, suffix):
    table, _ = load_pairs(str(folder))
    renamed = {"photo": [row["image"]["path"] for row in table], "caption": [row["text"] for row in table]}
    file = folder / f"others.{suffix}"
    getattr(datasets.Dataset.from_dict(renamed), f"to_{suffix}")(file)
    dataset, columns = load_pairs(str(file), columns={"vision": "photo", "text": "caption"})
    reader = PairsReader({"vision": ImageReader(readers(folder)["vision"].transform, columns["vision"])})
    assert torch.equal(
        reader(dataset[3])["pairs"]["vision"]["pixel_values"],
        PairsReader(readers(folder))(table[3])["pairs"]["vision"]["pixel_values"],
    )
    file.unlink()


def test_a_streamed_table_gives_the_same_samples(folder):
    dataset, columns = load_pairs(str(folder), streaming=True)
    reader = PairsReader(readers(folder))
    streamed = list(IterableSampleDataset(dataset, reader, augment=False))
    assert columns == {"audio": "audio", "text": "text", "vision": "image"} and len(streamed) == len(NAMES)
    for sample, row in zip(streamed, load_pairs(str(folder))[0], strict=True):
        for name, part in reader(row)["pairs"].items():
            assert all(torch.equal(sample["pairs"][name][key], value) for key, value in part.items())


def test_columns_that_are_no_pairs_are_refused(tmp_path):
    file = tmp_path / "words.jsonl"
    file.write_text('{"text": "a"}\n{"text": "b"}\n')
    with pytest.raises(ValueError, match="two or more modalities"):
        load_pairs(str(file))
    with pytest.raises(ValueError, match=r"'smell'.*audio, spectrogram, text, vision"):
        load_pairs(str(file), columns={"text": "text", "smell": "text"})


def test_incomplete_pairs_are_passed_over(folder, tmp_path, caplog):
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()][:3]
    rows = [row | {"image": str(folder / row["image"]), "audio": str(folder / row["audio"])} for row in rows]
    rows[0]["text"], rows[1]["audio"] = " ", "missing.wav"
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = samples(tmp_path)
    assert torch.equal(found[0]["pairs"]["vision"]["pixel_values"], found[2]["pairs"]["vision"]["pixel_values"])
    assert len(found.unreadable()) == 2
    assert "its text can't be used" in caplog.text and "its clip can't be used" in caplog.text


def test_a_batch_is_padded_by_each_modality(folder):
    model, found = joint(), samples(folder)
    batch = JointCollator(model.config)([found[i] for i in (0, 4, 1)])["pairs"]
    assert batch["vision"]["inputs"].shape == (3, 1, 8, 8) and "attention_mask" not in batch["vision"]
    assert batch["audio"]["attention_mask"].sum(1).tolist() == [1_920, 2_400, 2_080]  # the second is cut at 0.15 s
    lengths = [len(found[i]["pairs"]["text"]["input_ids"]) for i in (0, 4, 1)]
    assert batch["text"]["attention_mask"].sum(1).tolist() == lengths
    assert model(pairs=batch).loss.isfinite()


def test_pairs_are_a_member_of_a_mix(folder, tmp_path):
    model = joint(loss_weights={"pairs": 0.5})
    mix = tiny_mix(model)
    sources = {name: mix.sources[name] for name in ("text", "vision")} | {
        "pairs": MixtureSource(samples(folder), batch_size=5)
    }
    args = arguments(tmp_path, max_steps=4, gradient_accumulation_steps=6, logging_steps=2)
    trainer = Data2VecTrainer(model, args, train_dataset=MixtureDataset(sources))
    before = {name: value.clone() for name, value in model.cross_modal.named_parameters()}
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(entries) == 2
    for entry in entries:
        weighted = (entry["text/loss"] + entry["vision/loss"] + 0.5 * entry["pairs/loss"]) / 2.5
        assert entry["loss"] == pytest.approx(weighted, rel=1e-4)
        assert math.isfinite(entry["pairs/pooled_spread"]) and entry["pairs/constant_loss"] > 0
    assert all(not torch.equal(value, before[name]) for name, value in model.cross_modal.named_parameters())


def test_the_gradient_of_pairs_is_the_mean_over_samples(folder, tmp_path):
    """Two micro-batches of pairs count by their samples, although nothing in them is masked."""
    model, found = joint(), samples(folder)
    trainer = Data2VecTrainer(
        model,
        arguments(tmp_path, max_steps=1, gradient_accumulation_steps=2, max_grad_norm=0.0, learning_rate=0.0),
        train_dataset=MixtureDataset({"pairs": MixtureSource(found, batch_size=5)}),
    )
    batches = [trainer.data_collator([found[i] for i in part]) for part in ((0, 1, 2, 3, 4), (5, 6))]
    losses = [model(**batch).loss.detach() for batch in batches]
    trainer.get_batch_samples(iter(batches), 2, torch.device("cpu"))
    step = trainer._step.loss
    parts = [step.mean_part(loss, batch) for loss, batch in zip(losses, batches, strict=True)]
    torch.testing.assert_close(sum(parts) / 2, (5 * losses[0] + 2 * losses[1]) / 7)


def test_a_model_without_heads_refuses_pairs(folder, tmp_path):
    mix = MixtureDataset({"pairs": MixtureSource(samples(folder), batch_size=5)})
    with pytest.raises(ValueError, match=r"not 'pairs': set cross_modal_layers"):
        Data2VecTrainer(tiny_joint_model(), arguments(tmp_path), train_dataset=mix)


@pytest.mark.skipif(not STAMPS.is_dir(), reason="tuxpaint-stamps-default is not installed")
def test_stamps_as_pairs(tmp_path, monkeypatch):
    """The benchmark's loader, on a part of the stamps."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "benchmarks"), *sys.path])
    import stamps

    part = STAMPS / "animals" / "birds"
    counts = stamps.write(tmp_path / "pairs", ["es", "fr"], part, num_test=4)
    assert counts["test"] == 8 and counts["train"] > 20
    train, test = (load_pairs(str(tmp_path / "pairs"), split=split)[0] for split in ("train", "test"))
    assert not set(train["text"]) & set(test["text"])
    reader = PairsReader({name: readers(tmp_path)[name] for name in ("audio", "vision")})
    sample = reader(test[0])["pairs"]
    assert sample["vision"]["pixel_values"].shape == (1, 8, 8) and sample["audio"]["input_values"].std() > 0.1
    assert np.asarray(stamps.thumbnail(part / "blackbird.png"))[0, 0].tolist() == [0, 0, 0]


def test_nothing_is_masked(folder):
    batch = PairsCollator.of(joint().config)([samples(folder)[0], samples(folder)[1]])
    assert set(batch) == {"pairs"}


def test_a_run_with_masked_pairs_resumes_bit_for_bit(folder, tmp_path):
    def start(place, resume=None):
        model = joint(cross_attention_layers=1)
        mix = tiny_mix(model)
        sources = {"text": mix.sources["text"], "pairs": MixtureSource(samples(folder), batch_size=4)}
        options = {"gradient_accumulation_steps": 2, "clip_modalities": True, "save_strategy": "steps", "save_steps": 2}
        args = arguments(tmp_path / place, max_steps=3, **options)
        trainer = Data2VecTrainer(model, args, train_dataset=MixtureDataset(sources))
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = start("whole")
    resumed = start("resumed", str(tmp_path / "whole" / "checkpoint-2"))
    states = whole.model.state_dict()
    assert all(torch.equal(value, states[name]) for name, value in resumed.model.state_dict().items())
    logged = [entry for entry in whole.state.log_history if "loss" in entry][-1]
    figures = ("cross_position_loss", "cross_modal_weight", "cka_audio_text", "clipped")
    assert all(f"pairs/{name}" in logged for name in figures)


def test_shuffled_pairs_hold_the_same_cells_and_no_pair():
    columns = {"audio": "sound", "text": "words", "vision": "image"}
    rows = datasets.Dataset.from_dict({name: list(range(7)) for name in columns.values()})
    broken = shuffled_pairs(rows, columns)
    assert all(sorted(broken[name]) == list(range(7)) for name in columns.values())
    assert all(len(set(row.values())) == 3 for row in broken)
    assert broken[:] == shuffled_pairs(rows, columns)[:] != shuffled_pairs(rows, columns, seed=1)[:]
    with pytest.raises(ValueError, match="3 pairs of 3 columns"):
        shuffled_pairs(rows.select(range(3)), columns)
