"""One pretraining run from recipe to report: what `data2vec pretrain` does, the same for images, speech and text."""

import json
import warnings
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedConfig, set_seed
from transformers.utils import logging

from modeling_data2vec.auto import pretraining_class_of

from .callbacks import ProbeCallback
from .evaluation import LabelledSet, baseline_accuracy, probe_accuracy, probe_table
from .modalities import Modality, Samples, modality
from .pictures import SHOWN, pca_maps, plot_masks
from .recipes import Recipe
from .run_trainer import check_output
from .samples import StreamedSamples
from .trainer import Data2VecTrainer
from .training_arguments import Data2VecTrainingArguments
from .visualization import plot_curves

logger = logging.get_logger(__name__)


@dataclass
class PretrainOptions:
    """Options of `data2vec pretrain`, beside the training arguments."""

    recipe: str = field(metadata={"help": "Recipe: a yaml file or a name (`data2vec inspect` lists them)."})
    dataset: str = field(
        metadata={"help": "Folder of images, audio or text, table, saved dataset, Hub id, 'digits', 'python-docs'."}
    )
    split: str = field(default="train", metadata={"help": "Split to pretrain on."})
    column: str | None = field(default=None, metadata={"help": "Column with images, audio or text, if it isn't found."})
    streaming: bool = field(default=False, metadata={"help": "Read the data as it comes, without downloading it."})
    model: str | None = field(default=None, metadata={"help": "Go on from this checkpoint (folder or Hub id)."})
    tokenizer: str | None = field(
        default=None, metadata={"help": "Tokenizer (folder or Hub id), for text; default: the model's or the recipe's."}
    )
    license: str | None = field(
        default=None, metadata={"help": "Licence of the weights, for the model card: mit, cc-by-4.0, ..."}
    )
    config: list[str] = field(default_factory=list, metadata={"help": "Changes of the model's config: NAME=VALUE ..."})
    resume: bool = field(default=False, metadata={"help": "Go on from the last checkpoint in output_dir."})
    probe_split: str | None = field(
        default=None, metadata={"help": "Labelled split to probe on; the probes' training labels come from `split`."}
    )
    probe_dataset: str | None = field(default=None, metadata={"help": "Labelled data for probes; default: dataset."})
    probe_limit: int = field(default=10_000, metadata={"help": "Most samples of a split that probes use."})
    probe_steps: int = field(default=0, metadata={"help": "Steps between probes during training; 0 for none."})


def pretrain(
    options: PretrainOptions, args: Data2VecTrainingArguments, recipe: Recipe, config_changes: dict[str, Any]
) -> None:
    """Pretrain, save, draw and, where there are labels, probe.

    Raises:
        ValueError: options, recipe and data don't go together.
        CollapseError: the run was stopped; checkpoint and pictures are there.
    """
    output = Path(args.output_dir)
    check_output(output, resume=options.resume or bool(args.resume_from_checkpoint))
    set_seed(args.seed)
    model, data = _model_and_data(options, recipe, config_changes)
    samples = data.samples(
        options.dataset, split=options.split, column=options.column, streaming=options.streaming, seed=args.seed
    )
    if args.max_batch_length and getattr(samples, "lengths", None) is None:
        logger.warning(
            "The lengths of the samples are not known, as of a stream, or of clips whose recipe has no "
            "max_batch_seconds: batches hold --per_device_train_batch_size "
            f"{args.per_device_train_batch_size} samples instead of a length of {args.max_batch_length}."
        )
        args.max_batch_length = None
    _say_what_differs(args, recipe)

    trainer = Data2VecTrainer(model, args, data.collator(), train_dataset=samples, processing_class=data.processor)
    trainer.facts = {
        "license": options.license,
        "base_model": options.model,
        "dataset": options.dataset,
        "recipe": {"name": recipe.name, "source": recipe.source},
    }
    trainer.push_at_end = False  # there is more to say in the card
    probe_sets = _probe_sets(options, data)
    if probe_sets is not None and options.probe_steps:
        trainer.add_callback(_online_probe(trainer, *probe_sets, options.probe_steps))
    if trainer.is_world_process_zero():
        _draw_masks(model, data, samples, output / "masks.png")
    try:
        trainer.train(resume_from_checkpoint=args.resume_from_checkpoint or options.resume)
        trainer.save_locally()
    finally:
        if trainer.is_world_process_zero():
            _finish(trainer, data, samples, output)
    if trainer.is_world_process_zero():
        reloaded = check_reload(model, output, _examples(model, samples, 1)[0])
        if probe_sets is not None:
            _report(reloaded, *probe_sets, output)
        trainer.create_model_card()
    if args.push_to_hub:
        address = trainer.push_to_hub()
        print(f"Published: {address}")


