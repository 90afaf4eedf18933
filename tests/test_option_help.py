"""`data2vec COMMAND --help`: quick, on one screen, and about options that there are."""

import subprocess
import sys
from dataclasses import fields

import pytest

import data2vec_cli
from modeling_data2vec import Data2VecTrainingArguments, FinetuningArguments
from modeling_data2vec.trainers import cli
from modeling_data2vec.trainers.commands import COMMANDS
from modeling_data2vec.trainers.finetuning.options import FINETUNE_GROUPS, FINETUNE_TRAINING, TASKS
from modeling_data2vec.trainers.finetuning.tasks.all_tasks import TASKS as TASK_CLASSES
from modeling_data2vec.trainers.option_help import option_help
from modeling_data2vec.trainers.option_parser import OptionParser
from modeling_data2vec.trainers.pretraining.options import PRETRAIN_GROUPS, PRETRAIN_TRAINING

ALL_HELP = """
import sys, data2vec_cli
for name in sys.argv[1:]:
    assert data2vec_cli.main([name, "--help"]) == 0
print({"torch", "transformers", "datasets", "numpy"} & set(sys.modules))
import modeling_data2vec
print(modeling_data2vec.load_recipe("data2vec2-vision-tiny").name)
"""


def test_no_help_needs_torch_and_the_package_can_be_imported_afterwards():
    command = [sys.executable, "-c", ALL_HELP, *COMMANDS]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == ["set()", "data2vec2-vision-tiny"]
    for name in COMMANDS:
        assert f"usage: data2vec {name}" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_a_screen_and_names_all_options(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "110")
    assert data2vec_cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 70 and max(map(len, shown.splitlines())) <= 120
    command = COMMANDS[name]
    for kind in command.kinds():
        assert all(f"  --{entry.name}" in shown for entry in fields(kind))
    assert all(f"  {argument.metavar or argument.name}" in shown for argument in command.arguments)
    assert all(f"  {example}\n" in shown for example in command.examples)
    if name != "completion":  # which is answered without the package
        assert callable(getattr(cli, f"run_{name.replace('-', '_')}"))


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_understood(name):
    more = {"pretrain": [Data2VecTrainingArguments], "finetune": [FinetuningArguments]}.get(name, [])
    for example in COMMANDS[name].examples:
        words = example.split()
        assert words[:2] == ["data2vec", name]
        OptionParser(name, *more).parse(words[2:])


def test_groups_and_training_options_are_those_that_there_are():
    for name, groups in {"pretrain": PRETRAIN_GROUPS, "finetune": FINETUNE_GROUPS}.items():
        own = [entry.name for kind in COMMANDS[name].kinds() for entry in fields(kind)]
        grouped = [one for names in groups.values() for one in names]
        assert set(grouped) <= set(own) and len(grouped) == len(set(grouped))
    for names, kind in ((PRETRAIN_TRAINING, Data2VecTrainingArguments), (FINETUNE_TRAINING, FinetuningArguments)):
        assert set(names) <= {entry.name for entry in fields(kind)}
    assert tuple(TASK_CLASSES) == TASKS


def test_defaults_that_are_written_down_are_those_of_the_code():
    defaults = {entry.name: entry.default for entry in fields(FinetuningArguments)}
    for name, text in FINETUNE_TRAINING.items():
        if "default: " in text and name != "output_dir":
            assert float(text.partition("default: ")[2].rstrip(".")) == defaults[name]


def test_recipes_values_are_shown_as_defaults():
    shown = " ".join(option_help("pretrain", ["--help", "--recipe", "data2vec2-text-tiny"]).split())
    assert "Optimizer steps of the run. (the recipe's: 2400)" in shown
    shown = " ".join(option_help("finetune", ["--recipe", "audio-base-1h"]).split())
    assert "Instead: optimizer steps. (the recipe's:" in shown
    for recipe in ("none-such", "/"):
        assert "the recipe's:" not in option_help("pretrain", ["--recipe", recipe])


def test_all_options_of_the_trainer_on_request(capsys):
    with pytest.raises(SystemExit) as end:
        data2vec_cli.main(["pretrain", "--help-all"])
    shown = capsys.readouterr().out
    assert end.value.code == 0 and "--torch_compile_backend" in shown and "--probe_split" in shown
    assert len(shown.splitlines()) > 300
