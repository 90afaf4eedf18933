"""What a pretraining run reads: the samples of its modality, or the mix of several; what its recipe would have."""

from collections.abc import Mapping
from typing import Any

from transformers.utils import logging

from modeling_data2vec.cross_modal import PAIRS

from ..data.mixture_order import temperature_shares
from ..data.samples import shuffled_samples
from ..modalities.mixture import MixtureDataset, MixtureSource
from ..modalities.names import by_modality_name
from ..modalities.pairs import PairsReader, load_pairs
from ..recipes.building import mixture_sources
from ..recipes.parts import RecipePart
from ..recipes.recipe import Recipe
from ..runs.arguments import Data2VecTrainingArguments
from ..runs.run_plan import RunPlan
from .modality_run import RunPart
from .options import PretrainingOptions
from .trainer import Data2VecTrainer

logger = logging.get_logger(__name__)


def train_dataset(
    options: PretrainingOptions, args: Data2VecTrainingArguments, recipe: Recipe, parts: Mapping[str, RunPart]
) -> Any:
    """The samples of the only modality, or a mix."""
    if options.pairs and len(parts) < 2:
        raise ValueError(f"--pairs is {options.pairs!r}, but the run has only {', '.join(parts)}: leave it out")
    if not any(part.label for part in parts.values()):
        (part,) = parts.values()
        for name in ("micro_batch", "mixing_ratio", "mixing_temperature"):
            if getattr(options, name) is not None:
                raise ValueError(
                    f"--{name} is for several modalities, but the run has only {part.modality}: leave it out"
                )
        return part.samples
    given = by_modality_name(options.micro_batch or [], list(parts), "--micro_batch")
    sizes = {name: float(value) for name, value in given.items()}
    samples = {name: part.samples for name, part in parts.items()}
    sources = mixture_sources(recipe, samples, sizes, args.per_device_train_batch_size)
    shares = _shares(options, recipe, parts)
    if options.pairs:
        sources[PAIRS] = _pairs(options, args.seed, parts)
        shares[PAIRS] = min(shares.values())
    return MixtureDataset(sources, shares, exact=options.mixing_temperature is None)


def _pairs(options: PretrainingOptions, seed: int, parts: Mapping[str, RunPart]) -> MixtureSource:
    """Paired samples of those of the run's modalities that the table has, read as the modalities' own are."""
    dataset, columns = load_pairs(str(options.pairs), names=parts, streaming=options.streaming)
    readers = {name: parts[name].data.reader(column) for name, column in columns.items() if name in parts}
    if len(readers) < 2:
        raise ValueError(
            f"--pairs {options.pairs} has {', '.join(columns)}, and the run {', '.join(parts)}: pairs need two or more "
            "modalities that both have"
        )
    return MixtureSource(shuffled_samples(dataset, PairsReader(readers), seed), options.pairs_batch_size)


def _shares(options: PretrainingOptions, recipe: Recipe, parts: Mapping[str, RunPart]) -> dict[str, float]:
    """How often the modalities' micro-batches come."""
    ratios = {name: recipe.modalities[name].ratio for name in parts}
    given = by_modality_name(options.mixing_ratio or [], list(parts), "--mixing_ratio")
    ratios |= {name: float(value) for name, value in given.items()}
    if options.mixing_temperature is None:
        return ratios
    if given:
        raise ValueError("--mixing_ratio and --mixing_temperature both say how often modalities come: leave one out")
    tokens = {name: part.data.num_positions(part.samples) for name, part in parts.items()}
    known = {name: count for name, count in tokens.items() if count is not None}
    if unknown := tokens.keys() - known.keys():
        raise ValueError(
            f"--mixing_temperature needs the sizes of the data, but that of {', '.join(sorted(unknown))} is not known: "
            "give a --mixing_ratio"
        )
    return temperature_shares(known, options.mixing_temperature)


def say_other_batch(name: str, part: RecipePart, batch: float | None) -> None:
    """Warn if an optimizer step holds another number of samples than a recipe's; `batch` is None if it varies."""
    if batch and batch != part.global_batch:
        logger.warning(
            f"{name} was made for {part.global_batch} {part.unit} in an optimizer step; this run has "
            f"{batch:g}. --gradient_accumulation_steps brings them together, or --scale_to_batch fits the schedule to "
            "this batch."
        )


# A run of more passes than this many times the recipe's is said to be one; of a recipe of unknown length, than so many.
MANY_TIMES, MANY_EPOCHS = 4, 400
FEWEST_STEPS = 1_000  # that advice is given of: in less, little is learned


def advice(plan: RunPlan, recipe: Recipe, max_steps: int) -> str | None:
    """Flags with which a recipe for a large data set fits a small one; None where it fits, or was changed already.

    Args:
        plan: of the run.
        recipe: for one modality or several.
        max_steps: of the run's arguments.
    """
    meant = {part.epochs(recipe.training["max_steps"]) for part in recipe.modalities.values()}
    known = min((epochs for epochs in meant if epochs), default=None)
    if plan.epochs is None or max_steps != recipe.training["max_steps"]:
        return None
    if plan.epochs <= (MANY_EPOCHS if known is None else known * MANY_TIMES):
        return None
    made_for = "many more" if known is None else f"{known:.3g} epochs of more"
    share = (known or MANY_EPOCHS / MANY_TIMES) / plan.epochs
    steps = max(FEWEST_STEPS, round(share * max_steps, -2))
    share = steps / max_steps
    flags = [f"--max_steps {steps:g}"]
    if warmup := recipe.training.get("warmup_steps"):
        flags.append(f"--warmup_steps {_part_of(warmup, share)}")
    if (anneal := recipe.model_config().ema_anneal_end_step) > 0:
        flags.append(f"--config ema_anneal_end_step={_part_of(anneal, share)}")
    return (
        f"{recipe.name} was made for {made_for} samples: here it would make {plan.epochs:,.0f} epochs. What fits these "
        f"data: {' '.join(flags)}. Recipes for small data and one GPU have names that end with -small."
    )


def _part_of(number: float, share: float) -> int:
    return max(1, round(number * share))


def say_what_differs(trainer: Data2VecTrainer, recipe: Recipe) -> None:
    args, mix = trainer.args, trainer.train_dataset
    steps = max(1, args.world_size) * args.gradient_accumulation_steps  # micro-batches of an optimizer step
    if isinstance(mix, MixtureDataset):
        total = sum(mix.shares.values())
        batches = {
            name: source.batch_size and source.batch_size * steps * mix.shares[name] / total
            for name, source in mix.sources.items()
        }
    else:
        (name,) = recipe.modalities
        batches = {name: None if args.max_batch_length else args.per_device_train_batch_size * steps}
    for name, part in recipe.modalities.items():
        say_other_batch(recipe.name, part, batches.get(name))
