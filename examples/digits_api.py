"""Images from a `datasets.Dataset` to pushed models in Python alone, on scikit-learn's digits.

Pretraining twice, by a recipe and as with any Trainer; fine-tuning by transformers' own Trainer, whole and by LoRA.

    python examples/digits_api.py runs/digits_api 400
    python examples/digits_api.py runs/digits_api 400 NAMESPACE/NAME  # pushes as well
"""

import sys

from datasets import Dataset, Image
from peft import LoraConfig, get_peft_model
from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer, TrainingArguments

from modeling_data2vec import (
    Data2Vec2VisionConfig,
    Data2Vec2VisionForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
    load_images,
    load_recipe,
)


def pretrain_by_recipe(images: Dataset, folder: str, steps: int, repository: str | None) -> Data2VecTrainer:
    recipe = load_recipe("data2vec2-vision-tiny")
    model, data = recipe.build(images)
    arguments = recipe.arguments(folder, max_steps=steps, warmup_steps=steps // 10, hub_model_id=repository)
    trainer = Data2VecTrainer(model, arguments, train_dataset=data)
    trainer.train(resume_from_checkpoint=True)
    trainer.save_model()
    if repository:
        trainer.push_to_hub()
    return trainer


def pretrain_as_any_trainer(images: Dataset, test: Dataset, folder: str, steps: int) -> Data2VecTrainer:
    config = Data2Vec2VisionConfig(hidden_size=64, num_hidden_layers=3, image_size=16, patch_size=2, num_channels=1)
    processor = AutoImageProcessor.from_pretrained(load_recipe("data2vec2-vision-tiny").config)
    arguments = Data2VecTrainingArguments(folder, max_steps=steps, learning_rate=2e-3, warmup_steps=steps // 10)
    trainer = Data2VecTrainer(
        Data2Vec2VisionForPreTraining(config),
        arguments,
        train_dataset=images,
        eval_dataset=test,
        processing_class=processor,
    )
    trainer.train()
    print(trainer.evaluate())
    return trainer


def finetune(pretrained: str, train: Dataset, test: Dataset, folder: str, steps: int, *, lora: bool) -> Trainer:
    processor = AutoImageProcessor.from_pretrained(pretrained)
    model = AutoModelForImageClassification.from_pretrained(pretrained, num_labels=10)
    if lora:
        modules = {"target_modules": ["qkv", "proj", "fc1", "fc2"], "modules_to_save": ["fc_norm", "classifier"]}
        model = get_peft_model(model, LoraConfig(r=8, **modules))

    def processed(batch):
        return {"pixel_values": processor(batch["image"], return_tensors="pt").pixel_values, "labels": batch["label"]}

    trainer = Trainer(
        model,
        TrainingArguments(folder, max_steps=steps, learning_rate=1e-3, remove_unused_columns=False),
        train_dataset=train.with_transform(processed),
        eval_dataset=test.with_transform(processed),
        compute_metrics=lambda outputs: {"accuracy": (outputs.predictions.argmax(-1) == outputs.label_ids).mean()},
    )
    trainer.train()
    print("LoRA" if lora else "all weights", trainer.evaluate())
    return trainer


def main(folder: str, steps: int, repository: str | None = None) -> list[Trainer]:
    images, test = (load_images("digits", split=split)[0].cast_column("image", Image()) for split in ("train", "test"))
    pretrained = f"{folder}/recipe"
    trainers = [
        pretrain_by_recipe(images, pretrained, steps, repository),
        pretrain_as_any_trainer(images, test, f"{folder}/plain", steps),
    ]
    for name in ("whole", "lora"):
        trainer = finetune(pretrained, images, test, f"{folder}/{name}", steps, lora=name == "lora")
        trainers.append(trainer)
        if repository:
            trainer.model.push_to_hub(f"{repository}-{name}")
    return trainers


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
