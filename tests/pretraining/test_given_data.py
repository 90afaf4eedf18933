"""What people give any Trainer: raw columns and a processor, processed ones, streams, transforms, datasets."""

import datasets
import numpy as np
import pytest
import soundfile
import torch
from recordings import voice
from tiny_runs import KINDS, arguments, tiny_joint_model, tiny_model
from transformers import (
    AutoTokenizer,
    TrainingArguments,
    ViTImageProcessorPil,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    default_data_collator,
)

from modeling_data2vec import Data2Vec2SpectrogramFeatureExtractor, Data2VecTrainer, Data2VecTrainingArguments
from modeling_data2vec.trainers.data.samples import IterableSampleDataset
from modeling_data2vec.trainers.modalities.image import digits
from modeling_data2vec.trainers.modalities.text import python_docs

BATCH = {"per_device_train_batch_size": 4, "per_device_eval_batch_size": 4, "max_steps": 2}


def recordings_dataset(folder, count: int = 9) -> datasets.Dataset:
    """A column of type Audio, whose files are decoded without torchcodec."""
    paths = []
    for seed in range(count):
        paths.append(str(folder / f"{seed}.wav"))
        soundfile.write(paths[-1], voice(0.2 + 0.02 * seed, seed=seed), 16_000)
    return datasets.Dataset.from_dict({"audio": paths}).cast_column("audio", datasets.Audio())


@pytest.fixture(scope="module")
def raw(tmp_path_factory, tokenizer):
    """A raw dataset of each kind, the processor that a user would pass, and fields of the config that fit it."""
    vocabulary = AutoTokenizer.from_pretrained(tokenizer)
    clips = recordings_dataset(tmp_path_factory.mktemp("clips"))
    text = {"vocab_size": len(vocabulary), "pad_token_id": vocabulary.pad_token_id}
    return {
        "images": (digits().select(range(9)), ViTImageProcessorPil(image_mean=[0.3], image_std=[0.35]), {}),
        "speech": (clips, Wav2Vec2FeatureExtractor(), {}),
        "spectrograms": (clips, Data2Vec2SpectrogramFeatureExtractor(feature_size=16), {}),
        "text": (python_docs().select(range(40)), vocabulary, text),
    }


def trainer_of(folder, model, dataset, **kwargs) -> Data2VecTrainer:
    overrides = kwargs.pop("overrides", {})
    return Data2VecTrainer(model, arguments(folder, **(BATCH | overrides)), train_dataset=dataset, **kwargs)


@pytest.mark.parametrize(
    ("kind", "streaming"),
    [(kind, streaming) for kind in KINDS for streaming in (False, True) if "2.0" in kind or streaming],
)
def test_raw_columns_and_a_processor(kind, streaming, raw, tmp_path):
    dataset, processor, fields = raw[kind.split()[0]]
    dataset = dataset.to_iterable_dataset() if streaming else dataset
    trainer = trainer_of(
        tmp_path, tiny_model(kind, **fields), dataset, eval_dataset=dataset.take(3), processing_class=processor
    )
    trainer.train()
    assert trainer.state.global_step == 2
    first, second = trainer.evaluate(), trainer.evaluate()  # fewer than a batch
    assert first["eval_loss"] == second["eval_loss"] > 0
    trainer.save_model()
    assert type(processor).from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "text" not in kind])
def test_without_a_processor_a_plain_one_is_taken(kind, raw, tmp_path):
    model = tiny_model(kind)
    trainer = trainer_of(tmp_path, model, raw[kind.split()[0]][0])
    assert trainer.processing_class is not None
    assert model(**trainer.data_collator([trainer.train_dataset[index] for index in range(2)])).loss > 0


def test_what_can_not_be_guessed_is_asked_for(raw, tmp_path):
    with pytest.raises(ValueError, match="processing_class is missing: pass the tokenizer"):
        trainer_of(tmp_path, tiny_model("text 2.0"), raw["text"][0])
    with pytest.raises(ValueError, match=r"the splits 'train': pass one of them"):
        trainer_of(tmp_path, tiny_model(), datasets.DatasetDict({"train": raw["images"][0]}))
    with pytest.raises(ValueError, match="the model has audio, vision, text|audio, text, vision"):
        trainer_of(tmp_path, tiny_joint_model(), raw["images"][0])
    with pytest.raises(ValueError, match="are of type tuple, but must be dicts"):
        trainer_of(tmp_path, tiny_model(), [(torch.zeros(1, 8, 8), 0)])
    with pytest.raises(ValueError, match=r"train_dataset have x, but need pixel_values, or raw data as image or img"):
        trainer_of(tmp_path, tiny_model(), [{"x": 1}])


