"""The `data2vec` command. It stands outside the package so that `--help` answers without importing torch."""

import os
import sys
import threading
from difflib import get_close_matches
from importlib.metadata import version

COMMANDS = {
    "pretrain": "pretrain on images, speech or text: a folder, a table, a saved dataset or a Hub id",
    "finetune": "train a recogniser, classifier or tagger on labelled data, whole or by an adapter (LoRA)",
    "embed": "feature vectors of any data by any encoder, in a .parquet or .npy file",
    "probe": "linear probe and kNN on a model's frozen features, beside random weights and raw features",
    "evaluate": "a report on one or more encoders: probes, few labels, layers, similarity, with intervals and figures",
    "transcribe": "what recordings of any length say, by a fine-tuned speech model, with times",
    "tokenizer": "train a byte-level BPE tokenizer on one's own text",
    "recipes": "what the authors published: weights, licences, results",
    "recipe-check": "epochs and parameters of recipes, computed again, and where paper and file disagree",
    "merge": "one model for several modalities of models for one",
    "convert": "a checkpoint file of the authors' code (fairseq) to a model folder, or back",
    "export": "a model as one file for onnxruntime or torch.export, checked, on request in int8",
    "push": "publish a model folder on the Hub, with a card",
    "inspect": "parameters, FLOPs, memory and epochs of a recipe or model",
}
USAGE = "\n".join(
    [
        "usage: data2vec COMMAND [options]",
        "",
        "Self-supervised learning with data2vec 1.0 and 2.0 in Hugging Face form.",
        "",
        "commands:",
        *(f"  {name:<12} {text}" for name, text in COMMANDS.items()),
        "",
        "`data2vec COMMAND --help` lists a command's options. `data2vec --version` prints the version.",
        "exit codes: 0 done, 1 failed, 2 wrong use or wrong data, 3 the run collapsed and was stopped;",
        "stopped by a signal, a run with a checkpoint to go on from: 143 SIGTERM, 138 SIGUSR1, 130 Ctrl-C",
    ]
)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if arguments[0] == "--version":
        print(version("data2vec"))
        return 0
    if arguments[0] not in COMMANDS:
        close = get_close_matches(arguments[0], COMMANDS, n=1)
        hint = f"did you mean {close[0]}? Choose" if close else "choose"
        print(f"data2vec: unknown command {arguments[0]!r}: {hint} one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    from modeling_data2vec.trainers.cli import run

    code = run(arguments[0], arguments[1:])
    if argv is None and code > 128 and any(not thread.daemon for thread in threading.enumerate()[1:]):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # a push that is under way would hold up the process that a signal is to end
    return code


if __name__ == "__main__":
    sys.exit(main())
