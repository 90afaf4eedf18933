"""The `data2vec` command as a user types it: what it prints, what it leaves behind and how it ends."""

import gc
import json
import subprocess
import sys

import pytest
from tqdm.auto import tqdm
from transformers import AutoModel
from transformers.utils import logging

import data2vec_cli
from modeling_data2vec import __version__
from modeling_data2vec.hub_configs import recipe_names
from modeling_data2vec.trainers import cli
from modeling_data2vec.trainers.commands import COMMANDS
from modeling_data2vec.trainers.recipes.recipe import load_recipe

TINY = [
    *("--config", "hidden_size=16", "num_hidden_layers=2", "average_top_k_layers=2", "num_attention_heads=2"),
    *("intermediate_size=32", "decoder_dim=16", "decoder_groups=2", "decoder_layers=2", "num_masks=2"),
]
SHORT = ["--warmup_steps", "1", "--per_device_train_batch_size", "5", "--use_cpu", "--logging_steps", "1"]
PRETRAIN = ["pretrain", "--recipe", "data2vec2-vision-tiny", *TINY, *SHORT, "--dataset", "digits"]


@pytest.fixture(autouse=True)
def progress_bars():
    yield
    logging.enable_progress_bar()


def run(capsys, *argv: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in this process."""
    code = data2vec_cli.main([str(word) for word in argv])
    out, err = capsys.readouterr()
    return code, out, err


# ---- without any work ----


@pytest.mark.parametrize(
    ("argv", "printed"),
    [([], "usage: data2vec COMMAND"), (["--help"], "pretrain"), (["--version"], __version__)],
    ids=["nothing", "help", "version"],
)
def test_help_answers_without_importing_torch(argv, printed):
    script = f"import sys, data2vec_cli; code = data2vec_cli.main({argv!r}); print('torch' in sys.modules, code)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert printed in result.stdout
    assert result.stdout.splitlines()[-1] == "False 0"


def test_help_names_commands_and_exit_codes(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(word in out for word in ("pretrain", "probe", "inspect", "exit codes", "3 the run collapsed"))


def test_unknown_command(capsys):
    for word, hint in (("train", "did you mean pretrain? Choose"), ("xyz", "choose")):
        code, out, err = run(capsys, word)
        assert code == 2 and not out
        assert err == f"data2vec: unknown command {word!r}: {hint} one of {', '.join(COMMANDS)}\n"


# ---- wrong use: exit code 2 and one line ----


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--recipe", "data2vec2-vision-tinny"], ["did you mean data2vec2-vision-tiny?", *recipe_names()]),
        (["--config", "hiden_size=16"], ["unknown key 'hiden_size'", "did you mean hidden_size"]),
        (["--config", "hidden_size"], ["--config takes NAME=VALUE, not 'hidden_size'"]),
        (["--config", "num_attention_heads=5"], ["num_attention_heads is 5", "does not divide hidden_size 64"]),
        (["--config", "num_channels=3"], ["mean and std are of 1 channel(s), but the model takes 3", "in the recipe"]),
        (
            ["--dataset", "/missing/folder"],
            ["there is no file or folder '/missing/folder' here"],
        ),
        (["--dataset", "."], ["holds no images"]),
        (["--split", "validation"], ["'train' and 'test', not 'validation'"]),
        (["--column", "picture"], ["no column 'picture', only ['image', 'label']"]),
        (["--probe_split", "dev"], ["'train' and 'test', not 'dev'"]),
        (["--max_steps", "3"], ["warmup_steps is 40", "max_steps 3", "lower warmup_steps"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) and value[0].startswith("--") else "",
)
def test_wrong_use_is_explained_in_one_line(tmp_path, monkeypatch, capsys, argv, parts):
    monkeypatch.chdir(tmp_path)
    required = {"--recipe": "data2vec2-vision-tiny", "--dataset": "digits"}
    given = [part for option, value in required.items() if option not in argv for part in (option, value)]
    code, _, err = run(capsys, "pretrain", *given, "--use_cpu", *argv, "--output_dir", tmp_path / "run")
    lines = [line for line in err.splitlines() if line.startswith("data2vec pretrain:")]
    assert code == 2 and len(lines) == 1
    assert err.splitlines()[-1] == lines[0]
    for part in parts:
        assert part in lines[0], part
    assert not list(tmp_path.glob("run/checkpoint-*"))


def test_unknown_option_is_wrong_use(tmp_path, capsys):
    code, out, err = run(capsys, *PRETRAIN, "--output_dir", tmp_path, "--lerning_rate", "1")
    assert code == 2 and not out
    listed = "`data2vec pretrain --help` lists all options"
    assert err == f"data2vec pretrain: there is no option --lerning_rate: did you mean --learning_rate? {listed}\n"


@pytest.mark.parametrize("command", ["inspect", "probe"])
def test_a_model_that_is_not_there(tmp_path, capsys, command):
    target = ["--model", tmp_path / "none", "--dataset", "digits"] if command == "probe" else [tmp_path / "none"]
    code, _, err = run(capsys, command, *target)
    assert code == 2
    assert err.splitlines()[-1].startswith(f"data2vec {command}:") and "none" in err


def test_probe_labels_must_be_numbers(capsys):
    code, _, err = run(capsys, "probe", "--model", "x", "--dataset", "digits", "--labels", "many")
    assert code == 2
    assert "--labels takes whole numbers from 1 or 'all', not 'many'" in err


# ---- a run that ends badly: exit code 3 ----


def test_a_diverging_run_is_stopped_with_a_checkpoint(tmp_path, capsys):
    extra = ["--learning_rate", "1e12", "--max_grad_norm", "0", "--lr_scheduler_type", "constant", "--max_steps", "20"]
    code, out, err = run(capsys, *PRETRAIN, *extra, "--output_dir", tmp_path)
    assert code == 3
    assert "data2vec pretrain: The run diverged" in err and "lower learning_rate" in err
    assert len(list(tmp_path.glob("checkpoint-*"))) == 1
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert "Pictures:" in out and "equal features" not in out


# ---- from nothing to a probed model ----


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A run of three steps, its stdout and its folder."""
    folder = tmp_path_factory.mktemp("run")
    argv = [*PRETRAIN, "--max_steps", "3", "--save_steps", "3", "--probe_split", "test", "--probe_limit", "150"]
    script = "import sys, data2vec_cli; sys.exit(data2vec_cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, *argv, "--output_dir", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder, result, argv


def test_a_run_leaves_model_pictures_and_report(pretrained):
    folder, result, _ = pretrained
    for name in ("model.safetensors", "config.json", "preprocessor_config.json", "probe.json"):
        assert (folder / name).is_file(), name
    for name in ("curves.png", "masks.png", "pca.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG"), name
    assert f"Saved to {folder}; AutoModel.from_pretrained loads it with equal features." in result.stdout
    table = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert any("random weights" in line for line in table) and any("raw pixels" in line for line in table)
    report = json.loads((folder / "probe.json").read_text())
    assert {row["features"] for row in report["rows"]} == {"model", "random weights", "raw pixels"}
    assert AutoModel.from_pretrained(folder).config.hidden_size == 16
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    recipe = load_recipe("data2vec2-vision-tiny")
    assert (processor["size"]["height"], processor["size"]["width"]) == recipe.model_config().image_shape
    assert tuple(processor["image_mean"]) == recipe.augmentation["mean"]


def test_a_run_says_that_its_batch_is_not_the_recipes(pretrained):
    _, result, _ = pretrained
    batch = load_recipe("data2vec2-vision-tiny").global_batch
    assert f"made for {batch} images in an optimizer step; this run has 5" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_earlier_run_is_not_overwritten_but_can_go_on(pretrained, capsys):
    folder, _, argv = pretrained
    before = (folder / "model.safetensors").read_bytes()
    code, _, err = run(capsys, *argv, "--output_dir", folder)
    assert code == 2
    assert "already holds checkpoint-3 of an earlier run: pass --resume" in err
    assert (folder / "model.safetensors").read_bytes() == before

    longer = [*argv[: argv.index("--probe_split")], "--max_steps", "5", "--resume"]
    code, out, err = run(capsys, *longer, "--output_dir", folder)
    assert code == 0, err
    state = json.loads((folder / "checkpoint-5" / "trainer_state.json").read_text())
    assert [entry["step"] for entry in state["log_history"] if "loss" in entry] == [1, 2, 3, 4, 5]
    assert "equal features" in out


def test_a_run_can_start_from_a_model(pretrained, tmp_path, capsys):
    folder, _, _ = pretrained
    code, out, err = run(capsys, *PRETRAIN, "--model", folder, "--max_steps", "2", "--output_dir", tmp_path)
    assert code == 0, err
    assert "equal features" in out


def test_inspect_the_model(pretrained, capsys):
    code, out, _ = run(capsys, "inspect", pretrained[0], "--batch_size", "4")
    assert code == 0
    assert "parameters" in out.lower() and "flop" in out.lower()


def test_inspect_a_recipe(capsys):
    code, out, _ = run(capsys, "inspect", "data2vec2-vision-base")
    assert code == 0 and "75" in out


def test_probe_the_model(pretrained, tmp_path, capsys):
    output = tmp_path / "new" / "table.json"
    options = ["--labels", "30", "all", "--seeds", "0", "--limit", "120", "--output", output]
    code, out, err = run(capsys, "probe", "--model", pretrained[0], "--dataset", "digits", *options)
    assert code == 0, err
    assert out.count("| model") and out.count("random weights") and out.count("raw pixels")
    assert {row["labels"] for row in json.loads(output.read_text())["rows"]} == {30, 120}


def test_an_error_is_the_last_line_after_a_progress_bar(monkeypatch, capsys):
    bars = []

    def fail(argv):
        bars.append(tqdm(total=2))
        bars[0].update()
        raise ValueError("what is wrong")

    monkeypatch.setattr(cli, "run_recipes", fail)
    assert data2vec_cli.main(["recipes"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "data2vec recipes: what is wrong"
    del bars[0]
    gc.collect()
    assert not capsys.readouterr().err
