"""One fine-tuning run, from a model and labelled data to a model for `pipeline()`: what `data2vec finetune` does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor
from transformers import AutoConfig, set_seed
from transformers.utils import logging

from modeling_data2vec.native_audio import run_channels_last
from modeling_data2vec.native_dropout import run_own_dropout
from modeling_data2vec.weight_files import check_finite

from ..data.finiteness import REMEDIES
from ..data.samples import SampleDataset
from ..files.model_folders import loading
from ..files.output_checks import check_output
from ..files.writing import new_files
from ..hub.provenance import Provenance
from ..logging import errors_only
from ..modalities.names import modality_of_input
from ..modalities.text import vocabulary_size
from ..monitoring.health import CollapseError
from ..option_checks import check_keys
from ..pretraining.run_data import say_other_batch
from ..runs.run_lock import only_run_in
from ..sources.holding_out import hold_out
from ..sources.splits import require_other_data
from .arguments import FinetuningArguments
from .freezing import freeze, in_encoder
from .options import FinetuningOptions
from .recipe import FinetuningRecipe
from .tasks.all_tasks import TASKS
from .tasks.task import Task
from .trainer import FinetuningTrainer

logger = logging.get_logger(__name__)

RELOADED = 1e-4  # how far logits may be off: where weights lie in memory decides about the order of sums
NOT_FIGURES = ("epoch", "_runtime", "_per_second", "_preparation_time")
IMAGES, CLIPS = "image-classification", "audio-classification"
# The tasks that an argument is for.
ARGUMENTS_OF_TASKS: dict[str, tuple[str, ...]] = {"mixup": (IMAGES, CLIPS), "max_batch_length": ("ctc",)}
ARGUMENTS_OF_TASKS |= dict.fromkeys(("spec_augment", "roll_clips", "spectrogram_noise"), (CLIPS,))
ARGUMENTS_OF_TASKS |= dict.fromkeys(("cutmix", "rand_augment", "erasing"), (IMAGES,))
ARGUMENTS_OF_TASKS |= {"weighted_draw": (IMAGES, CLIPS, "text-classification", "classification")}
# Where a pipeline has another name than the task.
PIPELINES = {"ctc": "automatic-speech-recognition", "semantic-segmentation": "image-segmentation"}


@dataclass
class FineTuned:
    """Result of a run.

    Attributes:
        model: trained; with the best weights, where splits to evaluate say which those are.
        task: with labels or letters.
        trainer: with the log of the run.
        metrics: figures by the split that they are of.
        folder: that all is saved in.
    """

    model: Any
    task: Task
    trainer: FinetuningTrainer
    metrics: dict[str, dict[str, float]]
    folder: Path


def finetune(
    options: FinetuningOptions,
    args: FinetuningArguments,
    *,
    config_changes: dict[str, Any] | None = None,
    peft_changes: dict[str, Any] | None = None,
    recipe: FinetuningRecipe | None = None,
) -> FineTuned:
    """Train a model on a task, keep the best checkpoint, measure and save it.

    Figures and what was written where are logged as information, which `data2vec finetune` prints.

    Args:
        options: what to train, on what.
        args: how.
        config_changes: fields of the model's config, e.g. {"drop_path_rate": 0.1}.
        peft_changes: fields of the adapter's config, e.g. {"r": 8}.
        recipe: that options, arguments and changes come from: is checked against the model, and named in the card.

    Raises:
        ValueError: options, model and data don't go together, or the output folder is not for this run.
    """
    output = Path(args.output_dir)
    check_output(output, resume=options.resume or bool(args.resume_from_checkpoint))
    args.check_warmup()
    _check_options(options, args)
    with only_run_in(output, args.process_index == 0):
        return _finetune(options, args, config_changes, peft_changes, recipe)


def _finetune(
    options: FinetuningOptions,
    args: FinetuningArguments,
    config_changes: dict[str, Any] | None,
    peft_changes: dict[str, Any] | None,
    recipe: FinetuningRecipe | None,
) -> FineTuned:
    set_seed(args.seed)
    task = _task(options, args, config_changes or {})
    if recipe is not None:
        recipe.check_model(task.config.model_type)
        steps = max(1, args.world_size) * args.gradient_accumulation_steps
        batch = None if args.max_batch_length else args.per_device_train_batch_size * steps
        say_other_batch(recipe.name, recipe.part, batch)
    options.check_task()
    splits = _splits(options, task, args)
    task.fit(splits["train"])
    for role, split in splits.items():
        task.check(split, role)
    args.fit_to_data(task, evaluates="validation" in splits)
    model, fresh = _model(options.model, task)
    if options.peft is not None:
        from .adapters import with_adapter  # peft takes long to import

        model = with_adapter(model, options.peft, peft_changes, fresh=fresh)
    elif args.freeze is not None:
        freeze(model, model.base_model_prefix, args.freeze)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    logger.info(
        f"Trained: {sum(size for size, trained in sizes if trained):,} of {sum(size for size, _ in sizes):,} weights."
    )

    samples = {
        role: task.training_samples(split) if role == "train" else task.evaluation_samples(split, role)
        for role, split in splits.items()
    }
    trainer = FinetuningTrainer(
        model,
        args,
        task,
        train_dataset=samples["train"],
        eval_dataset=samples.get("validation"),
        provenance=Provenance(
            license=options.license,
            base_model=options.model,
            dataset=options.dataset,
            recipe={"name": recipe.name, "source": recipe.source} if recipe else {},
            task=options.task,
        ),
        push_at_end=False,  # the card is to have the figures of the splits
    )
    checkpoint = trainer.checkpoint_of(args.resume_from_checkpoint or options.resume)
    plan = trainer.plan()
    if trainer.is_world_process_zero():
        logger.info(f"Training on {plan}.")
    trainer.train(resume_from_checkpoint=checkpoint)
    return _finish(trainer, options, samples)


# ---- before training ----


def _check_options(options: FinetuningOptions, args: FinetuningArguments) -> None:
    if args.push_to_hub and options.peft is not None and not options.merge:
        raise ValueError("--push_to_hub publishes whole models: with --peft, add --merge")
    if options.peft is not None and args.freeze is not None:
        raise ValueError("--peft freezes the encoder already: leave out --freeze")
    if args.fsdp:
        raise ValueError("--fsdp is for pretraining: a fine-tuned model is measured and reloaded in one process")
    if args.label_smoothing_factor and TASKS[options.task].label_smoothing is None:
        raise ValueError(f"--label_smoothing_factor does not apply to --task {options.task}: leave it out")
    for name, tasks in ARGUMENTS_OF_TASKS.items():
        if getattr(args, name) and options.task not in tasks:
            raise ValueError(f"--{name} is for {' and '.join(tasks)}: leave it out of --task {options.task}")


def _task(options: FinetuningOptions, args: FinetuningArguments, changes: dict[str, Any]) -> Task:
    """The task, with config and processor of the model."""
    try:
        with loading(options.model):
            config = AutoConfig.from_pretrained(options.model)
            check_keys(changes, config.to_dict(), f"the config of {options.model}")
            config = AutoConfig.from_pretrained(options.model, **changes)
    except OSError as error:
        raise ValueError(f"--model {options.model!r} can't be loaded: {str(error).splitlines()[0]}") from error
    kind = TASKS[options.task].for_model(config)
    if kind is None:
        able = [name for name, other in TASKS.items() if other.for_model(config) is not None]
        raise ValueError(
            f"--model {options.model!r} is of type {config.model_type}, which can't do {options.task}, but only "
            f"{', '.join(able) or 'none of the tasks here'}"
        )
    takes = kind.auto_class._model_mapping[type(config)].main_input_name
    if takes != kind.main_input:
        raise ValueError(
            f"--model {options.model!r} takes {takes}, but the data of {options.task} are read as {kind.main_input}: "
            "train it with transformers' Trainer and the model's own feature extractor"
        )
    takes_tokenizer = modality_of_input(kind.main_input).takes_tokenizer
    name = options.tokenizer if options.tokenizer and takes_tokenizer else options.model
    try:
        with loading(name):
            processor = kind.load_processor(name)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no processor or tokenizer could be loaded from {name}: name a --model that has one, or a --tokenizer "
            f"({str(error).splitlines()[0]})"
        ) from error
    if takes_tokenizer:
        _check_tokenizer(processor, config, name)
    return kind(config, processor, options, args)


def _check_tokenizer(tokenizer: Any, config: Any, name: str) -> None:
    if tokenizer.pad_token_id is None:
        raise ValueError(
            f"the tokenizer of {name} has no pad token, which batches of texts need: set pad_token in its "
            "tokenizer_config.json to the one that the model was trained with"
        )
    if (size := vocabulary_size(tokenizer)) > config.vocab_size:
        raise ValueError(
            f"the tokenizer of {name} has {size:,} tokens, but the model's vocab_size is {config.vocab_size:,}: use "
            "the tokenizer that belongs to the model"
        )


def _splits(options: FinetuningOptions, task: Task, args: FinetuningArguments) -> dict[str, datasets.Dataset]:
    """ "train", and where there are such data, "validation" and "test"."""
    table = task.open(options.dataset, options.split)
    task.survey(table)
    splits = {"train": table}
    if options.eval_fraction:
        splits = dict(hold_out(table, options.eval_fraction, seed=args.seed, classes=task.strata(table)))
    if options.limit is not None:
        shuffled = splits["train"].shuffle(seed=args.seed)
        splits["train"] = shuffled.select(range(min(options.limit, len(shuffled))))
    asked = (
        ("validation", options.eval_dataset, options.eval_split),
        ("test", options.test_dataset, options.test_split),
    )
    for role, source, split in asked:
        if source or split:
            option = "--eval_split" if role == "validation" else "--test_split"
            require_other_data(option, (source or options.dataset, split or "train"), (options.dataset, options.split))
            splits[role] = task.open(source or options.dataset, split or "train")
    return splits


def _model(name: str, task: Task) -> tuple[Any, list[str]]:
    """The model, and the names of its weights that are new.

    Raises:
        ValueError: it has none of the encoder's weights, or they have other shapes.
    """
    with loading(name), errors_only("transformers"):
        model, info = task.auto_class.from_pretrained(
            name, config=task.config, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
        )
    run_channels_last(model)
    run_own_dropout(model)
    encoder = model.base_model_prefix
    changed = sorted({entry[0] if isinstance(entry, tuple) else entry for entry in info["mismatched_keys"]})
    if wrong := [weight for weight in changed if in_encoder(weight, encoder)]:
        raise ValueError(
            f"--model {name!r} and its config, with --config, have different shapes: {', '.join(wrong[:5])}"
        )
    fresh = sorted({*info["missing_keys"], *changed})
    own = [weight for weight, _ in model.named_parameters() if in_encoder(weight, encoder)]
    if own and all(weight in fresh for weight in own):
        raise ValueError(f"--model {name!r} holds none of the weights of {type(model).__name__}'s encoder")
    check_finite(model.state_dict(), name)
    new = {weight.rpartition(".")[0] if in_encoder(weight, encoder) else weight.split(".")[0] for weight in fresh}
    logger.info(f"{type(model).__name__} of {name}; new: {', '.join(sorted(new)) or 'nothing'}.")
    return model, fresh


# ---- after training ----


def _finish(trainer: FinetuningTrainer, options: FinetuningOptions, samples: dict[str, Any]) -> FineTuned:
    """Measure, save and check what was saved."""
    task, folder = trainer.task, Path(trainer.args.output_dir)
    metrics: dict[str, dict[str, float]] = {}
    for role in ("validation", "test"):
        if role in samples:
            figures = trainer.evaluate(samples[role], metric_key_prefix=role)
            metrics[role] = {
                key.removeprefix(f"{role}_"): value for key, value in figures.items() if not key.endswith(NOT_FIGURES)
            }
            logger.info(f"{role}: " + ", ".join(f"{key} {value:.4g}" for key, value in metrics[role].items()))
    trainer.provenance.metrics = metrics
    if options.merge:
        trainer.model = trainer.model_wrapped = trainer.model.merge_and_unload()
    # Without mixed precision, whose rounding is beyond what a reloaded model may be off.
    model: Any = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    logits = _logits(model, task, samples["train"])
    if not logits.isfinite().all():
        raise CollapseError(f"The run diverged: the model's outputs are NaN or infinite. {REMEDIES}")
    trainer.save_locally()
    if trainer.is_world_process_zero():
        if hasattr(model, "get_base_model"):  # of an adapter, transformers saves no config
            base = model.get_base_model()
            base.config.architectures = [type(base).__name__]
            with new_files(folder) as unfinished:
                base.config.save_pretrained(unfinished)
            logger.info(f'Saved to {folder}: load_adapter("{folder}") puts it on {options.model} (docs/finetuning.md).')
        else:
            _check_reload(model, task, folder, samples["train"], logits)
            how = f'pipeline("{PIPELINES.get(task.name, task.name)}", model="{folder}") runs it.'
            # Pipelines turn every image into colour.
            if getattr(model.config, "num_channels", 3) != 3 or not task.has_pipeline:
                how = f'{task.auto_class.__name__}.from_pretrained("{folder}") loads it.'
            logger.info(f"Saved to {folder}: {how}")
        trainer.create_model_card()
    if trainer.args.push_to_hub:
        logger.info(f"Published: {trainer.push_to_hub()}")
    return FineTuned(trainer.model, task, trainer, metrics, folder)


def _check_reload(model: Any, task: Task, folder: Path, samples: SampleDataset, logits: Tensor) -> None:
    """Require that what was saved gives the trained model's logits."""
    with errors_only("transformers"):
        again = task.auto_class.from_pretrained(folder, dtype=model.dtype).to(model.device)
    if not torch.allclose(logits, _logits(again, task, samples), rtol=10 * RELOADED, atol=RELOADED):
        raise RuntimeError(f"{folder} does not give the trained model's outputs when it is loaded: please report this")


def _logits(model: Any, task: Task, samples: SampleDataset) -> Tensor:
    """A model's logits for the first sample, without augmentation."""
    batch = task.collate([SampleDataset(samples.dataset, samples.reader, augment=False)[0]])
    with torch.no_grad():
        logits: Tensor = model.eval()(
            **{name: value.to(model.device) for name, value in batch.items() if name != "labels"}
        ).logits
    return logits
