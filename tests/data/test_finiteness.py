"""NaN is named where it comes in, and a run whose loss or weights are no numbers ends as a collapsed one."""

import math
from collections.abc import Sequence

import datasets
import numpy as np
import pytest
import torch
from tiny_runs import arguments, tiny_model, tiny_samples
from tiny_tasks import body
from transformers import TrainerCallback

import data2vec_cli
from modeling_data2vec.trainers import CollapseError, Data2VecTrainer, SampleDataset, mask_collator
from modeling_data2vec.trainers.data.finiteness import CheckedCollator, is_finite, weights_are_finite
from modeling_data2vec.trainers.data.samples import read_labelled
from modeling_data2vec.trainers.finetuning.arguments import FinetuningArguments
from modeling_data2vec.trainers.finetuning.options import FinetuningOptions
from modeling_data2vec.trainers.finetuning.run import finetune
from modeling_data2vec.trainers.finetuning.tasks.task import Task
from modeling_data2vec.trainers.modalities.pairs import PairsReader


def test_what_is_finite():
    assert is_finite(torch.full((2,), 3e38)), "their sum is none"
    assert is_finite(torch.arange(3.0)) and is_finite("text") and is_finite(torch.arange(3)) and is_finite(None)
    for bad in (math.nan, math.inf, -math.inf):
        assert not is_finite(torch.tensor([1.0, bad])) and not is_finite(np.array([bad]))
        assert not is_finite({"pairs": {"text": torch.tensor([1]), "audio": torch.tensor([bad])}})
    model = torch.nn.Linear(2, 2)
    assert weights_are_finite(model)
    with torch.no_grad():
        model.bias[1] = math.inf
    assert not weights_are_finite(model)


def test_a_batch_with_nan_names_the_sample():
    collate = CheckedCollator(lambda samples: {"pixel_values": torch.stack([one["pixel_values"] for one in samples])})
    samples = [{"pixel_values": torch.zeros(2), "key": 7 + place} for place in range(3)]
    assert collate(samples)["pixel_values"].shape == (3, 2)
    samples[1]["pixel_values"][0] = math.nan
    with pytest.raises(ValueError, match=r"a sample \(with key 8, number 1 of its batch\) has NaN .* in pixel_values"):
        collate(samples)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_of_ones_own_with_nan_in_it(tmp_path, workers, caplog):
    """It is passed over like any bad sample; with a collator of one's own, samples are taken as they are: refused."""
    model = tiny_model()
    given = tiny_samples(model, 16)
    samples = [given[place] for place in range(16)]
    samples[11]["pixel_values"] = torch.full_like(samples[11]["pixel_values"], math.nan)
    args = arguments(tmp_path / "run", dataloader_num_workers=workers)
    trainer = Data2VecTrainer(model, args, train_dataset=samples)
    trainer.train()
    assert weights_are_finite(model)
    assert workers or "Passing over sample 11: NaN or infinity in its pixel_values" in caplog.text
    args = arguments(tmp_path / "own", dataloader_num_workers=workers)
    with pytest.raises(
        ValueError, match=rf"a sample \(with key {samples[11]['key']}, .*NaN or infinity in pixel_values"
    ):
        Data2VecTrainer(model, args, mask_collator(model.config), train_dataset=samples).train()


class OneBad:
    noun = "clip"

    def __call__(self, example, rng):
        number = example["number"]
        return {"input_values": torch.full((400,), math.nan if number == 2 else float(number))}

    def name(self, example):
        return f"clips/{example['number']}.wav"


def clips(numbers: Sequence[int]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"number": list(numbers), "label": [number % 2 for number in numbers]})


def test_samples_with_nan_are_passed_over_by_name(caplog):
    samples = SampleDataset(clips(range(4)), OneBad())
    assert float(samples[2]["input_values"][0]) == 3.0
    assert "Passing over clips/2.wav: NaN or infinity in its input_values" in caplog.text
    assert samples.unreadable() == ["clips/2.wav"]
    with pytest.raises(
        ValueError, match=r"none of the 1 clips can be read; the first is clips/2\.wav: NaN or infinity"
    ):
        SampleDataset(clips([2]), OneBad())[0]


class OfClips(Task):
    def __init__(self):
        pass

    def reader(self, dataset, *, training):
        return OneBad()


