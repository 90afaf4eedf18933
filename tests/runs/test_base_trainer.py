"""What a resumed run is: done where its checkpoint is the end, obedient to new arguments, and true to the best one."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import arguments, tiny_model, tiny_samples

from modeling_data2vec.trainers import CollapseError, Data2VecTrainer, SampleDataset

SETTINGS = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 2}


def train(folder: Path, resume: bool = False, **settings) -> Data2VecTrainer:
    model = tiny_model()
    trainer = Data2VecTrainer(model, arguments(folder, **SETTINGS | settings), train_dataset=tiny_samples(model))
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def assert_equal_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    weights = other.state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(value, weights[name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of six steps."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, train(folder)


@pytest.fixture
def copy(whole, tmp_path):
    return Path(shutil.copytree(whole[0], tmp_path / "run"))


# ---- a run that is done ----


@pytest.mark.parametrize("settings", [{}, {"max_steps": -1, "num_train_epochs": 1.2}, {"max_steps": 5}])
def test_a_run_that_is_done_is_not_trained_on(whole, copy, caplog, settings):
    before = contents(copy)
    for _ in range(2):
        again = train(copy, resume=True, **settings)
        assert again.state.global_step == 6
        assert_equal_weights(again.model, whole[1].model)
        losses = [[e for e in t.state.log_history if "loss" in e] for t in (again, whole[1])]
        assert losses[0] == losses[1] and len(losses[0]) == 6
        assert contents(copy) == before
    assert "checkpoint-6 is the end of the run: nothing is trained" in caplog.text


def test_the_time_of_a_run_is_that_of_all_its_parts(copy):
    state = copy / "checkpoint-6" / "trainer_state.json"
    values = json.loads(state.read_text())
    assert 0 < values["stateful_callbacks"]["RunSettings"]["attributes"]["seconds"] < 60
    values["stateful_callbacks"]["RunSettings"]["attributes"]["seconds"] = 5_000
    state.write_text(json.dumps(values))
    longer = train(copy, resume=True, max_steps=7)
    assert 5_000 < longer.state.log_history[-1]["train_runtime"] < 5_060
    again = train(copy, resume=True, max_steps=7)
    assert 5_000 < again.state.log_history[-1]["train_runtime"] < 5_060


def test_the_random_state_of_a_run_that_is_done_is_that_of_its_end(whole, copy):
    state = torch.load(copy / "checkpoint-6" / "rng_state.pth", weights_only=False)["cpu"]
    train(copy, resume=True)
    assert torch.equal(torch.get_rng_state(), state)


def test_more_steps_go_on_and_equal_a_run_that_never_stopped(copy, tmp_path):
    longer = train(copy, resume=True, max_steps=9, lr_scheduler_type="constant_with_warmup")
    assert longer.state.global_step == 9
    assert sorted(path.name for path in copy.glob("checkpoint-*")) == ["checkpoint-8", "checkpoint-9"]


def test_a_collapsed_run_stays_stopped_unless_it_is_told_not_to(tmp_path):
    model = tiny_model()
    for parameter in model.base_model.parameters():  # features that never change
        parameter.requires_grad_(False)
        parameter.data.zero_()

    def run(resume, **settings):
        args = arguments(tmp_path, **SETTINGS | {"max_steps": 12, "health_start_step": 1} | settings)
        trainer = Data2VecTrainer(model, args, train_dataset=tiny_samples(model))
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    with pytest.raises(CollapseError) as first:
        run(False)
    before = contents(tmp_path)
    with pytest.raises(CollapseError) as second:
        run(True)
    assert str(second.value) == str(first.value) and contents(tmp_path) == before
    assert run(True, stop_on_collapse=False).state.global_step == 12


# ---- new arguments ----


def test_a_resumed_run_obeys_new_steps_of_saves_and_logs(copy):
    shutil.rmtree(copy / "checkpoint-6")
    again = train(copy, resume=True, max_steps=10, save_steps=3, logging_steps=2, save_total_limit=5)
    names = sorted(int(path.name[11:]) for path in copy.glob("checkpoint-*"))
    assert names == [4, 6, 9, 10]
    assert [e["step"] for e in again.state.log_history if "loss" in e] == [1, 2, 3, 4, 6, 8, 10]


def test_nothing_to_resume_is_said(tmp_path, caplog):
    trainer = train(tmp_path / "new", resume=True, max_steps=1)
    assert trainer.state.global_step == 1
    assert f"There is no checkpoint in {tmp_path / 'new'} to go on from: the run starts anew." in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 7}, "seed 42 in {}, 7 now"),
        ({"per_device_train_batch_size": 4}, "global_batch 8 in {}, 4 now"),
        ({"learning_rate": 0.5}, "learning_rate 0.001 in {}, 0.5 now"),
        ({"optim": "sgd"}, 'optim "adamw_torch_fused" in {}, "sgd" now'),
    ],
)
def test_another_run_is_not_gone_on_with(copy, settings, message):
    before = contents(copy)
    with pytest.raises(ValueError) as error:
        train(copy, resume=True, max_steps=9, **settings)
    assert message.format(copy / "checkpoint-6") in str(error.value)
    assert "\n" not in str(error.value) and contents(copy) == before


def test_a_batch_may_be_split_otherwise(copy):
    settings = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    assert train(copy, resume=True, max_steps=7, **settings).state.global_step == 7


def test_other_data_are_not_gone_on_with(copy):
    model = tiny_model()
    trainer = Data2VecTrainer(model, arguments(copy, **SETTINGS), train_dataset=tiny_samples(model, 40))
    with pytest.raises(ValueError, match="samples 45 in .*, 40 now"):
        trainer.train(resume_from_checkpoint=True)
    images = tiny_samples(model)
    others = SampleDataset(images.dataset.select([*range(44), 3]), images.reader)
    with pytest.raises(ValueError, match='data_fingerprint ".*" in .*, ".*" now'):
        Data2VecTrainer(model, arguments(copy, **SETTINGS), train_dataset=others).train(resume_from_checkpoint=True)


def test_settings_are_kept_without_paths(whole):
    state = json.loads((whole[0] / "checkpoint-6" / "trainer_state.json").read_text())
    kept = state["stateful_callbacks"]["RunSettings"]["args"]
    assert kept["seed"] == 42 and kept["global_batch"] == 8 and kept["samples"] == 45
    assert str(whole[0]) not in json.dumps(kept)
    assert load_file(whole[0] / "checkpoint-6" / "model.safetensors")
