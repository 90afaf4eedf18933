"""One pretraining run from recipe to report: what `data2vec pretrain` does, the same for one modality or several."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoModel, set_seed
from transformers.utils import logging

from modeling_data2vec.native_audio import run_channels_last

from ..files.output_checks import check_output
from ..logging import errors_only
from ..modalities.base import Modality
from ..modalities.names import by_modality_name, modalities, modalities_of
from ..monitoring.curves import plot_curves
from ..monitoring.modality_logs import summary_table
from ..monitoring.trackers import add_pictures
from ..recipes.batch_scaling import change_table
from ..recipes.building import Source, build_model_and_samples, run_config
from ..recipes.recipe import Recipe
from ..runs.arguments import Data2VecTrainingArguments
from ..runs.callbacks import ProbeCallback
from ..runs.run_lock import only_run_in
from ..runs.run_plan import RunPlan
from ..sources.splits import require_other_data
from .modality_run import RunPart
from .options import PretrainingOptions
from .run_data import advice, say_what_differs, train_dataset
from .schedule import adapt_schedule
from .trainer import Data2VecTrainer

logger = logging.get_logger(__name__)


@dataclass
class Pretrained:
    """Result of a run.

    Attributes:
        trainer: with the trained model and the log.
        folder: that all is saved in.
        probes: tables of probes as Markdown, by modality, where there are labels.
    """

    trainer: Data2VecTrainer
    folder: Path
    probes: dict[str, str]


def pretrain(
    options: PretrainingOptions,
    args: Data2VecTrainingArguments,
    recipe: Recipe,
    config_changes: dict[str, Any],
    given: Mapping[str, Any] | None = None,
) -> Pretrained:
    """Pretrain, save, draw and, where there are labels, probe.

    Figures and what was written where are logged as information, which `data2vec pretrain` prints.

    Args:
        options, args: of the run.
        recipe: that it follows; with `options.adapt` scaled to the run's batch.
        config_changes: fields of the model's config.
        given: with `options.adapt`, values of the schedule that stay as they are, by name.

    Raises:
        ValueError: options, recipe and data don't go together, or the output folder is not for this run.
        CollapseError: the run was stopped; checkpoint and pictures are there.
    """
    output = Path(args.output_dir)
    check_output(output, resume=options.resume or bool(args.resume_from_checkpoint))
    if not options.adapt:
        args.check_warmup()
    with only_run_in(output, args.process_index == 0):
        return _pretrain(options, args, recipe, config_changes, given or {})


def _pretrain(
    options: PretrainingOptions,
    args: Data2VecTrainingArguments,
    recipe: Recipe,
    config_changes: dict[str, Any],
    given: Mapping[str, Any],
) -> Pretrained:
    output = Path(args.output_dir)
    set_seed(args.seed)
    model, parts = _model_and_parts(options, args, recipe, config_changes)
    trainer = Data2VecTrainer(
        model,
        args,
        train_dataset=train_dataset(options, args, recipe, parts),
        provenance=recipe.provenance(
            license=options.license, base_model=options.model, dataset=" ".join(options.dataset)
        ),
        push_at_end=False,  # there is more to say in the card
    )
    say_what_differs(trainer, recipe)
    if options.adapt:
        recipe = adapt_schedule(trainer, recipe, given)
        trainer.provenance = replace(trainer.provenance, schedule=recipe.provenance().schedule)
        args.check_warmup()
    checkpoint = trainer.checkpoint_of(args.resume_from_checkpoint or options.resume)
    plan = trainer.plan()
    if trainer.is_world_process_zero():
        _say_plan(plan, recipe, args.max_steps)
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
                # Sharded weights are gathered by all processes, which may not all have come here.
                _finish(trainer, None if trainer.is_fsdp_enabled else trainer.model, parts, output)
            except (OSError, ValueError) as error:
                logger.warning(f"no pictures of this run: {error}")
        raise
    probes = {}
    whole = trainer.whole_model()
    if trainer.is_world_process_zero():
        _finish(trainer, whole, parts, output)
        reloaded = check_reload(whole, output, parts)
        for name, part in parts.items():
            if part.probe_sets is not None:
                probes[name] = part.report(reloaded, output)
                logger.info("\n" + probes[name])
        trainer.create_model_card()
    if args.push_to_hub:
        logger.info(f"Published: {trainer.push_to_hub()}")
    return Pretrained(trainer, output, probes)


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
    run_channels_last(reloaded)  # as the trained one does: else the last digits of 1.0 speech would differ
    for part in parts.values():
        part.check_features(model, reloaded, folder)
    logger.info(f"Saved to {folder}; AutoModel.from_pretrained loads it with equal features.")
    return reloaded


# ---- before training ----


def _model_and_parts(
    options: PretrainingOptions, args: Data2VecTrainingArguments, recipe: Recipe, config_changes: dict[str, Any]
) -> tuple[Any, dict[str, RunPart]]:
    """The model, new or from a checkpoint, and the modalities that it is to be trained on."""
    config = run_config(recipe, config_changes, options.model)
    names = modalities_of(config)
    given = by_modality_name(options.dataset, names, "--dataset")
    if len(given) > 1 and len(options.dataset) == 1:
        raise ValueError(f"--dataset has only {options.dataset[0]!r}: say what each modality has, {names[0]}=... ...")
    if options.tokenizer and not any(modalities()[name].takes_tokenizer for name in given):
        raise ValueError(f"--tokenizer is for text, but the run has only {', '.join(given)}: leave it out")
    splits = by_modality_name(options.split, names, "--split")
    columns = by_modality_name(options.column or [], names, "--column")
    sources = {
        name: Source(given[name], splits.get(name, "train"), columns.get(name)) for name in names if name in given
    }
    model, readers, samples = build_model_and_samples(
        recipe,
        config,
        sources,
        seed=args.seed,
        streaming=options.streaming,
        checkpoint=options.model,
        tokenizer=options.tokenizer,
    )
    parts = {}
    for name, source in sources.items():
        parts[name] = RunPart(name, readers[name], samples[name], source.data, name if len(names) > 1 else "")
        parts[name].probe_sets = _probe_sets(options, readers[name], source, name, names)
    return model, parts


def _probe_sets(
    options: PretrainingOptions, data: Modality, trained_on: Source, name: str, names: tuple[str, ...]
) -> Any:
    """Labelled training and test samples of a modality, if it is to be probed."""
    test = by_modality_name(options.probe_split or [], names, "--probe_split").get(name)
    if test is None:
        return None
    source = by_modality_name(options.probe_dataset or [], names, "--probe_dataset").get(name, trained_on.data)
    require_other_data("--probe_split", (source, test), (source, trained_on.split))
    labels = by_modality_name(options.label_column or [], names, "--label_column").get(name)
    where: dict[str, Any] = {"column": trained_on.column, "label_column": labels, "limit": options.probe_limit}
    return tuple(data.labelled(source, split=split, **where) for split in (trained_on.split, test))


def _say_plan(plan: RunPlan, recipe: Recipe, max_steps: int) -> None:
    logger.info(f"Training on {plan}.")
    if recipe.changes:
        logger.info(f"The schedule of {recipe.name} for this run:\n{change_table(recipe.changes)}")
    if said := advice(plan, recipe, max_steps):
        logger.info(said)


def _add_probes(trainer: Data2VecTrainer, parts: Mapping[str, RunPart], every: int) -> None:
    """Probes during training, with both baselines measured once and logged beside every result."""
    for part in parts.values():
        if part.probe_sets is not None:
            baselines = part.baselines(trainer.model)
            trainer.add_callback(ProbeCallback(partial(_probe, trainer, part, baselines), trainer.log, every))


def _probe(trainer: Data2VecTrainer, part: RunPart, baselines: Mapping[str, float], _: Any) -> dict[str, float]:
    """Figures of a probe now; none in processes that don't have the whole model."""
    whole = trainer.whole_model()
    return {} if whole is None else part.probe(whole, baselines)


# ---- after training ----


def _finish(trainer: Data2VecTrainer, model: Any, parts: Mapping[str, RunPart], output: Path) -> None:
    """What is drawn and said whether the run ended well or not; without a model its features are left out."""
    history = trainer.state.log_history
    if any("loss" in entry for entry in history):
        plot_curves(history, output / "curves.png")
        for part in parts.values() if model is not None else ():
            part.draw_features(model, output)
        logger.info("\n" + summary_table(history) + "\n")
        pictures = sorted(output.glob("*.png"))
        add_pictures(trainer, pictures)
        logger.info("Pictures: " + ", ".join(map(str, pictures)))
    if broken := trainer.train_dataset.unreadable():
        shown = "".join(f"\n  {name}" for name in broken[:20])
        more = f"\n  and {len(broken) - 20} more" if len(broken) > 20 else ""
        logger.info(f"Unreadable and passed over:{shown}{more}")
