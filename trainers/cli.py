"""The commands behind `data2vec`: options, and what they print. The work is done elsewhere."""

import argparse
import json
import os
import shlex
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from transformers.utils import logging as transformers_logging

from modeling_data2vec.hub_configs import recipe_names

from .conversion.merge import MergeOptions, merge
from .conversion.run import ConvertOptions, convert
from .embedding.options import EmbedOptions
from .embedding.run import embed_to_file
from .errors import FAILED, in_one_line
from .evaluation.run import EvaluateOptions, ProbeOptions, evaluate, probe
from .export.run import ExportOptions, export
from .finetuning.arguments import FinetuningArguments
from .finetuning.options import FinetuningOptions
from .finetuning.recipe import load_finetune_recipe
from .finetuning.run import finetune
from .hub.preflight import PublishError
from .hub.publishing import PushOptions, publish
from .inspection.report import inspect_target
from .logging import bars_closed, errors_only, errors_only_at_root, information_shown
from .modalities.names import modalities
from .modalities.tokenizer_training import TokenizerOptions, build_tokenizer
from .monitoring.health import CollapseError
from .named_values import assignments, named_value
from .option_checks import require_choice, require_range
from .option_parser import OptionParser
from .plugins import import_plugin, split_plugins
from .pretraining.options import PretrainingOptions
from .pretraining.run import pretrain
from .recipes.published import check_recipe, listing
from .recipes.recipe import load_recipe
from .runs.arguments import Data2VecTrainingArguments
from .runs.stopping import StoppedError, signals_call, stop_at_once
from .transcription.run import TranscribeOptions, transcribe

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
            COMMANDS[command](argv)
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


def _chosen_recipe(argv: list[str]) -> str | None:
    """What --recipe names: its values are defaults of the other options."""
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--recipe", nargs="?")  # without a value, the whole parser says that one is missing
    return chooser.parse_known_args(argv)[0].recipe


# ---- pretrain ----


def run_pretrain(argv: list[str]) -> None:
    parser = OptionParser("pretrain", PretrainingOptions, Data2VecTrainingArguments)
    chosen = _chosen_recipe(argv)
    if chosen is None:
        parser.parse(argv)  # shows the help, or says that a recipe is required
        return
    recipe = load_recipe(chosen)
    parser.set_defaults(output_dir=f"runs/{recipe.name}", **recipe.training_arguments())
    options, args = parser.parse(argv)
    pretrain(options, args, recipe, assignments(options.config, "--config"))


# ---- finetune ----


def run_finetune(argv: list[str]) -> None:
    chosen = _chosen_recipe(argv)
    recipe = load_finetune_recipe(chosen) if chosen else None
    parser = OptionParser("finetune", FinetuningOptions, FinetuningArguments)
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
    parser = OptionParser("probe", ProbeOptions)
    (options,) = parser.parse(argv)
    print(probe(options).to_markdown())


# ---- evaluate ----


def run_evaluate(argv: list[str]) -> None:
    parser = OptionParser("evaluate", EvaluateOptions)
    (options,) = parser.parse(argv)
    evaluate(options)
    print(f"Wrote {Path(options.output_dir) / 'report.md'}, its figures and report.json.")


# ---- embed ----


def run_embed(argv: list[str]) -> None:
    parser = OptionParser("embed", EmbedOptions)
    parser.add_argument("model", help="model folder or Hub id: any Hugging Face encoder of images, speech or text")
    parser.add_argument("data", help="folder of images, audio or text, table, saved dataset or Hub id")
    options, rest = parser.parse(argv)
    print(embed_to_file(rest.model, rest.data, options))


# ---- tokenizer ----


def run_tokenizer(argv: list[str]) -> None:
    parser = OptionParser("tokenizer", TokenizerOptions)
    (options,) = parser.parse(argv)
    tokenizer = build_tokenizer(options)
    print(f"Saved a tokenizer of {len(tokenizer):,} tokens to {options.output_dir}.")


# ---- inspect ----


@dataclass
class InspectOptions:
    """Options of `data2vec inspect`."""

    batch_size: int | None = field(default=None, metadata={"help": "Samples on a device; default: the recipe's."})
    dtype_bytes: int = field(default=2, metadata={"help": "2 for half precision, 4 for fp32."})
    seconds: float | None = field(default=None, metadata={"help": "Length of a clip; default: 10, or the recipe's."})
    tokens: int | None = field(default=None, metadata={"help": "Length of a sequence; default: the recipe's."})
    modality: str | None = field(
        default=None, metadata={"help": "Part of a joint model: audio, text or vision; default: the whole."}
    )

    def __post_init__(self) -> None:
        require_range(self, "batch_size", "tokens", low=1)
        require_range(self, "seconds", above=0)
        require_choice(self, "modality", list(modalities()))
        if self.dtype_bytes not in (2, 4):
            raise ValueError(f"--dtype_bytes is {self.dtype_bytes}, but must be 2 (half precision) or 4 (fp32)")


