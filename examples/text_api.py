"""Text from a `datasets.Dataset` to pushed models in Python alone, on the language reference that comes with Python.

A tokenizer; pretraining twice, by a recipe and as with any Trainer; fine-tuning by transformers' own Trainer, whole and
by LoRA: which chapter is a paragraph from?

    python examples/text_api.py runs/text_api 300
    python examples/text_api.py runs/text_api 300 NAMESPACE/NAME  # pushes as well
"""

import re
import sys
from pydoc_data.topics import topics

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)

from modeling_data2vec import (
    Data2Vec2TextConfig,
    Data2Vec2TextForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
    load_recipe,
    load_text,
    train_tokenizer,
)

CHAPTERS = ("compound", "specialnames", "types", "string-methods")


def pretrain_by_recipe(texts: Dataset, tokenizer: str, folder: str, steps: int, repository: str | None):
    recipe = load_recipe("data2vec2-text-tiny")
    model, data = recipe.build(texts, tokenizer=tokenizer)
    arguments = recipe.arguments(folder, max_steps=steps, warmup_steps=steps // 10, hub_model_id=repository)
    trainer = Data2VecTrainer(model, arguments, train_dataset=data)
    trainer.train(resume_from_checkpoint=True)
    trainer.save_model()
    if repository:
        trainer.push_to_hub()
    return trainer


def pretrain_as_any_trainer(texts: Dataset, tokenizer: PreTrainedTokenizerBase, folder: str, steps: int):
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 128}
    config = Data2Vec2TextConfig(vocab_size=len(tokenizer), **ids, **sizes)
    arguments = Data2VecTrainingArguments(folder, max_steps=steps, learning_rate=1e-3)
    model = Data2Vec2TextForPreTraining(config)
    trainer = Data2VecTrainer(model, arguments, train_dataset=texts, processing_class=tokenizer)
    trainer.train()
    return trainer


def finetune(pretrained: str, train: Dataset, test: Dataset, folder: str, steps: int, *, lora: bool) -> Trainer:
    tokenizer = AutoTokenizer.from_pretrained(pretrained)
    model = AutoModelForSequenceClassification.from_pretrained(pretrained, num_labels=len(CHAPTERS))
    if lora:
        modules = {"target_modules": ["qkv", "proj", "fc1", "fc2"], "modules_to_save": ["classifier"]}
        model = get_peft_model(model, LoraConfig(r=8, **modules))
    tokens = [data.map(lambda row: tokenizer(row["text"], truncation=True, max_length=128)) for data in (train, test)]
    trainer = Trainer(
        model,
        TrainingArguments(folder, max_steps=steps, learning_rate=1e-3),
        DataCollatorWithPadding(tokenizer),
        train_dataset=tokens[0],
        eval_dataset=tokens[1],
        compute_metrics=lambda outputs: {"accuracy": (outputs.predictions.argmax(-1) == outputs.label_ids).mean()},
    )
    trainer.train()
    print("LoRA" if lora else "all weights", trainer.evaluate())
    return trainer


def main(folder: str, steps: int, repository: str | None = None) -> list[Trainer]:
    texts, _ = load_text("python-docs")
    tokenizer = train_tokenizer(texts["text"], 1_000)
    tokenizer.save_pretrained(f"{folder}/tokenizer")
    pretrained = f"{folder}/recipe"
    trainers: list[Trainer] = [
        pretrain_by_recipe(texts, f"{folder}/tokenizer", pretrained, steps, repository),
        pretrain_as_any_trainer(texts, tokenizer, f"{folder}/plain", steps),
    ]
    paragraphs = [(text, label) for label, name in enumerate(CHAPTERS) for text in re.split(r"\n\s*\n", topics[name])]
    rows = {"text": [text for text, _ in paragraphs], "label": [label for _, label in paragraphs]}
    chapters = Dataset.from_dict(rows).filter(lambda row: len(row["text"]) > 40).train_test_split(0.2, seed=0)
    for name in ("whole", "lora"):
        data = chapters["train"], chapters["test"]
        trainers.append(finetune(pretrained, *data, f"{folder}/{name}", steps, lora=name == "lora"))
        if repository:
            trainers[-1].model.push_to_hub(f"{repository}-{name}")
    return trainers


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
