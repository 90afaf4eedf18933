"""Which changes to data2vec 2.0's objective and trunk help small runs? All at equal CPU time, in three modalities.

    python benchmarks/objectives.py --seconds 15 --seeds 0 1 2
    python benchmarks/objectives.py --seconds 60 --seeds 3 4 5 --variants default registers
    python benchmarks/objectives.py --report  # docs/objectives_lab.md, from all results

A variant is a flag of config or training arguments, or a file of `examples/objectives`. The CPU time of its step is
measured once (the least of two rounds over all variants), and the budget is divided by it. Nothing else is tuned for a
variant. Each run is a file in `--folder`: what is there is not run again.

The data: apt-get install -y dataset-fashion-mnist wordnet-base gcin-voice asterisk-core-sounds-{en,es,fr,it,ru}-g722
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from budgeted_runs import seconds_per_step, stable_then_decay

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "examples" / "objectives"))
MODALITIES = ("images", "speech", "text")
EARLIER_SEED = 1_000  # added to a run's seed: the earlier run that a frozen teacher comes from


class Variant(NamedTuple):
    """A change to the default.

    Attributes:
        says: what is changed, for the table.
        mixins: "file.Class" of `examples/objectives`, put before the pretraining class.
        config: from the default's config to changed fields.
        training: changed arguments of the run, by its steps.
        optimizer: "file.Class", as `mixins`.
        frozen: the teacher comes from an earlier run, for which half of the budget is spent.
    """

    says: str
    mixins: tuple[str, ...] = ()
    config: Callable[[Any], dict] = lambda config: {}
    training: Callable[[int], dict] = lambda steps: {}
    optimizer: str | None = None
    frozen: bool = False


def from_example(name: str) -> Any:
    file, attribute = name.split(".")
    return getattr(import_module(file), attribute)


def no_positions(config: Any) -> dict:
    """Rotary positions take the place of ALiBi and of positions that are added."""
    return {name: False for name in ("use_alibi", "position_embeddings") if hasattr(config, name)}


SEPARATE, VISIBLE = "separate_layers.SeparateLayers", "visible_loss.VisibleLoss"
VARIANTS = {
    "default": Variant("data2vec 2.0 as the recipes have it"),
    "separate": Variant("K layers predicted one by one (`separate_layers.py`)", (SEPARATE,)),
    "visible": Variant("loss on visible positions too (`visible_loss.py`)", (VISIBLE,)),
    "separate + visible": Variant("both", (SEPARATE, VISIBLE)),
    "K = 1": Variant("the last layer alone (`average_top_k_layers=1`)", config=lambda _: {"average_top_k_layers": 1}),
    "M / 2": Variant("half the masks (`num_masks`)", config=lambda config: {"num_masks": config.num_masks // 2}),
    "frozen teacher": Variant(
        "that of a default run of half the time (`frozen_teacher.py`)",
        config=lambda _: {"teacher_scope": "model"},
        frozen=True,
    ),
    "cross-attention": Variant(
        "predictor, asked at half of what is hidden (`cross_attention.py`)", ("cross_attention.CrossAttention",)
    ),
    "RoPE": Variant("instead of other positions (`rope.py`)", ("rope.Rotary",), no_positions),
    "registers": Variant(
        "4 more extra tokens (`num_extra_tokens`)",
        config=lambda config: {"num_extra_tokens": config.num_extra_tokens + 4},
    ),
    "QK-norm": Variant("queries and keys normalised (`qk_norm.py`)", ("qk_norm.QKNorm",)),
    "WSD": Variant(
        'constant rate, 1 - sqrt in the last fifth (`lr_scheduler_type="warmup_stable_decay"`)',
        training=stable_then_decay,
    ),
    "Muon": Variant("for the trunk's matrices (`muon.py`)", optimizer="muon.MuonAndAdamW"),
}


# ---- one run ----


def make_trainer(setting: Any, name: str, seed: int, steps: int, output: str, earlier: Any = None) -> Any:
    import torch

    from modeling_data2vec.trainers import Data2VecTrainer, Data2VecTrainingArguments, mask_collator

    variant = VARIANTS[name]
    torch.manual_seed(seed)
    config = setting.config(variant.config(setting.config({})) | {"ema_anneal_end_step": max(1, int(0.7 * steps))})
    mixins = tuple(map(from_example, variant.mixins))
    model = (type("Changed", (*mixins, setting.model_class), {}) if mixins else setting.model_class)(config)
    if earlier is not None:
        model = from_example("frozen_teacher.with_frozen_teacher")(model, earlier)
    settings = setting.training | {"max_steps": steps, "seed": seed, "warmup_steps": max(1, steps // 20)}
    settings |= {"logging_steps": 200, "save_strategy": "no", "report_to": "none"} | variant.training(steps)
    args = Data2VecTrainingArguments(output, **settings, disable_tqdm=True, use_cpu=True, stop_on_collapse=False)
    optimizer = None
    if variant.optimizer:
        betas = (args.adam_beta1, args.adam_beta2)
        optimizer = from_example(variant.optimizer)(model, args.learning_rate, args.weight_decay, betas)
    samples = setting.samples(seed)
    return Data2VecTrainer(model, args, mask_collator(config), train_dataset=samples, optimizers=(optimizer, None))


def timed_as(name: str) -> str:
    """The variant whose step is timed for this one: the default's for what changes the run alone, as a rate does."""
    plain = VARIANTS["default"]
    return "default" if VARIANTS[name]._replace(says=plain.says, training=plain.training) == plain else name


