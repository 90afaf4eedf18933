"""Scripts by which a shell's Tab key completes `data2vec`: commands, options, and names of recipes and tasks."""

from dataclasses import fields
from pathlib import Path

from modeling_data2vec.hub_configs import ROOT, recipe_names

from .commands import COMMANDS, Command
from .option_checks import wrong_choice

SHELLS = ("bash", "zsh")
# Files are completed by the shell where nothing of this matches.
SCRIPT = """# Completion for data2vec: eval "$(data2vec completion {shell})"
{preamble}_data2vec() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words=""
    case "$COMP_CWORD ${{COMP_WORDS[1]}} ${{COMP_WORDS[COMP_CWORD-1]}}" in
        "1 "*) words="{commands}" ;;
{values}
        *)
            [[ "$word" == -* ]] && case "${{COMP_WORDS[1]}}" in
{options}
            esac ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _data2vec data2vec"""
PREAMBLE = {"bash": "", "zsh": "autoload -U +X bashcompinit && bashcompinit\n"}


def completion(shell: str) -> str:
    """Write the script for a shell.

    Args:
        shell: "bash" or "zsh".

    Raises:
        ValueError: it is another one.

    Example:
        >>> completion("bash").splitlines()[0]
        '# Completion for data2vec: eval "$(data2vec completion bash)"'
    """
    if not shell:
        raise ValueError(f"name a shell: {' or '.join(SHELLS)}")
    if shell not in SHELLS:
        raise ValueError(wrong_choice("SHELL", shell, SHELLS))
    finetuning = sorted(path.stem for path in Path(ROOT, "finetuning").glob("*.yaml"))
    values = {
        ("pretrain", "--recipe"): recipe_names(),
        ("finetune", "--recipe"): finetuning,
        ("finetune", "--task"): COMMANDS["finetune"].module().TASKS,
        ("inspect", "inspect"): recipe_names(),
        ("completion", "completion"): SHELLS,
    }
    return SCRIPT.format(
        shell=shell,
        preamble=PREAMBLE[shell],
        commands=" ".join(COMMANDS),
        values="\n".join(
            f'        *" {name} {last}") words="{" ".join(of)}" ;;' for (name, last), of in values.items()
        ),
        options="\n".join(
            f'                {name}) words="{_options(name, one)}" ;;' for name, one in COMMANDS.items()
        ),
    )


def _options(name: str, command: Command) -> str:
    """The options that `--help` shows, with a space between two."""
    own = [entry.name for kind in command.kinds() for entry in fields(kind)]
    training = getattr(command.module(), f"{name.upper()}_TRAINING", {}) if own else {}
    return " ".join(f"--{option}" for option in (*own, *training, "plugin", "help"))