def processed(model) -> list[np.ndarray]:
    """Inputs of any model as a processor would make them, of unequal lengths where that is allowed."""
    rng = np.random.default_rng(0)
    if model.main_input_name == "pixel_values":
        return [rng.normal(size=(1, 8, 8)).astype(np.float32) for _ in range(9)]
    if model.main_input_name == "input_features":
        return [rng.normal(size=(16 + 4 * (i % 2), 16)).astype(np.float32) for i in range(9)]
    if model.main_input_name == "input_ids":
        return [rng.integers(4, 58, size=20 + i % 3) for i in range(9)]
    return [rng.normal(size=1600 + 100 * (i % 3)).astype(np.float32) for i in range(9)]


class OwnDataset(torch.utils.data.Dataset):
    def __init__(self, name, inputs):
        self.name, self.inputs = name, inputs

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return {self.name: self.inputs[index]}


class OwnStream(torch.utils.data.IterableDataset):
    def __init__(self, name, inputs):
        self.name, self.inputs = name, inputs

    def __iter__(self):
        return ({self.name: one} for one in self.inputs)


FORMS = {
    "lists": lambda name, inputs: datasets.Dataset.from_dict({name: [one.tolist() for one in inputs]}),
    "tensors": lambda name, inputs: datasets.Dataset.from_dict({name: inputs}).with_format("torch"),
    "a stream": lambda name, inputs: datasets.Dataset.from_dict({name: inputs}).to_iterable_dataset(),
    "a transform": lambda name, inputs: datasets.Dataset.from_dict({"number": range(9)}).with_transform(
        lambda batch: {name: [torch.from_numpy(inputs[number]) for number in batch["number"]]}
    ),
    "a dataset of one's own": OwnDataset,
    "a stream of one's own": OwnStream,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["images 2.0", "speech 2.0", "spectrograms 2.0", "text 2.0"])
def test_processed_columns_give_equal_samples_in_any_form(kind, form, tmp_path):
    model = tiny_model(kind)
    inputs = processed(model)
    trainer = trainer_of(tmp_path, model, FORMS[form](model.main_input_name, inputs))
    samples = [sample[model.main_input_name] for sample in islice_of(trainer.train_dataset, 9)]
    assert all(torch.equal(sample, torch.from_numpy(one)) for sample, one in zip(samples, inputs, strict=True))
    if form == "lists":
        trainer.train()
        assert trainer.state.global_step == 2


def islice_of(samples, count: int) -> list:
    return list(samples) if isinstance(samples, IterableSampleDataset) else [samples[i] for i in range(count)]


def test_padding_of_processed_columns_is_left_out(tmp_path):
    rows = {"input_ids": [[0, 5, 6, 7, 2, 1, 1]] * 4, "attention_mask": [[1, 1, 1, 1, 1, 0, 0]] * 4}
    trainer = trainer_of(tmp_path, tiny_model("text 2.0"), datasets.Dataset.from_dict(rows))
    assert trainer.train_dataset[0]["input_ids"].tolist() == [0, 5, 6, 7, 2]


def test_raw_samples_of_a_transform_are_read(tmp_path):
    upright = digits().select(range(9)).with_transform(lambda batch: {"image": batch["image"]})
    trainer = trainer_of(tmp_path, tiny_model(), upright)
    assert trainer.train_dataset[0]["pixel_values"].shape == (1, 8, 8)


def test_clips_of_similar_lengths(raw, tmp_path):
    trainer = trainer_of(
        tmp_path, tiny_model("speech 2.0"), raw["speech"][0], overrides={"max_batch_length": 16_000, "max_steps": 1}
    )
    assert len(trainer.train_dataset.lengths) == 9
    trainer.train()
    longest = max(trainer.train_dataset.lengths)
    cropped = trainer_of(
        tmp_path, tiny_model("speech 2.0"), raw["speech"][0], overrides={"max_batch_length": longest - 16}
    ).train_dataset
    assert max(cropped.lengths) == max(len(cropped[place]["input_values"]) for place in range(9)) == longest - 16