def check_reload(model: Any, folder: Path, sample: Tensor) -> Any:
    """Load what was saved with `AutoModel` and require the same features as the trained student's.

    Args:
        model: the trained model.
        folder: where it was saved.
        sample: one unbatched input.

    Raises:
        RuntimeError: features differ.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # transformers' own encoders list the teacher's weights as unexpected
    try:
        reloaded = AutoModel.from_pretrained(folder, dtype=model.dtype).to(model.device).eval()
    finally:
        logging.set_verbosity(verbosity)
    inputs = sample[None].to(model.device)
    with torch.no_grad():
        expected = model.eval().base_model(inputs).last_hidden_state
        actual = reloaded(inputs).last_hidden_state
    if not torch.equal(expected, actual):
        raise RuntimeError(f"{folder} does not give the trained model's features when it is loaded: please report this")
    print(f"Saved to {folder}; AutoModel.from_pretrained loads it with equal features.")
    return reloaded


# ---- before training ----


def _model_and_data(options: PretrainOptions, recipe: Recipe, config_changes: dict[str, Any]) -> tuple[Any, Modality]:
    """The model, new or from a checkpoint, and what reads its data."""
    config = recipe.model_config(config_changes)  # names unknown changes, for a checkpoint too
    model_class = recipe.model_class
    if options.model is not None:  # the checkpoint's own shape; the recipe gives everything else
        config = _checkpoint_config(options.model, recipe, config_changes)
    kind = modality(model_class)
    tokenizer = options.tokenizer or (None if options.model else recipe.data.get("tokenizer"))
    data = kind(config, _load_processor(kind, tokenizer or options.model or str(recipe.config)), recipe.data)
    data.fit(new_model=options.model is None)
    if options.model is None:
        return model_class(config), data
    return model_class.from_pretrained(options.model, config=config), data


def _checkpoint_config(name: str, recipe: Recipe, changes: dict[str, Any]) -> Any:
    """The config of a checkpoint that is to be trained by a recipe.

    The method's settings (masks, targets, teacher) are the checkpoint's own where it has them, and otherwise the
    recipe's, as for a checkpoint of transformers' own classes.
    """
    try:
        found = pretraining_class_of(name)
    except OSError as error:
        raise ValueError(f"--model {name!r} can't be loaded: {str(error).splitlines()[0]}") from error
    if found is not recipe.model_class:
        raise ValueError(
            f"--model {name!r} is a {found.config_class.model_type} model, but {recipe.name} is a recipe for "
            f"{recipe.model_class.config_class.model_type}: choose a recipe for that type"
        )
    own, _ = PreTrainedConfig.get_config_dict(name)
    config_class = found.config_class
    natives = [base for base in config_class.__mro__ if base.__module__.startswith("transformers.")]
    native = {entry.name for base in natives if is_dataclass(base) for entry in fields(base)}
    of_the_tokenizer = {"mask_token_id"}
    lacking = {entry.name for entry in fields(config_class)} - native - own.keys() - of_the_tokenizer
    method = recipe.model_config()
    return config_class.from_pretrained(name, **({field: getattr(method, field) for field in lacking} | changes))


def _load_processor(kind: type[Modality], name: str) -> Any:
    try:
        return kind.load_processor(name)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no processor or tokenizer could be loaded from {name}: name one with --tokenizer (`data2vec tokenizer` "
            f"trains one), or a --model that has one ({str(error).splitlines()[0]})"
        ) from error


def _say_what_differs(args: Data2VecTrainingArguments, recipe: Recipe) -> None:
    if not args.max_batch_length:
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * max(1, args.world_size)
        if batch != recipe.global_batch:
            logger.warning(
                f"{recipe.name} was made for {recipe.global_batch} {recipe.unit} in an optimizer step; this run has "
                f"{batch}. --gradient_accumulation_steps brings them together."
            )
    if args.max_steps > 0 and args.get_warmup_steps(args.max_steps) >= args.max_steps:
        raise ValueError(
            f"warmup_steps is {args.get_warmup_steps(args.max_steps)}, but the run ends at max_steps "
            f"{args.max_steps}: lower warmup_steps, too"
        )


def _probe_sets(options: PretrainOptions, data: Modality) -> tuple[LabelledSet, LabelledSet] | None:
    if options.probe_split is None:
        return None
    source = options.probe_dataset or options.dataset
    train, test = (
        data.labelled(source, split=split, column=options.column, limit=options.probe_limit)
        for split in (options.split, options.probe_split)
    )
    return train, test


def _online_probe(trainer: Data2VecTrainer, train: LabelledSet, test: LabelledSet, every: int) -> ProbeCallback:
    """A probe for the trainer, with both baselines measured once and logged beside every result."""
    baselines = baseline_accuracy(trainer.model.base_model, train, test)

    def probe(model: Any) -> dict[str, float]:
        figures = probe_accuracy(model, train, test) | baselines
        return {f"probe_{name}": value for name, value in figures.items()}

    return ProbeCallback(probe, trainer.log, every)


# ---- pictures and report ----


def _examples(model: Any, samples: Samples, count: int) -> list[Tensor]:
    """The first samples that can be read, without augmentation: unbatched inputs."""
    whole = type(samples)(samples.dataset, samples.reader, augment=False)
    stream = iter(whole) if isinstance(whole, StreamedSamples) else map(whole.__getitem__, range(len(whole)))
    return [sample[model.main_input_name] for sample in islice(stream, count)]


def _draw_masks(model: Any, data: Modality, samples: Samples, path: Path) -> None:
    inputs = _examples(model, samples, 4)
    batch = data.collator()([{model.main_input_name: sample, "key": key} for key, sample in enumerate(inputs)])
    shown = _as_collated(batch[model.main_input_name], batch.get("attention_mask"))
    plot_masks(model, shown, batch["mask"], path, data.processor)


def _as_collated(inputs: Tensor, attention_mask: Tensor | None) -> list[Tensor]:
    """A batch as a list of samples without padding."""
    if attention_mask is None:
        return list(inputs)
    return [sample[real] for sample, real in zip(inputs, attention_mask.bool(), strict=True)]


def _finish(trainer: Data2VecTrainer, data: Modality, samples: Samples, output: Path) -> None:
    """What is drawn and said whether the run ended well or not."""
    history = trainer.state.log_history
    if any("loss" in entry for entry in history):
        plot_curves(history, output / "curves.png")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pca_maps(trainer.model, _examples(trainer.model, samples, SHOWN), output / "pca.png", data.processor)
            except ValueError as error:  # a diverged model has no features to draw, and CollapseError says more
                logger.warning(f"no picture of the features: {error}")
        print("Pictures: " + ", ".join(str(path) for path in sorted(output.glob("*.png"))))
    if broken := samples.unreadable():
        shown = "".join(f"\n  {name}" for name in broken[:20])
        more = f"\n  and {len(broken) - 20} more" if len(broken) > 20 else ""
        print(f"Unreadable and passed over:{shown}{more}")


def _report(model: Any, train: LabelledSet, test: LabelledSet, output: Path) -> None:
    counts = [count for count in (100, 1_000, 10_000) if count < len(train[1])][:2]
    layers = list(range(1, getattr(model.config, "num_prenet_layers", 0) + model.config.num_hidden_layers + 1))
    table = probe_table(model, train, test, label_counts=[*counts, None], layer=layers)
    (output / "probe.json").write_text(json.dumps(table.to_dict(), indent=2))
    print("\n" + table.to_markdown())
