"""One pretraining run from recipe to report: what `data2vec pretrain` does."""

import json
import warnings
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, set_seed
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionForPreTraining

from .callbacks import ProbeCallback
from .collators import ImageMaskCollator
from .evaluation import ImageSet, knn, linear_probe, probe_accuracy, probe_table, random_weights, raw_pixels
from .image_transform import ImageTransform
from .images import PretrainingImages, StreamedImages, load_images, load_labelled_images
from .recipes import Recipe
from .trainer import Data2VecTrainer
from .training_arguments import Data2VecTrainingArguments
from .visualization import pca_maps, plot_curves, plot_masks

logger = logging.get_logger(__name__)

SHUFFLE_BUFFER = 1_000  # images of a stream that are held to be shuffled


@dataclass
class PretrainOptions:
    """Options of `data2vec pretrain`, beside the training arguments."""

    recipe: str = field(metadata={"help": "Recipe: a yaml file or a name (`data2vec inspect` lists them)."})
    dataset: str = field(metadata={"help": "Image folder, parquet, saved dataset, Hub id, or 'digits'."})
    split: str = field(default="train", metadata={"help": "Split to pretrain on."})
    image_column: str | None = field(default=None, metadata={"help": "Column with images, if there are several."})
    streaming: bool = field(default=False, metadata={"help": "Read the data as it comes, without downloading it."})
    model: str | None = field(default=None, metadata={"help": "Go on from this checkpoint (folder or Hub id)."})
    config: list[str] = field(default_factory=list, metadata={"help": "Changes of the model's config: NAME=VALUE ..."})
    resume: bool = field(default=False, metadata={"help": "Go on from the last checkpoint in output_dir."})
    probe_split: str | None = field(
        default=None, metadata={"help": "Labelled split to probe on; the probes' training labels come from `split`."}
    )
    probe_dataset: str | None = field(default=None, metadata={"help": "Labelled data for probes; default: dataset."})
    probe_limit: int = field(default=10_000, metadata={"help": "Most images of a split that probes use."})
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
    _check_output(output, options, args)
    set_seed(args.seed)
    model, processor = _model_and_processor(options, recipe, config_changes)
    transform = ImageTransform.from_processor(processor, **_crop_and_flip(recipe))
    transform.size = model.config.image_shape
    images = _training_images(options, transform, args.seed)
    _say_what_differs(args, recipe)

    trainer = Data2VecTrainer(model, args, train_dataset=images, processing_class=processor)
    probe_sets = _probe_sets(options, transform)
    if probe_sets is not None and options.probe_steps:
        trainer.add_callback(_online_probe(trainer, *probe_sets, options.probe_steps))
    if trainer.is_world_process_zero():
        _draw_masks(images, model, transform, output / "masks.png")
    try:
        trainer.train(resume_from_checkpoint=args.resume_from_checkpoint or options.resume)
        trainer.save_model()
    finally:
        if trainer.is_world_process_zero():
            _finish(trainer, images, transform, output)
    if trainer.is_world_process_zero():
        reloaded = check_reload(model, output, _examples(images, 4))
        if probe_sets is not None:
            _report(reloaded, *probe_sets, output)


def check_reload(model: Data2Vec2VisionForPreTraining, folder: Path, pixel_values: Tensor) -> Any:
    """Load what was saved with `AutoModel` and require the same features as the trained student's.

    Raises:
        RuntimeError: features differ.
    """
    reloaded = AutoModel.from_pretrained(folder, dtype=model.dtype).to(model.device).eval()
    with torch.no_grad():
        expected = model.eval().base_model(pixel_values.to(model.device)).last_hidden_state
        actual = reloaded(pixel_values.to(model.device)).last_hidden_state
    if not torch.equal(expected, actual):
        raise RuntimeError(f"{folder} does not give the trained model's features when it is loaded: please report this")
    print(f"Saved to {folder}; AutoModel.from_pretrained loads it with equal features.")
    return reloaded


# ---- before training ----


def _check_output(output: Path, options: PretrainOptions, args: Data2VecTrainingArguments) -> None:
    last = get_last_checkpoint(output) if output.is_dir() else None
    if last and not options.resume and not args.resume_from_checkpoint:
        raise ValueError(
            f"{output} already holds {Path(last).name} of an earlier run: pass --resume to go on from it, choose "
            "another --output_dir, or remove the folder"
        )


def _model_and_processor(options: PretrainOptions, recipe: Recipe, config_changes: dict[str, Any]) -> tuple[Any, Any]:
    if options.model is None:
        config = recipe.model_config(config_changes)
        model = Data2Vec2VisionForPreTraining(config)
    else:  # the checkpoint's own shape; the recipe gives training arguments and augmentation
        recipe.model_config(config_changes)  # names unknown changes
        config = Data2Vec2VisionConfig.from_pretrained(options.model, **config_changes)
        model = Data2Vec2VisionForPreTraining.from_pretrained(options.model, config=config)
    processor = AutoImageProcessor.from_pretrained(options.model or recipe.config)
    height, width = config.image_shape
    processor.size = {"height": height, "width": width}
    mean = recipe.augmentation.get("mean", processor.image_mean)
    if len(mean) != config.num_channels:
        raise ValueError(
            f"the recipe normalises {len(mean)} channel(s), but the model takes {config.num_channels}: give a recipe "
            "with as many values of mean and std as channels"
        )
    processor.image_mean = list(mean)
    processor.image_std = list(recipe.augmentation.get("std", processor.image_std))
    return model, processor


