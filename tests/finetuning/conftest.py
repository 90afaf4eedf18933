"""Shared by the tests of fine-tuning: data of all tasks, bodies to begin with, and a short run."""

import pytest
from tiny_tasks import body, few_digits, shapes, sounds, speech, texts

from modeling_data2vec.trainers.finetuning.arguments import FinetuningArguments
from modeling_data2vec.trainers.finetuning.options import FinetuningOptions
from modeling_data2vec.trainers.finetuning.run import finetune


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return {
        "ctc": speech(root / "speech"),
        "audio-classification": sounds(root / "sounds"),
        "image-classification": few_digits(root / "digits"),
        "semantic-segmentation": shapes(root / "shapes"),
        "text-classification": texts(root / "texts"),
        "token-classification": root / "texts",
    }


@pytest.fixture(scope="module")
def bodies(tmp_path_factory, tokenizer):
    """Folders of bodies by kind and changes, each made once."""
    root, made = tmp_path_factory.mktemp("bodies"), {}

    def of(kind, **changes):
        key = f"{kind} {sorted(changes.items())}"
        if key not in made:
            made[key] = body(kind, root / str(len(made)), tokenizer, **changes)
        return made[key]

    return of


@pytest.fixture
def digits(data):
    """A short run on a few digits from Python; settings are of the arguments, or of the options by their names."""

    def train(model, output, *, peft_changes=None, **settings):
        names = FinetuningOptions.__dataclass_fields__
        chosen = {name: settings.pop(name) for name in list(settings) if name in names}
        options = {"task": "image-classification", "eval_split": "test"} | chosen
        defaults = {"max_steps": 6, "per_device_train_batch_size": 8, "learning_rate": 3e-3, "disable_tqdm": True}
        args = FinetuningArguments(str(output), use_cpu=True, **(defaults | settings))
        source = str(data["image-classification"])
        return finetune(FinetuningOptions(str(model), source, **options), args, peft_changes=peft_changes)

    return train
