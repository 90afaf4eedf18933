"""One pretraining run from recipe to report: what `data2vec pretrain` does, the same for one modality or several."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoModel, PreTrainedConfig, set_seed
from transformers.utils import logging

from modeling_data2vec import Data2Vec2Config
from modeling_data2vec.auto import pretraining_class_of

from ..files.model_folders import loading
from ..files.output_checks import check_output
from ..hub.provenance import Provenance
from ..logging import errors_only
from ..modalities.base import Modality
from ..modalities.joint_processor import JointProcessor
from ..modalities.mixture import JointCollator
from ..modalities.names import config_of, modalities, modalities_of
from ..monitoring.curves import plot_curves
from ..monitoring.modality_logs import summary_table
from ..recipes.model_config import build_config
from ..recipes.recipe import Recipe
from ..runs.arguments import Data2VecTrainingArguments
from ..runs.callbacks import ProbeCallback
from ..runs.run_lock import only_run_in
from .modality_run import RunPart, by_modality_name
from .options import PretrainingOptions
from .run_data import say_what_differs, train_dataset
from .trainer import Data2VecTrainer

logger = logging.get_logger(__name__)


def pretrain(
    options: PretrainingOptions, args: Data2VecTrainingArguments, recipe: Recipe, config_changes: dict[str, Any]
) -> None:
    """Pretrain, save, draw and, where there are labels, probe.

    Raises:
        ValueError: options, recipe and data don't go together, or the output folder is not for this run.
        CollapseError: the run was stopped; checkpoint and pictures are there.
    """
    output = Path(args.output_dir)
    check_output(output, resume=options.resume or bool(args.resume_from_checkpoint))
    args.check_warmup()
    with only_run_in(output, args.process_index == 0):
        _pretrain(options, args, recipe, config_changes)


def _pretrain(
    options: PretrainingOptions, args: Data2VecTrainingArguments, recipe: Recipe, config_changes: dict[str, Any]
) -> None:
    output = Path(args.output_dir)
    set_seed(args.seed)
    model, parts = _model_and_parts(options, args, recipe, config_changes)
    collators = {name: part.data.collator() for name, part in parts.items()}
    trainer = Data2VecTrainer(
        model,
        args,
        JointCollator(model.config, collators),
        train_dataset=train_dataset(options, args, recipe, parts),
        processing_class=_processor(model, parts),
        provenance=Provenance(
            license=options.license,
            base_model=options.model,
            dataset=" ".join(options.dataset),
            recipe={"name": recipe.name, "source": recipe.source},
        ),
        push_at_end=False,  # there is more to say in the card
    )
    say_what_differs(trainer, recipe)
    checkpoint = trainer.checkpoint_of(args.resume_from_checkpoint or options.resume)
    plan = trainer.plan()
    if trainer.is_world_process_zero():
        print(f"Training on {plan}.")
    if options.probe_steps:
        _add_probes(trainer, parts, options.probe_steps)
    if trainer.is_world_process_zero():
        for part in parts.values():
            part.draw_masks(model, output)
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_locally()
    except Exception:  # but not after a signal, which leaves no time to draw
        if trainer.is_world_process_zero():
            try:
                _finish(trainer, parts, output)
            except (OSError, ValueError) as error:
                logger.warning(f"no pictures of this run: {error}")
        raise
    if trainer.is_world_process_zero():
        _finish(trainer, parts, output)
        reloaded = check_reload(model, output, parts)
        for part in parts.values():
            if part.probe_sets is not None:
                print("\n" + part.report(reloaded, output))
        trainer.create_model_card()
    if args.push_to_hub:
        address = trainer.push_to_hub()
        print(f"Published: {address}")


def check_reload(model: Any, folder: Path, parts: Mapping[str, RunPart]) -> Any:
    """Load what was saved with `AutoModel` and require the same features as the trained student's.

    Args:
        model: the trained model.
        folder: where it was saved.
        parts: the run's modalities.

    Raises:
        RuntimeError: features differ.
    """
    with errors_only("transformers"):  # transformers' own encoders list the teacher's weights as unexpected
        reloaded = AutoModel.from_pretrained(folder, dtype=model.dtype).to(model.device).eval()
    for part in parts.values():
        part.check_features(model, reloaded, folder)
    print(f"Saved to {folder}; AutoModel.from_pretrained loads it with equal features.")
    return reloaded


# ---- before training ----


def _model_and_parts(
    options: PretrainingOptions, args: Data2VecTrainingArguments, recipe: Recipe, config_changes: dict[str, Any]
) -> tuple[Any, dict[str, RunPart]]:
    """The model, new or from a checkpoint, and the modalities that it is to be trained on."""
    config = recipe.model_config(config_changes)  # names unknown changes, for a checkpoint too
    model_class = recipe.model_class
    if options.model is not None:  # the checkpoint's own shape; the recipe gives everything else
        with loading(options.model):
            config = _checkpoint_config(options.model, recipe, config_changes)
    names = modalities_of(config)
    sources = by_modality_name(options.dataset, names, "--dataset")
    if len(sources) > 1 and len(options.dataset) == 1:
        raise ValueError(f"--dataset has only {options.dataset[0]!r}: say what each modality has, {names[0]}=... ...")
    if options.tokenizer and "text" not in sources:
        raise ValueError(f"--tokenizer is for text, but the run has only {', '.join(sources)}: leave it out")
    data = {name: _data(options, recipe, config, name) for name in names if name in sources}
    for one in data.values():
        one.align(new_model=options.model is None)
    model = model_class(config) if options.model is None else _trained(model_class, options.model, config)
    splits = by_modality_name(options.split, names, "--split")
    columns = by_modality_name(options.column or [], names, "--column")
    parts = {}
    for name, one in data.items():
        where: dict[str, Any] = {"split": splits.get(name, "train"), "column": columns.get(name)}
        samples = one.samples(sources[name], **where, streaming=options.streaming, seed=args.seed)
        parts[name] = RunPart(name, one, samples, sources[name], name if len(names) > 1 else "")
        parts[name].probe_sets = _probe_sets(options, one, sources[name], name, names, **where)
    return model, parts


def _data(options: PretrainingOptions, recipe: Recipe, config: Any, name: str) -> Modality:
    """What reads a modality's data for the model."""
    kind, settings = modalities()[name], recipe.modalities[name].data
    subfolder = name if isinstance(config, Data2Vec2Config) else ""
    tokenizer = None
    if name == "text":
        tokenizer = options.tokenizer or (None if options.model else settings.get("tokenizer"))
    processor = (
        _load_processor(kind, tokenizer)
        if tokenizer
        else _load_processor(kind, options.model or str(recipe.config), subfolder)
    )
    return kind(config_of(config, name), processor, settings)


