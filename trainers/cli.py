"""The commands behind `data2vec`, a function each: options in, and what they print. The work is done elsewhere.

`commands.py` has their table. Each function imports what it needs: a command does not wait for the others' libraries.
"""

import argparse
import json
import os
import shlex
import sys
import traceback
from pathlib import Path

from transformers.utils import logging as transformers_logging

from .errors import FAILED, in_one_line
from .hub.preflight import PublishError
from .logging import bars_closed, errors_only, errors_only_at_root, information_shown
from .monitoring.health import CollapseError
from .named_values import assignments, named_value
from .option_parser import OptionParser
from .plugins import import_plugin, split_plugins
from .runs.stopping import StoppedError, signals_call, stop_at_once

BUG = (
    "this is a mistake in data2vec or in a package that it uses: please report it, with the lines above and what "
    "`pip freeze` prints"
)


@errors_only("datasets")
def run(command: str, argv: list[str]) -> int:
    """Run a command; returns the exit code, `data2vec --help` says which.

    What people, files, disks and servers do ends in one line; a mistake in this code in its traceback.
    """
    transformers_logging.disable_progress_bar()  # of loading and saving weights; training has its own
    try:
        with signals_call(stop_at_once), information_shown(), bars_closed():
            for file in split_plugins(argv)[0]:
                import_plugin(file)
            words = ["--help" if word == "--help-all" else word for word in argv]
            globals()[f"run_{command.replace('-', '_')}"](words)
    except StoppedError as error:
        print(f"data2vec {command}: {error}{_how_to_go_on(command, argv)}", file=sys.stderr)
        return error.number + 128
    except CollapseError as error:
        print(f"data2vec {command}: {error}", file=sys.stderr)
        return 3
    except Exception as error:
        said = (str(error), FAILED) if type(error) is PublishError else in_one_line(error)
        if said is None:
            traceback.print_exc()
            said = (BUG, FAILED)
        print(f"data2vec {command}: {said[0]}", file=sys.stderr)
        return said[1]
    return 0


def _how_to_go_on(command: str, argv: list[str]) -> str:
    """The command line that goes on with a run, without what it would not need or nobody should read."""
    if command == "embed":
        return ". The same command goes on behind the parts that are finished"
    if command not in ("pretrain", "finetune") or int(os.environ.get("RANK", "0")):
        return ""
    words: list[str] = []
    name = ""
    for word in argv:
        if word.startswith("--"):
            name = word.partition("=")[0]
        if name not in ("--resume", "--resume_from_checkpoint", "--hub_token"):
            words.append(word)
    return f". To go on:\n{shlex.join(['data2vec', command, *words, '--resume'])}"


def _chosen(option: str, argv: list[str]) -> str | None:
    """The value of an option on which the defaults of others depend, such as --recipe."""
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument(f"--{option}", nargs="?")  # without a value, the whole parser says that one is missing
    return getattr(chooser.parse_known_args(argv)[0], option)


# ---- pretrain ----


def run_pretrain(argv: list[str]) -> None:
    from .pretraining.run import pretrain
    from .pretraining.schedule import given_values, scaled_recipe_of
    from .recipes.adapting import recipe_of
    from .recipes.batch_scaling import TEACHER
    from .recipes.recipe import load_recipe
    from .runs.arguments import Data2VecTrainingArguments

    parser = OptionParser("pretrain", Data2VecTrainingArguments)
    chosen = _chosen("recipe", argv)
    if chosen is None and (adapted := _chosen("adapt", argv)):
        chosen = recipe_of(adapted)
        argv = ["--recipe", chosen, *argv]
    if chosen is None:
        parser.parse(argv)  # shows the help, or says that a recipe is required
        return
    recipe = load_recipe(chosen)
    parser.set_defaults(output_dir=f"runs/{recipe.name}", **recipe.training_arguments())
    options, args = parser.parse(argv)
    changes = assignments(options.config, "--config")
    given = given_values(args, parser.given(argv), changes)
    if options.scale_to_batch is not None or options.adapt:
        recipe = scaled_recipe_of(options, args, recipe, parser.given(argv), given)
        parser.set_defaults(**recipe.training_arguments())
        options, args = parser.parse(argv)
        changes = {name: recipe.config_overrides[name] for name in TEACHER if name in recipe.config_overrides} | changes
    pretrain(options, args, recipe, changes, given)


# ---- finetune ----


def run_finetune(argv: list[str]) -> None:
    from .finetuning.arguments import FinetuningArguments
    from .finetuning.recipe import load_finetune_recipe
    from .finetuning.run import finetune

    chosen = _chosen("recipe", argv)
    recipe = load_finetune_recipe(chosen) if chosen else None
    parser = OptionParser("finetune", FinetuningArguments)
    parser.set_defaults(output_dir="runs/finetuned", **(recipe.defaults() if recipe else {}))
    options, args = parser.parse(argv)
    finetune(
        options,
        args,
        config_changes=(recipe.config_overrides if recipe else {}) | assignments(options.config, "--config"),
        peft_changes=assignments(options.peft_config, "--peft_config"),
        recipe=recipe,
    )


