"""Completion in a real shell, by the script that `data2vec completion` prints."""

import shutil
import subprocess

import pytest

import data2vec_cli
from modeling_data2vec.trainers.commands import COMMANDS
from modeling_data2vec.trainers.completion import completion

ASK = """
complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _data2vec; echo "${COMPREPLY[@]}"; }
complete_words data2vec ""
complete_words data2vec pre
complete_words data2vec pretrain --recipe data2vec2-vision-s
complete_words data2vec finetune --task image-c
complete_words data2vec probe --model runs/photos --lay
complete_words data2vec pretrain --max_
complete_words data2vec embed runs/
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_options_and_names():
    done = subprocess.run(["bash", "-c", completion("bash") + ASK], capture_output=True, text=True)
    assert not done.stderr
    assert done.stdout.splitlines() == [
        " ".join(COMMANDS),
        "pretrain",
        "data2vec2-vision-small",
        "image-classification",
        "--layers",
        "--max_steps --max_batch_length",
        "",  # files, which the shell knows
    ]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_takes_the_script():
    done = subprocess.run(["zsh", "-c", f"autoload -U compinit; compinit -D\n{completion('zsh')}"], capture_output=True)
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize(
    ("shell", "said"),
    [(["fish"], "SHELL is 'fish', but must be one of bash, zsh"), ([], "name a shell: bash or zsh")],
    ids=["another", "none"],
)
def test_another_shell_is_wrong_use(shell, said, capsys):
    assert data2vec_cli.main(["completion", *shell]) == 2
    assert capsys.readouterr().err == f"data2vec completion: {said}\n"


def test_the_command_prints_the_script(capsys):
    assert data2vec_cli.main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == completion("bash") + "\n"
