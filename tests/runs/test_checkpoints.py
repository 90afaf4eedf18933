"""A damaged checkpoint, or one of another model, is refused in one line that names the file or the field."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_runs import arguments, tiny_joint_model, tiny_mix, tiny_model, tiny_samples

from modeling_data2vec.trainers import Data2VecTrainer
from modeling_data2vec.trainers.runs.checkpoints import check_files, check_same_model

SETTINGS = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    model = tiny_model()
    Data2VecTrainer(model, arguments(folder, **SETTINGS), train_dataset=tiny_samples(model)).train()
    return folder


@pytest.fixture
def copy(run, tmp_path):
    return Path(shutil.copytree(run, tmp_path / "out"))


def resume(folder: Path, model, samples=None, **settings) -> None:
    samples = samples or tiny_samples(model)
    trainer = Data2VecTrainer(model, arguments(folder, **SETTINGS | settings), train_dataset=samples)
    trainer.train(resume_from_checkpoint=True)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = [
    *((name, truncate) for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")),
    *((name, truncate) for name in ("trainer_state.json", "config.json")),
    *((name, empty) for name in ("model.safetensors", "optimizer.pt", "trainer_state.json")),
    ("optimizer.pt", flip),
    ("trainer_state.json", lambda file: file.write_text("[]")),
    ("trainer_state.json", lambda file: file.write_text('{"global_step": "two", "log_history": []}')),
    ("config.json", lambda file: file.write_text("[]")),
    ("config.json", lambda file: file.write_text("[" * 100_000)),
    ("trainer_state.json", lambda file: file.write_bytes(b"\xff\xfe{}")),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_a_damaged_file_is_named(copy, name, damage):
    last = copy / "checkpoint-2"
    damage(last / name)
    with pytest.raises(ValueError) as error:
        resume(copy, tiny_model())
    message = str(error.value)
    assert message.startswith(f"{last / name} is damaged (") and "\n" not in message
    assert message.endswith(f"remove the folder {last} to go on from checkpoint-1")


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_file_of_another_kind_is_named(copy, name):
    torch.save({"state": {}, "param_groups": []}, copy / "checkpoint-2" / name)
    with pytest.raises(ValueError, match=f"{name}.* of .*checkpoint-2 can't be loaded for this run .*: remove the fo"):
        resume(copy, tiny_model())


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt"])
def test_weights_alone_are_not_gone_on_from(copy, name):
    (copy / "checkpoint-2" / name).unlink()
    with pytest.raises(ValueError, match=f"checkpoint-2 has no {name}, as with --save_only_model, .* with --model"):
        resume(copy, tiny_model())


@pytest.mark.parametrize("name", ["model.safetensors", "trainer_state.json"])
def test_a_missing_file_is_named(copy, name):
    (copy / "checkpoint-2" / name).unlink()
    shutil.rmtree(copy / "checkpoint-1")
    with pytest.raises(ValueError, match=f"checkpoint-2 has no {name}: remove the folder .* to start anew"):
        resume(copy, tiny_model())


def test_what_advice_says_works(copy):
    truncate(copy / "checkpoint-2" / "optimizer.pt")
    shutil.rmtree(copy / "checkpoint-2")
    resume(copy, tiny_model())
    check_files(copy / "checkpoint-2")
    with pytest.raises(ValueError, match="there is no checkpoint .*checkpoint-9"):
        check_files(copy / "checkpoint-9")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 32}, "hidden_size 16 in {}, 32 now"),
        ({"num_hidden_layers": 3}, "num_hidden_layers 2 in {}, 3 now"),
        ({"mask_prob": 0.5, "num_masks": 3}, "mask_prob 0.6 in {}, 0.5 now, num_masks 2 in {}, 3 now"),
    ],
)
def test_another_width_is_named(copy, changes, message):
    with pytest.raises(ValueError) as error:
        resume(copy, tiny_model(**changes))
    assert message.format(*[copy / "checkpoint-2"] * 2) in str(error.value)


def test_another_modality_is_named(copy):
    with pytest.raises(ValueError, match='model_type "data2vec2-vision" in .*, "data2vec2-text" now'):
        resume(copy, tiny_model("text 2.0"))
    joint = tiny_joint_model()
    with pytest.raises(ValueError, match='model_type "data2vec2-vision" in .*, "data2vec2" now'):
        resume(copy, joint, tiny_mix(joint), gradient_accumulation_steps=3)


def test_the_teachers_schedule_may_change(copy):
    check_same_model(copy / "checkpoint-2", tiny_model(ema_anneal_end_step=99))


def test_the_field_of_a_modality_of_a_joint_model_is_named(tmp_path):
    joint = tiny_joint_model()
    joint.config.architectures = [type(joint).__name__]
    joint.config.save_pretrained(tmp_path)
    check_same_model(tmp_path, joint)
    joint.config.vision_config.num_masks = 7
    with pytest.raises(ValueError, match="num_masks 2 in .*, 7 now"):
        check_same_model(tmp_path, joint)


def test_the_number_of_classes_and_the_head_are_named(tmp_path):
    from transformers import AutoModelForImageClassification

    config = tiny_model().config
    config.num_labels = 3
    model = AutoModelForImageClassification.from_config(config)
    model.save_pretrained(tmp_path)
    check_same_model(tmp_path, model)
    config.num_labels = 4
    with pytest.raises(ValueError, match="id2label .*, label2id .*"):
        check_same_model(tmp_path, model)
    config.num_labels = 3
    with pytest.raises(ValueError, match="architectures .*ForImageClassification.* now"):
        check_same_model(tmp_path, tiny_model())


def test_an_adapter_is_not_a_whole_model(tmp_path):
    from transformers import AutoModelForImageClassification

    from modeling_data2vec.trainers.finetuning.adapters import with_adapter

    config = tiny_model().config
    torch.manual_seed(0)
    model = AutoModelForImageClassification.from_config(config)
    adapter = with_adapter(model, "lora", {"r": 4}, fresh=["classifier.weight"])
    adapter.save_pretrained(tmp_path)
    check_same_model(tmp_path, adapter)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings | {"r": 8}))
    with pytest.raises(ValueError, match="r 8 in .*, 4 now"):
        check_same_model(tmp_path, adapter)
    with pytest.raises(ValueError, match="holds an adapter, but the run trains the whole model"):
        check_same_model(tmp_path, AutoModelForImageClassification.from_config(config))