def run_inspect(argv: list[str]) -> None:
    parser = OptionParser("inspect", InspectOptions)
    parser.add_argument(
        "target", nargs="?", help="a recipe's name or file, a model folder, or a Hub id; none: list recipes"
    )
    options, rest = parser.parse(argv)
    if rest.target is None:
        return print("\n".join(recipe_names()))
    print(inspect_target(rest.target, **vars(options)).to_text())


# ---- merge ----


def run_merge(argv: list[str]) -> None:
    parser = OptionParser("merge", MergeOptions)
    parser.add_argument("sources", nargs="+", metavar="MODALITY=MODEL", help="audio=..., text=..., vision=...")
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
    OptionParser("recipes", description="Published models, and recipes.").parse(argv)
    print(listing())


def run_recipe_check(argv: list[str]) -> None:
    parser = OptionParser(
        "recipe-check", description="Compute epochs and parameters again, and show where paper and recipe disagree."
    )
    parser.add_argument("recipe", nargs="*", help="names or files; default: all of hub_configs")
    (options,) = parser.parse(argv)
    for name in options.recipe or recipe_names():
        recipe = load_recipe(name)
        print("\n  ".join([recipe.name, *check_recipe(recipe)]))


# ---- convert ----


def run_convert(argv: list[str]) -> None:
    parser = OptionParser("convert", ConvertOptions)
    parser.add_argument("source", help="a .pt file of the authors' code, or with --to fairseq a model folder")
    parser.add_argument("destination", help="a folder that does not exist yet, or with --to fairseq a file")
    options, rest = parser.parse(argv)
    model = convert(rest.source, rest.destination, options)
    what = "a checkpoint for fairseq" if model is None else f"a {type(model).__name__}"
    print(f"Wrote {rest.destination}: {what}.")


# ---- export ----


def run_export(argv: list[str]) -> None:
    parser = OptionParser("export", ExportOptions)
    parser.add_argument("model", help="model folder or Hub id")
    parser.add_argument("destination", help="a folder that does not exist yet")
    options, rest = parser.parse(argv)
    # What they say is for those who work on them.
    with errors_only("torch.onnx", "onnx_ir", "onnxscript"), errors_only_at_root():
        differences = export(rest.model, rest.destination, options)
    for name, difference in differences.items():
        print(f"Wrote {rest.destination}/{name}: differs from PyTorch by {difference:.1e} of its largest output.")


# ---- push ----


def run_push(argv: list[str]) -> None:
    parser = OptionParser("push", PushOptions)
    parser.add_argument("folder", help="a saved model")
    parser.add_argument("repository", help="NAMESPACE/NAME on the Hub, or NAME for one's own namespace")
    options, rest = parser.parse(argv)
    print(f"Published: {publish(rest.folder, rest.repository, options)}")


# ---- transcribe ----


def run_transcribe(argv: list[str]) -> None:
    parser = OptionParser("transcribe", TranscribeOptions)
    parser.add_argument("model", help="a folder or Hub id of a recogniser: a fine-tuned model with a CTC head")
    parser.add_argument("files", nargs="+", help="recordings of any format and length")
    options, rest = parser.parse(argv)
    for file, transcript in transcribe(rest.model, rest.files, options):
        if options.json:
            values = transcript.to_dict() if options.timestamps else {"text": transcript.text}
            print(json.dumps({"file": file, **values}, ensure_ascii=False), flush=True)
            continue
        name = f"{file}\t" if len(rest.files) > 1 else ""
        times = [f"{word.start:9.2f} {word.end:9.2f}  {word.text}" for word in transcript.words * options.timestamps]
        print("\n".join([name + transcript.text, *times]), flush=True)


COMMANDS = {
    "pretrain": run_pretrain,
    "finetune": run_finetune,
    "embed": run_embed,
    "probe": run_probe,
    "evaluate": run_evaluate,
    "tokenizer": run_tokenizer,
    "inspect": run_inspect,
    "recipes": run_recipes,
    "recipe-check": run_recipe_check,
    "merge": run_merge,
    "convert": run_convert,
    "export": run_export,
    "push": run_push,
    "transcribe": run_transcribe,
}
