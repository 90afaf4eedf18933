"""Speech from a `datasets.Dataset` to pushed models in Python alone; each folder of recordings is a class.

Pretraining twice, by a recipe and as with any Trainer; fine-tuning by transformers' own Trainer, whole and by LoRA.
With Debian packages of telephone prompts (`apt-get install asterisk-core-sounds-en-g722 asterisk-core-sounds-fr-g722`),
the classes are languages:

    python examples/speech_api.py /usr/share/asterisk/sounds runs/speech_api 300
    python examples/speech_api.py /usr/share/asterisk/sounds runs/speech_api 300 NAMESPACE/NAME  # pushes as well
"""

import sys
from pathlib import Path

from datasets import Audio, ClassLabel, Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from modeling_data2vec import (
    Data2Vec2AudioConfig,
    Data2Vec2AudioForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
    decode_audio,
    load_recipe,
)

SECONDS = 3  # of a clip that fine-tuning reads


def open_recordings(folder: str) -> Dataset:
    files = sorted(file for file in Path(folder).rglob("*") if file.suffix in (".wav", ".flac", ".g722"))
    files = [file for file in files if file.stat().st_size]  # one of the Russian prompts is empty
    names = sorted({file.relative_to(folder).parts[0] for file in files})
    rows = {"audio": list(map(str, files)), "label": [file.relative_to(folder).parts[0] for file in files]}
    return Dataset.from_dict(rows).cast_column("audio", Audio()).cast_column("label", ClassLabel(names=names))


def pretrain_by_recipe(clips: Dataset, folder: str, steps: int, repository: str | None) -> Data2VecTrainer:
    recipe = load_recipe("data2vec2-audio-tiny")
    model, data = recipe.build(clips)
    arguments = recipe.arguments(folder, max_steps=steps, warmup_steps=steps // 10, hub_model_id=repository)
    trainer = Data2VecTrainer(model, arguments, train_dataset=data)
    trainer.train(resume_from_checkpoint=True)
    trainer.save_model()
    if repository:
        trainer.push_to_hub()
    return trainer


def pretrain_as_any_trainer(clips: Dataset, folder: str, steps: int) -> Data2VecTrainer:
    config = Data2Vec2AudioConfig(hidden_size=64, num_hidden_layers=2, conv_dim=[64] * 7, num_masks=4)
    extractor = AutoFeatureExtractor.from_pretrained(load_recipe("data2vec2-audio-tiny").config)
    arguments = Data2VecTrainingArguments(folder, max_steps=steps, learning_rate=1e-3, max_batch_length=320_000)
    model = Data2Vec2AudioForPreTraining(config)
    trainer = Data2VecTrainer(model, arguments, train_dataset=clips, processing_class=extractor)
    trainer.train()
    return trainer


def finetune(pretrained: str, train: Dataset, test: Dataset, folder: str, steps: int, *, lora: bool) -> Trainer:
    extractor = AutoFeatureExtractor.from_pretrained(pretrained)
    num_labels = train.features["label"].num_classes
    model = AutoModelForAudioClassification.from_pretrained(pretrained, num_labels=num_labels)
    if lora:
        modules = {"target_modules": ["qkv", "proj", "fc1", "fc2"], "modules_to_save": ["projector", "classifier"]}
        model = get_peft_model(model, LoraConfig(r=8, **modules))

    def processed(batch):
        waves = [decode_audio(file)[: SECONDS * 16_000] for file in batch["audio"]]
        return {**extractor(waves, sampling_rate=16_000), "labels": batch["label"]}

    trainer = Trainer(
        model,
        TrainingArguments(folder, max_steps=steps, learning_rate=1e-3, remove_unused_columns=False),
        DataCollatorWithPadding(extractor),
        train_dataset=train.cast_column("audio", Audio(decode=False)).with_transform(processed),
        eval_dataset=test.cast_column("audio", Audio(decode=False)).with_transform(processed),
        compute_metrics=lambda outputs: {"accuracy": (outputs.predictions.argmax(-1) == outputs.label_ids).mean()},
    )
    trainer.train()
    print("LoRA" if lora else "all weights", trainer.evaluate())
    return trainer


def main(recordings: str, folder: str, steps: int, repository: str | None = None) -> list[Trainer]:
    clips = open_recordings(recordings).train_test_split(0.2, seed=0)
    pretrained = f"{folder}/recipe"
    trainers: list[Trainer] = [
        pretrain_by_recipe(clips["train"], pretrained, steps, repository),
        pretrain_as_any_trainer(clips["train"], f"{folder}/plain", steps),
    ]
    for name in ("whole", "lora"):
        trainer = finetune(pretrained, clips["train"], clips["test"], f"{folder}/{name}", steps, lora=name == "lora")
        trainers.append(trainer)
        if repository:
            trainer.model.push_to_hub(f"{repository}-{name}")
    return trainers


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
