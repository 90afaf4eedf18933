"""A run says what it trains on, and one without a step is refused before it writes anything."""

import datasets
import pytest
import torch
from example_images import save as save_images
from tiny_runs import (
    NUM_SAMPLES,
    OF_MODALITIES,
    Sentences,
    arguments,
    digit_images,
    tiny_joint_model,
    tiny_mix,
    tiny_model,
    tiny_samples,
)

from modeling_data2vec.trainers import Data2VecTrainer
from modeling_data2vec.trainers.cli import run
from modeling_data2vec.trainers.data.samples import IterableSampleDataset, SampleDataset
from modeling_data2vec.trainers.modalities.image import ImageReader, load_images
from modeling_data2vec.trainers.modalities.mixture import MixtureDataset, MixtureSource

TINY = ["hidden_size=16", "num_hidden_layers=2", "average_top_k_layers=2", "num_attention_heads=2"]
TINY += ["intermediate_size=32", "decoder_dim=16", "decoder_layers=2", "num_masks=2"]
FAST = ["--use_cpu", "--disable_tqdm", "true", "--logging_steps", "1", "--warmup_steps", "0"]


def trainer_of(folder, kind="images 2.0", num=NUM_SAMPLES, **settings) -> Data2VecTrainer:
    model = tiny_model(kind)
    return Data2VecTrainer(model, arguments(folder, **settings), train_dataset=tiny_samples(model, num))


def stream_of(num: int) -> IterableSampleDataset:
    rows = datasets.IterableDataset.from_generator(lambda: ({"number": number} for number in range(num)))

    class Rows(Sentences):
        def __call__(self, example, rng):
            return super().__call__(example["number"], rng)

    return IterableSampleDataset(rows, Rows())


# ---- what a run says ----


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_steps": 20}, "45 images; 5 batches of 8; 5 steps an epoch; 20 steps are 4 epochs of them"),
        ({"max_steps": 1_234_565}, "5 steps an epoch; 1,234,565 steps are 246,913 epochs of them"),
        ({"max_steps": -1, "num_train_epochs": 1.5}, "8 steps are 1.6 epochs of them"),
        (
            {"max_steps": 3, "gradient_accumulation_steps": 2},
            "5 batches of 8, 2 a step; 3 steps an epoch; 3 steps are 1 epoch of them",
        ),
        ({"max_steps": 1, "dataloader_drop_last": False}, "6 batches of at most 8; 6 steps an epoch; 1 step is 0.167"),
    ],
)
def test_plan_of_one_modality(tmp_path, settings, said):
    assert said in str(trainer_of(tmp_path, **settings).plan())


def test_plan_of_a_mix_and_of_streams(tmp_path):
    model = tiny_joint_model()
    args = arguments(tmp_path, gradient_accumulation_steps=3)
    plan = Data2VecTrainer(model, args, train_dataset=tiny_mix(model)).plan()
    assert str(plan) == (
        "audio: 45 clips, 11 batches of 4; text: 37 sentences, 9 batches of 4; "
        "vision: 29 images, 7 batches of 4; 3 batches a step; 11 steps an epoch; 5 steps are 0.455 epochs of them"
    )
    model = tiny_model("text 2.0")
    plan = Data2VecTrainer(model, arguments(tmp_path), train_dataset=stream_of(9)).plan()
    assert str(plan) == "a stream of sentences in batches of 8; 5 steps of an endless stream"


def test_a_plan_draws_no_random_numbers(tmp_path):
    trainer = trainer_of(tmp_path)
    before = torch.get_rng_state()
    trainer.plan()
    assert torch.equal(torch.get_rng_state(), before)


def test_folders_of_files_are_counted(tmp_path):
    model = tiny_model()
    dataset, column = load_images(str(save_images(tmp_path / "digits")), split="train")
    images = SampleDataset(dataset, ImageReader(digit_images(model.config).reader.transform, column))
    plan = Data2VecTrainer(model, arguments(tmp_path / "run"), train_dataset=images).plan()
    assert str(plan).startswith("12 images in 3 folders; 1 batch of 8; 1 step an epoch; ")


# ---- what is refused ----


