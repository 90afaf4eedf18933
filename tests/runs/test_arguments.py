"""bf16 is used where it can run, and asked for in vain in one line."""

import pytest
import transformers.training_args

import data2vec_cli
from modeling_data2vec import Data2VecTrainingArguments, load_recipe
from modeling_data2vec.trainers.option_parser import OptionParser
from modeling_data2vec.trainers.runs import arguments


@pytest.fixture(params=[False, True], ids=["without", "with a GPU that has it"])
def has_bf16(request, monkeypatch):
    for module in (arguments, transformers.training_args):
        monkeypatch.setattr(module, "is_torch_bf16_gpu_available", lambda: request.param)
    monkeypatch.setattr(arguments, "gpu_computes_in_bf16", lambda: request.param)
    return request.param


def test_auto_takes_what_is_there(has_bf16, tmp_path):
    assert Data2VecTrainingArguments(str(tmp_path), bf16="auto").bf16 is has_bf16
    assert Data2VecTrainingArguments(str(tmp_path), bf16="auto", use_cpu=True).bf16 is False
    recipe = load_recipe("data2vec2-vision-small")
    assert Data2VecTrainingArguments(str(tmp_path), **recipe.training_arguments()).bf16 is has_bf16


def test_asked_for_in_vain(has_bf16, tmp_path):
    if has_bf16:
        assert Data2VecTrainingArguments(str(tmp_path), bf16=True).bf16 is True
        return
    with pytest.raises(ValueError, match="no GPU here computes in bfloat16: leave it out, or give --bf16 auto"):
        Data2VecTrainingArguments(str(tmp_path), bf16=True)


def test_command_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(arguments, "is_torch_bf16_gpu_available", lambda: False)
    monkeypatch.setattr(arguments, "gpu_computes_in_bf16", lambda: False)
    parser = OptionParser("pretrain", Data2VecTrainingArguments)
    given = ["--recipe", "data2vec2-vision-tiny", "--dataset", "digits", "--output_dir", str(tmp_path / "run")]
    assert parser.parse([*given, "--bf16", "auto"])[1].bf16 is False
    for words, said in ((["--bf16"], "--bf16 is given, but no GPU"), (["--bf16", "maybe"], "--bf16")):
        assert data2vec_cli.main(["pretrain", *given, *words]) == 2
        assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_shards_want_several_processes(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="start them with torchrun"):
        Data2VecTrainingArguments(str(tmp_path), use_cpu=True, fsdp=True)
    monkeypatch.setattr(Data2VecTrainingArguments, "world_size", 4)
    with pytest.raises(ValueError, match="dp_replicate_size of --fsdp_config is 3, but must divide the 4 processes"):
        Data2VecTrainingArguments(str(tmp_path), use_cpu=True, fsdp=True, fsdp_config={"dp_replicate_size": 3})
    args = Data2VecTrainingArguments(str(tmp_path), use_cpu=True, fsdp=True, fsdp_config={"dp_replicate_size": 2})
    assert args.parallelism_config.dp_shard_size == 2
