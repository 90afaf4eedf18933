"""The table of commands: what each is for, its options, and examples. Nothing here needs torch or transformers."""

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple


class Argument(NamedTuple):
    """An argument without `--`, as argparse takes it."""

    name: str
    help: str
    nargs: str | None = None
    metavar: str | None = None

    def keywords(self) -> dict[str, Any]:
        """For `add_argument`."""
        given = {"help": self.help, "nargs": self.nargs, "metavar": self.metavar}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Command:
    """One command of `data2vec`.

    Args:
        about: what it does, in a line.
        examples: what people type most.
        room: of `trainers`, whose `options.py` has its options.
        options: name of the dataclass there; empty for none.
        arguments: those without `--`.
    """

    about: str
    examples: tuple[str, ...]
    room: str = ""
    options: str = ""
    arguments: tuple[Argument, ...] = ()

    def module(self) -> ModuleType:
        """The room's `options.py`."""
        return import_module(f".{self.room}.options", __package__)

    def kinds(self) -> tuple[type, ...]:
        """The dataclass with its options, if there is one."""
        return (getattr(self.module(), self.options),) if self.options else ()


COMMANDS = {
    "pretrain": Command(
        "pretrain on images, speech or text: a folder, a table, a saved dataset or a Hub id",
        (
            "data2vec pretrain --recipe data2vec2-vision-small --dataset photos --output_dir runs/photos",
            "data2vec pretrain --recipe data2vec2-vision-small --dataset photos --output_dir runs/photos --resume",
        ),
        "pretraining",
        "PretrainingOptions",
    ),
    "finetune": Command(
        "train a recogniser, classifier or tagger on labelled data, whole or by an adapter (LoRA)",
        (
            "data2vec finetune --task image-classification --model runs/photos --dataset labelled --test_split test",
            "data2vec finetune --task ctc --model runs/speech --dataset transcribed --peft lora --merge",
        ),
        "finetuning",
        "FinetuningOptions",
    ),
    "embed": Command(
        "feature vectors of any data by any encoder, in a .parquet or .npy file",
        (
            "data2vec embed runs/photos photos --output features.parquet",
            "data2vec embed google/vit-base-patch16-224 photos --output features.npy --normalize",
        ),
        "embedding",
        "EmbedOptions",
        (
            Argument("model", "model folder or Hub id: any Hugging Face encoder of images, speech or text"),
            Argument("data", "folder of images, audio or text, table, saved dataset or Hub id"),
        ),
    ),
    "search": Command(
        "samples of one kind of data by those of another, by a joint model that was trained on pairs",
        ("data2vec search runs/paired text=captions.txt vision=photos --output found.csv",),
        "embedding",
        "SearchOptions",
        (
            Argument("model", "folder or Hub id of a joint model with cross_modal_layers, trained with --pairs"),
            Argument("queries", "what to search by", metavar="MODALITY=DATA"),
            Argument("collection", "what to search in", metavar="MODALITY=DATA"),
        ),
    ),
    "probe": Command(
        "linear probe and kNN on a model's frozen features, beside random weights and raw features",
        (
            "data2vec probe --model runs/photos --dataset labelled --labels 100 all",
            "data2vec probe --model runs/photos --dataset digits --layers 4 -1 --output probe.json",
        ),
        "evaluation",
        "ProbeOptions",
    ),
    "evaluate": Command(
        "a report on one or more encoders: probes, few labels, layers, similarity, with intervals and figures",
        ("data2vec evaluate --model runs/a runs/b --dataset labelled --output_dir report",),
        "evaluation",
        "EvaluateOptions",
    ),
    "transcribe": Command(
        "what recordings of any length say, by a fine-tuned speech model, with times",
        (
            "data2vec transcribe runs/recogniser lecture.mp3 --timestamps",
            "data2vec transcribe runs/recogniser *.wav --lm words.arpa --json",
        ),
        "transcription",
        "TranscribeOptions",
        (
            Argument("model", "a folder or Hub id of a recogniser: a fine-tuned model with a CTC head"),
            Argument("files", "recordings of any format and length", nargs="+"),
        ),
    ),
    "tokenizer": Command(
        "train a byte-level BPE tokenizer on one's own text",
        ("data2vec tokenizer --dataset corpus.txt --vocab_size 8000 --output_dir runs/tokenizer",),
        "modalities",
        "TokenizerOptions",
    ),
    "recipes": Command("what the authors published: weights, licences, results", ("data2vec recipes",)),
    "recipe-check": Command(
        "epochs and parameters of recipes, computed again, and where paper and file disagree",
        ("data2vec recipe-check data2vec2-audio-base",),
        arguments=(Argument("recipe", "names or files; default: all of hub_configs", nargs="*"),),
    ),
    "merge": Command(
        "one model for several modalities of models for one",
        ("data2vec merge audio=runs/speech vision=runs/photos --output_dir runs/merged --trunk average",),
        "conversion",
        "MergeOptions",
        (Argument("sources", "audio=..., text=..., vision=...", nargs="+", metavar="MODALITY=MODEL"),),
    ),
    "convert": Command(
        "a checkpoint file of the authors' code (fairseq) to a model folder, or back",
        ("data2vec convert base_imagenet.pt runs/vit-b --published data2vec2-vision-base",),
        "conversion",
        "ConvertOptions",
        (
            Argument("source", "a fairseq .pt file, or with --to fairseq a model folder"),
            Argument("destination", "a folder that does not exist yet, or with --to fairseq a file"),
        ),
    ),
    "export": Command(
        "a model as one file for onnxruntime or torch.export, checked, on request in int8",
        ("data2vec export runs/classifier served --quantize int8",),
        "export",
        "ExportOptions",
        (Argument("model", "model folder or Hub id"), Argument("destination", "a folder that does not exist yet")),
    ),
    "push": Command(
        "publish a model folder on the Hub, with a card",
        ("data2vec push runs/photos your-name/photos --license apache-2.0",),
        "hub",
        "PushOptions",
        (
            Argument("folder", "a saved model"),
            Argument("repository", "NAMESPACE/NAME on the Hub, or NAME for one's own namespace"),
        ),
    ),
    "inspect": Command(
        "parameters, FLOPs, memory and epochs of a recipe or model",
        ("data2vec inspect", "data2vec inspect data2vec2-vision-small"),
        "inspection",
        "InspectOptions",
        (Argument("target", "a recipe's name or file, a model folder, or a Hub id; none: list recipes", nargs="?"),),
    ),
    "explore": Command(
        "a page to look at a model: masks, features as colors, neighbors among the data, beside random weights",
        (
            "data2vec explore runs/photos photos",
            "data2vec explore runs/joint vision=photos audio=recordings --port 8000 --no_browser",
        ),
        "exploring",
        "ExploreOptions",
        (
            Argument("model", "model folder or Hub id: any Hugging Face encoder of images, speech or text"),
            Argument(
                "data",
                "folder of images, audio or text, table, saved dataset or Hub id; of a joint model audio=..., ...",
                nargs="+",
                metavar="DATA",
            ),
        ),
    ),
    "completion": Command(
        "a script for the shell, by which the Tab key completes commands and options",
        ("data2vec completion bash", "data2vec completion zsh"),
        arguments=(Argument("shell", "bash or zsh"),),
    ),
}