# ---- probe ----


def run_probe(argv: list[str]) -> None:
    from .evaluation.run import probe

    parser = OptionParser("probe")
    (options,) = parser.parse(argv)
    print(probe(options).to_markdown())


# ---- evaluate ----


def run_evaluate(argv: list[str]) -> None:
    from .evaluation.run import evaluate

    parser = OptionParser("evaluate")
    (options,) = parser.parse(argv)
    evaluate(options)
    print(f"Wrote {Path(options.output_dir) / 'report.md'}, its figures and report.json.")


# ---- embed ----


def run_embed(argv: list[str]) -> None:
    from .embedding.run import embed_to_file

    parser = OptionParser("embed")
    options, rest = parser.parse(argv)
    print(embed_to_file(rest.model, rest.data, options))


# ---- tokenizer ----


def run_tokenizer(argv: list[str]) -> None:
    from .modalities.tokenizer_training import build_tokenizer

    parser = OptionParser("tokenizer")
    (options,) = parser.parse(argv)
    tokenizer = build_tokenizer(options)
    print(f"Saved a tokenizer of {len(tokenizer):,} tokens to {options.output_dir}.")


# ---- inspect ----


def run_inspect(argv: list[str]) -> None:
    from modeling_data2vec.hub_configs import recipe_names

    from .inspection.report import inspect_target

    parser = OptionParser("inspect")
    options, rest = parser.parse(argv)
    if rest.target is None:
        return print("\n".join(recipe_names()))
    print(inspect_target(rest.target, **vars(options)).to_text())


# ---- explore ----


def run_explore(argv: list[str]) -> None:
    from .exploring.run import explore

    parser = OptionParser("explore")
    options, rest = parser.parse(argv)
    explore(rest.model, rest.data, options)


# ---- merge ----


def run_merge(argv: list[str]) -> None:
    from .conversion.merge import merge

    parser = OptionParser("merge")
    options, rest = parser.parse(argv)
    sources = {}
    for text in rest.sources:
        name, source = named_value(text)
        if name is None or name in sources:
            raise ValueError(f"{text!r} is no MODALITY=MODEL, or a second one: give audio=..., text=... or vision=...")
        sources[name] = source
    joint = merge(sources, options, assignments(options.config, "--config"))
    print(f"Wrote {options.output_dir}: {', '.join(joint.config.modalities)} around one trunk ({options.trunk}).")


# ---- recipes ----


def run_recipes(argv: list[str]) -> None:
    from .recipes.published import listing

    OptionParser("recipes").parse(argv)
    print(listing())


def run_recipe_check(argv: list[str]) -> None:
    from modeling_data2vec.hub_configs import recipe_names

    from .recipes.published import check_recipe
    from .recipes.recipe import load_recipe

    parser = OptionParser("recipe-check")
    (options,) = parser.parse(argv)
    for name in options.recipe or recipe_names():
        recipe = load_recipe(name)
        print("\n  ".join([recipe.name, *check_recipe(recipe)]))


# ---- convert ----


def run_convert(argv: list[str]) -> None:
    from .conversion.run import convert

    parser = OptionParser("convert")
    options, rest = parser.parse(argv)
    model = convert(rest.source, rest.destination, options)
    what = "a checkpoint for fairseq" if model is None else f"a {type(model).__name__}"
    print(f"Wrote {rest.destination}: {what}.")


# ---- search ----


def run_search(argv: list[str]) -> None:
    from .embedding.search import search_to_file

    parser = OptionParser("search")
    options, rest = parser.parse(argv)
    print(search_to_file(rest.model, rest.queries, rest.collection, options))


# ---- export ----


def run_export(argv: list[str]) -> None:
    from .export.run import export

    parser = OptionParser("export")
    options, rest = parser.parse(argv)
    # What they say is for those who work on them.
    with errors_only("torch.onnx", "onnx_ir", "onnxscript"), errors_only_at_root():
        differences = export(rest.model, rest.destination, options)
    for name, difference in differences.items():
        print(f"Wrote {rest.destination}/{name}: differs from PyTorch by {difference:.1e} of its largest output.")


# ---- push ----


def run_push(argv: list[str]) -> None:
    from .hub.publishing import publish

    parser = OptionParser("push")
    options, rest = parser.parse(argv)
    print(f"Published: {publish(rest.folder, rest.repository, options)}")


# ---- transcribe ----


def run_transcribe(argv: list[str]) -> None:
    from .transcription.run import transcribe

    parser = OptionParser("transcribe")
    options, rest = parser.parse(argv)
    for file, transcript in transcribe(rest.model, rest.files, options):
        if options.json:
            values = transcript.to_dict() if options.timestamps else {"text": transcript.text}
            print(json.dumps({"file": file, **values}, ensure_ascii=False), flush=True)
            continue
        name = f"{file}\t" if len(rest.files) > 1 else ""
        times = [f"{word.start:9.2f} {word.end:9.2f}  {word.text}" for word in transcript.words * options.timestamps]
        print("\n".join([name + transcript.text, *times]), flush=True)