def test_a_processor_of_several_and_one_of_another_kind(raw, tmp_path):
    both = Wav2Vec2Processor(Wav2Vec2FeatureExtractor(sampling_rate=8_000), raw["text"][1])
    trainer = trainer_of(tmp_path, tiny_model("speech 2.0"), raw["speech"][0], processing_class=both)
    assert trainer.processing_class.sampling_rate == 8_000
    with pytest.raises(
        ValueError,
        match="processing_class is a .*Tokenizer.*, but the model reads raw images by its image processor: pass that",
    ):
        trainer_of(tmp_path, tiny_model(), raw["images"][0], processing_class=raw["text"][1])
    with pytest.raises(ValueError, match=r"mean and std are of 3 channel\(s\), but the model takes 1"):
        trainer_of(tmp_path, tiny_model(), raw["images"][0], processing_class=ViTImageProcessorPil())


def test_columns_that_are_not_trained_on_are_not_decoded(raw, tmp_path):
    """Sound beside pictures would need torchcodec."""
    both = datasets.concatenate_datasets([raw["images"][0], raw["speech"][0]], axis=1)
    trainer_of(tmp_path, tiny_model(), both).train()
    numbers = [np.zeros((1, 8, 8), np.float32)] * 9
    processed = raw["speech"][0].add_column("pixel_values", [one.tolist() for one in numbers])
    assert trainer_of(tmp_path, tiny_model(), processed).train_dataset[0]["pixel_values"].shape == (1, 8, 8)


def test_the_users_processor_stays_as_it_is(raw, tmp_path):
    dataset, processor, _ = raw["images"]
    trainer = trainer_of(tmp_path, tiny_model(), dataset, processing_class=processor)
    assert trainer.processing_class.size["height"] == 8 and processor.size["height"] == 224


def test_a_folder_stands_for_its_model(raw, tmp_path):
    dataset, processor, _ = raw["images"]
    first = trainer_of(tmp_path / "first", tiny_model(), dataset, processing_class=processor)
    first.save_model()
    trainer = trainer_of(tmp_path / "second", str(tmp_path / "first"), dataset)
    assert list(trainer.processing_class.image_mean) == list(processor.image_mean)  # the folder's own
    assert torch.equal(next(iter(trainer.model.parameters())), next(iter(first.model.parameters())))


def test_no_arguments_and_plain_ones(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Data2VecTrainer(tiny_model(), train_dataset=raw["images"][0]).args.output_dir == "trainer_output"
    plain = TrainingArguments("x", max_steps=2, learning_rate=0.01, use_cpu=True, report_to="none")
    trainer = Data2VecTrainer(tiny_model(), plain, train_dataset=raw["images"][0])
    assert isinstance(trainer.args, Data2VecTrainingArguments)
    assert (trainer.args.learning_rate, trainer.args.max_steps, trainer.args.adam_beta2) == (0.01, 2, 0.95)


def test_a_collator_of_ones_own_gets_the_data_as_they_are(raw, tmp_path):
    seen = []

    def collate(examples):
        seen.append(sorted(examples[0]))
        raise KeyboardInterrupt

    trainer = trainer_of(tmp_path, tiny_model(), raw["images"][0], data_collator=collate)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert seen == [["image", "label"]]


def test_a_collator_without_masks_is_refused(tmp_path):
    images = [{"pixel_values": torch.rand(1, 8, 8)}] * 9
    trainer = trainer_of(tmp_path, tiny_model(), images, data_collator=default_data_collator, eval_dataset=images)
    for run in (trainer.train, trainer.evaluate):
        with pytest.raises(ValueError, match="makes batches of pixel_values without a mask: leave it out, or take"):
            run()


def test_a_run_on_raw_columns_goes_on_bit_for_bit(raw, tmp_path):
    dataset, processor, _ = raw["images"]

    def run(folder, steps: int) -> Data2VecTrainer:
        overrides = {"max_steps": steps, "save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "constant"}
        trainer = trainer_of(folder, tiny_model(), dataset, processing_class=processor, overrides=overrides)
        trainer.train(resume_from_checkpoint=True)
        return trainer

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "parts", 2)
    parts = run(tmp_path / "parts", 4)
    assert parts.state.global_step == 4
    states = whole.model.state_dict()
    assert all(torch.equal(value, states[name]) for name, value in parts.model.state_dict().items())