def recipe(name: str) -> list[str]:
    return ["--recipe", f"data2vec2-{name}-tiny"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max_steps", "2", "--per_device_train_batch_size", "3000"], "1,297 images, but a batch of 3000 takes 3000"),
        (["--max_steps", "0"], "max_steps is 0, but must be at least 1"),
        (["--max_steps", "-7"], "max_steps is -7"),
        (["--max_steps", "-1", "--num_train_epochs", "0"], "num_train_epochs is 0.0, but must be above 0"),
        (["--max_steps", "-1", "--num_train_epochs", "-2"], "num_train_epochs is -2"),
        (["--max_steps", "-1", "--num_train_epochs", "nan"], "num_train_epochs is nan"),
        (["--max_steps", "2", "--gradient_accumulation_steps", "-1"], "gradient_accumulation_steps is -1"),
        (["--max_steps", "2", "--gradient_accumulation_steps", "0"], "gradient_accumulation_steps is 0"),
    ],
)
def test_a_run_without_a_step_writes_nothing(tmp_path, capsys, options, message):
    output = tmp_path / "runs" / "run"
    argv = [*recipe("vision"), "--dataset", "digits", *FAST, *options, "--output_dir", str(output), "--config", *TINY]
    assert run("pretrain", argv) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", ["images 2.0", "speech 2.0", "text 2.0"])
def test_fewer_samples_than_a_batch(tmp_path, kind):
    with pytest.raises(ValueError, match="^7 .*, but a batch of 8 takes 8, so there is nothing to train on: lower"):
        trainer_of(tmp_path, kind, 7).train()
    kept = trainer_of(tmp_path / "kept", kind, 7, dataloader_drop_last=False, max_steps=2)
    kept.train()
    assert kept.state.global_step == 2


def test_a_tiny_modality_of_a_mix_is_named(tmp_path):
    model = tiny_joint_model()
    sources = {
        name: MixtureSource(tiny_samples(tiny_model(OF_MODALITIES[name]), 20), 4) for name in ("audio", "vision")
    }
    few = MixtureSource(SampleDataset(range(3), Sentences()), 4)
    args = arguments(tmp_path, gradient_accumulation_steps=3)
    with pytest.raises(ValueError, match=r"^text: 3 samples make 0 batch\(es\) of 4"):
        Data2VecTrainer(model, args, train_dataset=MixtureDataset({**sources, "text": few}))
    streamed = {"audio": sources["audio"], "vision": sources["vision"], "text": MixtureSource(stream_of(9), 4)}
    streamed["vision"] = MixtureSource(tiny_samples(tiny_model(), 3), 4)
    with pytest.raises(ValueError, match="^vision: 3 samples"):
        Data2VecTrainer(model, args, train_dataset=MixtureDataset(streamed))


@pytest.mark.parametrize(("num", "message"), [(0, "none of the sentences of a stream can be read"), (3, None)])
def test_a_stream_shorter_than_a_step_starts_again(tmp_path, num, message):
    settings = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4, "max_steps": 2}
    trainer = Data2VecTrainer(tiny_model("text 2.0"), arguments(tmp_path, **settings), train_dataset=stream_of(num))
    if message:
        with pytest.raises(ValueError, match=message):
            trainer.train()
    else:
        trainer.train()
        assert trainer.state.global_step == 2


class Short(torch.utils.data.Dataset):
    """Says that it has 20 samples of text."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return {"input_ids": torch.arange(4, 28)}


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, length):
        self.length = length

    def __iter__(self):
        return ({"input_ids": torch.arange(4, 28)} for _ in range(self.length))


def test_data_that_end_early_are_no_success(tmp_path):
    model = tiny_model("text 2.0")
    with pytest.raises(ValueError, match="max_steps has to be specified"):
        Data2VecTrainer(model, arguments(tmp_path, max_steps=-1), train_dataset=Stream(9)).train()
    with pytest.raises(ValueError, match="train_dataset is empty"):
        Data2VecTrainer(model, arguments(tmp_path), train_dataset=Stream(0))
    trainer = Data2VecTrainer(model, arguments(tmp_path, max_steps=-1, num_train_epochs=1), train_dataset=Short())
    whole, trainer.get_batch_samples = trainer.get_batch_samples, lambda *_: ([], None)
    with pytest.raises(ValueError, match="no step in it"):
        trainer.train()
    trainer.get_batch_samples = lambda *given: whole(*given) if trainer.state.global_step < 1 else ([], None)
    with pytest.raises(ValueError, match="ended after 1 of 2 steps"):
        trainer.train()