def _crop_and_flip(recipe: Recipe) -> dict[str, Any]:
    return {name: value for name, value in recipe.augmentation.items() if name not in ("mean", "std")}


def _training_images(options: PretrainOptions, transform: ImageTransform, seed: int) -> Any:
    dataset, column = load_images(
        options.dataset, split=options.split, image_column=options.image_column, streaming=options.streaming
    )
    if options.streaming:  # the sampler shuffles the other kind
        dataset = dataset.shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)
    kind = StreamedImages if options.streaming else PretrainingImages
    return kind(dataset, transform, image_column=column, seed=seed)


def _say_what_differs(args: Data2VecTrainingArguments, recipe: Recipe) -> None:
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * max(1, args.world_size)
    if batch != recipe.global_batch:
        logger.warning(
            f"{recipe.name} was made for {recipe.global_batch} images in an optimizer step; this run has {batch}. "
            "--gradient_accumulation_steps brings them together."
        )
    if args.max_steps > 0 and args.get_warmup_steps(args.max_steps) >= args.max_steps:
        raise ValueError(
            f"warmup_steps is {args.get_warmup_steps(args.max_steps)}, but the run ends at max_steps "
            f"{args.max_steps}: lower warmup_steps, too"
        )


def _probe_sets(options: PretrainOptions, transform: ImageTransform) -> tuple[ImageSet, ImageSet] | None:
    if options.probe_split is None:
        return None
    source = options.probe_dataset or options.dataset
    train, test = (
        load_labelled_images(
            source, transform, split=split, image_column=options.image_column, limit=options.probe_limit
        )
        for split in (options.split, options.probe_split)
    )
    return train, test


def _online_probe(trainer: Data2VecTrainer, train: ImageSet, test: ImageSet, every: int) -> ProbeCallback:
    """A probe for the trainer, with both baselines measured once and logged beside every result."""
    figures: dict[str, float] = {}
    blank = probe_accuracy(random_weights(trainer.model.base_model), train, test)
    raw: Any = (raw_pixels(train[0]), train[1], raw_pixels(test[0]), test[1])
    for name, baseline in (("random", blank), ("raw", {"linear": linear_probe(*raw), "knn": knn(*raw)})):
        figures |= {f"probe_{probe}_{name}": value for probe, value in baseline.items()}

    def probe(model: Any) -> dict[str, float]:
        return {f"probe_{name}": value for name, value in probe_accuracy(model, train, test).items()} | figures

    return ProbeCallback(probe, trainer.log, every)


# ---- pictures and report ----


def _examples(images: Any, count: int) -> Tensor:
    """The first images, whole and unflipped: [N, channels, H, W]."""
    whole = type(images)(images.dataset, images.transform, image_column=images.image_column, augment=False)
    stream = iter(whole) if isinstance(whole, StreamedImages) else map(whole.__getitem__, range(len(whole)))
    return torch.stack([example["pixel_values"] for example in islice(stream, count)])


def _draw_masks(images: Any, model: Any, transform: ImageTransform, path: Path) -> None:
    pixel_values = _examples(images, 4)
    batch = ImageMaskCollator(model.config)([{"pixel_values": image, "key": i} for i, image in enumerate(pixel_values)])
    plot_masks(pixel_values, batch["mask"], model.config.grid, path, transform.mean, transform.std)


def _finish(trainer: Data2VecTrainer, images: Any, transform: ImageTransform, output: Path) -> None:
    """What is drawn and said whether the run ended well or not."""
    history = trainer.state.log_history
    if any("loss" in entry for entry in history):
        plot_curves(history, output / "curves.png")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pca_maps(trainer.model, _examples(images, 6), output / "pca.png", transform.mean, transform.std)
            except ValueError as error:  # a diverged model has no features to draw, and CollapseError says more
                logger.warning(f"no picture of the features: {error}")
        print("Pictures: " + ", ".join(str(path) for path in sorted(output.glob("*.png"))))
    if broken := images.unreadable():
        shown = "".join(f"\n  {name}" for name in broken[:20])
        more = f"\n  and {len(broken) - 20} more" if len(broken) > 20 else ""
        print(f"Unreadable and passed over:{shown}{more}")


def _report(model: Any, train: ImageSet, test: ImageSet, output: Path) -> None:
    counts = [count for count in (100, 1_000, 10_000) if count < len(train[1])][:2]
    layers = list(range(1, model.config.num_prenet_layers + model.config.num_hidden_layers + 1))
    table = probe_table(model, train, test, label_counts=[*counts, None], layer=layers)
    (output / "probe.json").write_text(json.dumps(table.to_dict(), indent=2))
    print("\n" + table.to_markdown())