def step_costs(setting: Any, names: list[str], file: Path) -> dict[str, float]:
    """CPU seconds of a step of each variant, measured for all that the file does not have, round by round."""
    costs = json.loads(file.read_text()) if file.exists() else {}
    missing = [name for name in dict.fromkeys(map(timed_as, names)) if name not in costs]
    rounds: dict[str, list[float]] = {name: [] for name in missing}
    for _ in range(2):
        for name in missing:
            with tempfile.TemporaryDirectory() as output:
                rounds[name].append(seconds_per_step(partial(make_trainer, setting, name, 0, output=output)))
    costs |= {name: min(times) for name, times in rounds.items()}
    file.write_text(json.dumps(costs, indent=1))
    return costs


def trained(setting: Any, name: str, seed: int, steps: int, earlier: Any = None) -> Any:
    with tempfile.TemporaryDirectory() as output:
        trainer = make_trainer(setting, name, seed, steps, output, earlier)
        trainer.train()
    return trainer.model


def one_run(setting: Any, name: str, seed: int, seconds: float, costs: dict[str, float]) -> dict:
    """Pretrain for the budget and probe; "random weights" are the default's before its first step."""
    start, earlier, share = time.process_time(), None, 1.0
    if name == "random weights":
        with tempfile.TemporaryDirectory() as output:
            model, steps = make_trainer(setting, "default", seed, 1, output).model, 0
    else:
        cost = costs[timed_as(name)]
        if VARIANTS[name].frozen:
            share = 0.5
            earlier = trained(setting, name, seed + EARLIER_SEED, max(1, int(share * seconds / cost)))
        steps = max(1, int(share * seconds / cost))
        model = trained(setting, name, seed, steps, earlier)
    return {"steps": steps, "cpu_seconds": time.process_time() - start, "probes": setting.probe(model)}


def run_all(options: argparse.Namespace) -> None:
    import torch
    from objectives_data import setting
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    options.folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in options.variants if name in VARIANTS]
    settings = {modality: setting(modality, options.folder) for modality in options.modalities}
    costs = {
        modality: step_costs(one, names, options.folder / f"costs_{modality}.json")
        for modality, one in settings.items()
    }
    for seed in options.seeds:  # everything once before the next seed
        for modality, one in settings.items():
            for name in options.variants:
                key = {"modality": modality, "variant": name, "seed": seed, "seconds": options.seconds}
                file = options.folder / ("run " + " ".join(map(str, key.values())).replace("/", "of") + ".json")
                if not file.exists():
                    result = key | one_run(one, name, seed, options.seconds, costs[modality])
                    file.write_text(json.dumps(result))
                    print(json.dumps(result), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = ["random weights", *VARIANTS]
    parser.add_argument("--seconds", type=float, default=15, help="CPU seconds of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--modalities", nargs="+", choices=MODALITIES, default=list(MODALITIES))
    parser.add_argument("--variants", nargs="+", choices=everything, default=everything)
    parser.add_argument("--folder", type=Path, default=Path("runs/objectives"), help="of results and prepared data")
    parser.add_argument("--report", action="store_true", help="write the page instead of running")
    options = parser.parse_args()
    if options.report:
        from objectives_table import write_page

        return write_page(options.folder, {name: one.says for name, one in VARIANTS.items()})
    run_all(options)


if __name__ == "__main__":
    main()