def _processor(model: Any, parts: Mapping[str, RunPart]) -> Any:
    """What is saved with the model."""
    processors = {name: part.data.processor for name, part in parts.items()}
    if isinstance(model.config, Data2Vec2Config):
        return JointProcessor(processors)
    return next(iter(processors.values()))


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
    if config_class is Data2Vec2Config:
        config = config_class.from_pretrained(name)
        values = {entry.name: getattr(config, entry.name) for entry in fields(config_class)}
        values |= {f"{part}_config": config.of(part).to_dict() for part in config.modalities}
        return build_config(config_class, values, changes, name)
    natives = [base for base in config_class.__mro__ if base.__module__.startswith("transformers.")]
    native = {entry.name for base in natives if is_dataclass(base) for entry in fields(base)}
    of_the_tokenizer = {"mask_token_id"}
    lacking = {entry.name for entry in fields(config_class)} - native - own.keys() - of_the_tokenizer
    method = recipe.model_config()
    return config_class.from_pretrained(name, **({field: getattr(method, field) for field in lacking} | changes))


def _trained(model_class: Any, name: str, config: Any) -> Any:
    with loading(name):
        return model_class.from_pretrained(name, config=config)


def _load_processor(kind: type[Modality], name: str, subfolder: str = "") -> Any:
    try:
        return kind.load_processor(name, subfolder)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no processor or tokenizer could be loaded from {name}: name one with --tokenizer (`data2vec tokenizer` "
            f"trains one), or a --model that has one ({str(error).splitlines()[0]})"
        ) from error


def _probe_sets(
    options: PretrainingOptions, data: Modality, source: str, name: str, names: tuple[str, ...], split: str, column: Any
) -> Any:
    """Labelled training and test samples of a modality, if it is to be probed."""
    test = by_modality_name(options.probe_split or [], names, "--probe_split").get(name)
    if test is None:
        return None
    source = by_modality_name(options.probe_dataset or [], names, "--probe_dataset").get(name, source)
    limit = options.probe_limit
    return tuple(data.labelled(source, split=one, column=column, limit=limit) for one in (split, test))


def _add_probes(trainer: Data2VecTrainer, parts: Mapping[str, RunPart], every: int) -> None:
    """Probes during training, with both baselines measured once and logged beside every result."""
    for part in parts.values():
        if part.probe_sets is not None:
            baselines = part.baselines(trainer.model)
            probe = partial(part.probe, baselines=baselines)
            trainer.add_callback(ProbeCallback(probe, trainer.log, every))


# ---- after training ----


def _finish(trainer: Data2VecTrainer, parts: Mapping[str, RunPart], output: Path) -> None:
    """What is drawn and said whether the run ended well or not."""
    history = trainer.state.log_history
    if any("loss" in entry for entry in history):
        plot_curves(history, output / "curves.png")
        for part in parts.values():
            part.draw_features(trainer.model, output)
        print("\n" + summary_table(history) + "\n")
        print("Pictures: " + ", ".join(str(path) for path in sorted(output.glob("*.png"))))
    if broken := trainer.train_dataset.unreadable():
        shown = "".join(f"\n  {name}" for name in broken[:20])
        more = f"\n  and {len(broken) - 20} more" if len(broken) > 20 else ""
        print(f"Unreadable and passed over:{shown}{more}")