def test_samples_with_nan_do_not_count(caplog):
    """In figures of a split they are left out by name, and no neighbor stands in for them."""
    kept = OfClips().evaluation_samples(clips(range(4)), "test")
    assert [float(kept[place]["input_values"][0]) for place in range(len(kept))] == [0, 1, 3]
    assert "Leaving out clip clips/2.wav of split 'test': NaN or infinity in its input_values" in caplog.text
    samples, labels = read_labelled(clips(range(4)), OneBad(), source="sounds", split="train")
    assert [float(sample["input_values"][0]) for sample in samples] == [0, 1, 3] and labels.tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match=r"none of the clips of split 'test' can be read; the first is clips/2\.wav"):
        OfClips().evaluation_samples(clips([2]), "test")
    with pytest.raises(ValueError, match=r"of sounds, split 'test', can be read; the first is clips/2\.wav: NaN"):
        read_labelled(clips([2]), OneBad(), source="sounds", split="test")


def test_a_pair_with_nan_is_passed_over(caplog):
    pairs = SampleDataset(clips(range(4)), PairsReader({"audio": OneBad()}))
    assert float(pairs[2]["pairs"]["audio"]["input_values"][0]) == 3.0
    assert "Passing over clips/2.wav: its clip can't be used: NaN or infinity in its input_values" in caplog.text


class Poison(TrainerCallback):
    """Makes a weight NaN after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            with torch.no_grad():
                next(iter(kwargs["model"].parameters())).fill_(math.nan)


@pytest.mark.parametrize(
    ("step", "match"),
    [
        (3, r"diverged: the loss became nan after the last log, between steps 0 and 5"),
        (5, r"diverged: at step 5 weights are NaN or infinite"),
    ],
)
def test_nan_that_no_log_shows_is_a_collapse(tmp_path, step, match):
    model = tiny_model()
    args = arguments(tmp_path, logging_steps=50)
    trainer = Data2VecTrainer(model, args, train_dataset=tiny_samples(model), callbacks=[Poison(step)])
    with pytest.raises(CollapseError, match=match):
        trainer.train()


def test_checkpoints_of_nan_replace_no_healthy_ones(tmp_path):
    model = tiny_model()
    args = arguments(tmp_path, max_steps=6, logging_steps=50, save_strategy="steps", save_steps=1, save_total_limit=2)
    trainer = Data2VecTrainer(model, args, train_dataset=tiny_samples(model), callbacks=[Poison(4)])
    with pytest.raises(CollapseError):
        trainer.train()
    assert {path.name for path in tmp_path.glob("checkpoint-*")} >= {"checkpoint-2", "checkpoint-3"}


def test_the_command_says_so_and_not_please_report_this(tmp_path, capsys, monkeypatch):
    """A learning rate that is far too high, and a log that never comes."""
    argv = ["pretrain", "--recipe", "data2vec2-vision-tiny", "--dataset", "digits", "--use_cpu", "--max_steps", "4"]
    argv += ["--per_device_train_batch_size", "4", "--warmup_steps", "0", "--learning_rate", "1e15"]
    argv += ["--max_grad_norm", "0", "--logging_steps", "100", "--save_strategy", "no", "--disable_tqdm", "true"]
    argv += ["--config", "hidden_size=16", "intermediate_size=32", "num_hidden_layers=1", "num_attention_heads=2"]
    argv += ["decoder_dim=16", "num_prenet_layers=0", "average_top_k_layers=1", "--output_dir", str(tmp_path / "run")]
    assert data2vec_cli.main(argv) == 3
    err = capsys.readouterr().err
    assert "data2vec pretrain: The run diverged: " in err and "lower learning_rate" in err
    assert "report" not in err and "Traceback" not in err


def test_a_diverged_fine_tuning_ends_as_a_collapse(tmp_path, digits_to_classify, caplog):
    options = FinetuningOptions(
        task="image-classification", model=str(body("images 2.0", tmp_path / "body")), dataset=str(digits_to_classify)
    )
    settings = {"learning_rate": 1e15, "max_grad_norm": 0.0, "warmup_steps": 0, "lr_scheduler_type": "constant"}
    settings |= {"max_steps": 8, "per_device_train_batch_size": 8, "use_cpu": True, "disable_tqdm": True}
    for logging_steps, max_steps, said in ((1, 8, ""), (100, 8, ""), (100, 1, "the model's outputs are NaN")):
        output = tmp_path / f"out{logging_steps}-{max_steps}"
        args = FinetuningArguments(str(output), logging_steps=logging_steps, **settings | {"max_steps": max_steps})
        with pytest.raises(CollapseError, match=f"The run diverged: {said}.*lower learning_rate"):
            finetune(options, args)
        assert not list(output.glob("*.safetensors"))


@pytest.fixture
def digits_to_classify(tmp_path):
    from tiny_tasks import few_digits

    return few_digits(tmp_path / "digits")
