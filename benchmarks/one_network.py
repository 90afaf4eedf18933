"""One network: a trunk that speech, images and text share, against three of their own.

    nice python benchmarks/one_network.py --folder one_network      # 6 variants x 3 seeds, goes on where it was stopped
    python benchmarks/one_network.py --folder one_network --table   # what there is so far, as Markdown

Variants: "separate" is three models, each of one modality; the others are one model of all three, whose modalities have
nothing of their own in the trunk (with the settings' loss weights, or with equal ones), or norms and biases, or
low-rank differences, or heads that predict one modality's pooled latents from another's for Tux Paint's stamps. Every
run is `Data2VecTrainer` on one thread with the settings of `benchmarks/one_network/settings.yaml`. A modality has as
many updates, micro-batches and hidden positions in its run of its own as in a joint one, so what is computed is the
same; only the cross-modal variant computes more, for its pairs.

Probed are the last layer's features, beside random weights: Fashion-MNIST and nouns' glosses with 1,000 labels, and the
initials and finals of Mandarin syllables. Retrieval between pictures, words and speech of the 128 test stamps is by a
ridge regression on the training stamps, the same for all variants, and by the heads where there are some.

The data come with Debian's packages dataset-fashion-mnist, asterisk-core-sounds-{en,es,fr,it,ru}-g722, gcin-voice,
wordnet-base and tuxpaint-stamps-default.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import stamps
import torch
import yaml
from one_network_table import RANDOM, SEPARATE, report
from three_sets import Probes, begin, collators, prepare, sources, tokenizer
from transformers import Wav2Vec2FeatureExtractor

from modeling_data2vec import Data2Vec2Config, Data2Vec2ForPreTraining, Data2Vec2Model
from modeling_data2vec.configuration_data2vec2_joint import modality_configs
from modeling_data2vec.trainers import Data2VecTrainer, Data2VecTrainingArguments
from modeling_data2vec.trainers.data.samples import SampleDataset
from modeling_data2vec.trainers.evaluation.retrieval import pooled_features, retrieve
from modeling_data2vec.trainers.media.image_transform import ImageTransform
from modeling_data2vec.trainers.modalities.image import ImageReader
from modeling_data2vec.trainers.modalities.mixture import JointCollator, MixtureDataset, MixtureSource
from modeling_data2vec.trainers.modalities.pairs import PairsCollator, PairsReader, load_pairs
from modeling_data2vec.trainers.modalities.speech import AudioReader
from modeling_data2vec.trainers.modalities.text import SentenceReader
from modeling_data2vec.trainers.monitoring.gradient_cosine import COSINE, NORM

SETTINGS = Path(__file__).parent / "one_network" / "settings.yaml"
MODALITIES = ("audio", "vision", "text")
CROSS_MODAL = "shared + cross-modal"
VARIANTS: dict[str, dict] = {
    SEPARATE: {},
    "shared": {},
    "shared, equal weights": {"loss_weights": {}},  # instead of those of the settings
    "shared + norms": {"modality_norms": True},
    "shared + LoRA": {"modality_lora_rank": 8},
    CROSS_MODAL: {},  # what it adds is in the settings
}


# ---- pairs ----


class Stamps:
    """Tux Paint's stamps as pairs.

    Args:
        folder: of `prepare`; the manifests are written below it.
        settings: of the whole experiment.
    """

    def __init__(self, folder: Path, settings: dict) -> None:
        own, images = settings["pairs"], settings["data"]["vision"]
        table = folder / "_".join(["stamps", *own["languages"], *(["transcripts"] if own["transcripts"] else [])])
        if not (table / "train.jsonl").exists():
            stamps.write(table, own["languages"], transcripts=own["transcripts"])
        self.batch_size = own["batch_size"]
        self.reader = PairsReader(
            {
                "audio": AudioReader(Wav2Vec2FeatureExtractor(), max_duration=own["max_seconds"]),
                "text": SentenceReader(tokenizer(folder), max_length=settings["text"]["max_position_embeddings"]),
                "vision": ImageReader(ImageTransform((28, 28), 1, images["mean"], images["std"], own["crop_scale"])),
            }
        )
        self.data = {split: load_pairs(str(table), split=split)[0] for split in ("train", "test")}

    def source(self, seed: int) -> MixtureSource:
        """The training pairs, for a mix."""
        return MixtureSource(SampleDataset(self.data["train"], self.reader, seed=seed), self.batch_size)

    def features(self, models: dict[str, Any]) -> dict[str, dict]:
        """What the model of each modality makes of the pairs of both splits."""
        features: dict[str, dict] = {}
        for split, data in self.data.items():
            samples = [self.reader(example) for example in data]  # without augmentation
            groups = [samples[start : start + 16] for start in range(0, len(samples), 16)]
            for name, model in models.items():
                collator = PairsCollator.of(model.config)
                batches = [collator([{"pairs": {name: one["pairs"][name]}} for one in group]) for group in groups]
                own = [batch["pairs"][name] for batch in batches]
                features.setdefault(split, {})[name] = pooled_features(model, name, own)
        return features


def retrieval(features: dict[str, dict], heads: Any = None) -> dict[str, dict]:
    """Retrieval among the test pairs, by a ridge regression on the training pairs or by a model's heads."""
    found = retrieve(features["train"], features["test"], heads)
    return {f"{given} to {sought}": asdict(one) for (given, sought), one in found.items()}


# ---- one run ----


def make_model(settings: dict, modalities: tuple[str, ...], steps: int, seed: int, fields: dict) -> Any:
    """A fresh model of some modalities."""
    trunk = settings["trunk"] | {"ema_anneal_end_step": max(1, int(0.7 * steps))}
    configs = {f"{name}_config": modality_configs()[name](**(trunk | settings[name])) for name in modalities}
    torch.manual_seed(seed)
    return Data2Vec2ForPreTraining(Data2Vec2Config(**configs, **fields))


def train(model: Any, mix: MixtureDataset, settings: dict, steps: int, seed: int, logs: int = 10) -> dict:
    """Train a model; returns what it cost, and so many logs, with the cosines of the modalities' gradients."""
    every = max(1, steps // logs)
    with tempfile.TemporaryDirectory() as folder:
        args = Data2VecTrainingArguments(
            folder,
            **settings["training"],
            max_steps=steps,
            warmup_steps=max(1, steps // 10),
            seed=seed,
            gradient_accumulation_steps=len(mix.sources),
            logging_steps=every,
            gradient_cosine_steps=every if len(mix.sources) > 1 else 0,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            stop_on_collapse=False,
        )
        collator = JointCollator(model.config, collators(model.config, settings["data"]))
        trainer = Data2VecTrainer(model, args, collator, train_dataset=mix)
        start = time.process_time()
        trainer.train()
        seconds = time.process_time() - start
    return {"cpu_minutes": seconds / 60, "logs": [entry for entry in trainer.state.log_history if "loss" in entry]}


def gradients(logs: list[dict]) -> dict[str, float]:
    """How the modalities' gradients compare, by the mean of the logs."""
    return {key: statistics.mean(log[key] for log in logs) for key in logs[0] if key.startswith((COSINE, NORM))}


def slices(model: Any) -> dict[str, Any]:
    """Each modality's part of a model, as a single encoder."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return {name: Data2Vec2Model.from_pretrained(folder, modality=name) for name in model.config.modalities}


def parameters(model: Any) -> dict[str, int]:
    """Weights of what is used after pretraining, and of the trunk alone."""
    encoder = model.base_model
    return {
        "encoders": sum(weight.numel() for weight in encoder.parameters()),
        "trunks": sum(weight.numel() for weight in encoder.trunk.parameters()),
        "own in the trunk": sum(weight.numel() for weight in encoder.differences.parameters()),
    }


def joint_fields(variant: str, settings: dict) -> dict:
    """What the config of a variant's joint model has of its own."""
    fields = {"loss_weights": settings["loss_weights"]} | VARIANTS[variant]
    if variant == CROSS_MODAL:
        own = settings["pairs"]
        fields["loss_weights"] = fields["loss_weights"] | {"pairs": own["loss_weight"]}
        fields["cross_modal_layers"] = own["cross_modal_layers"]
    return fields


def cell(variant: str, seed: int, steps: int, settings: dict, folder: Path, probes: Probes, pairs: Stamps) -> dict:
    """One variant with one seed: train, probe, retrieve; of "shared", random weights as well."""
    joint = variant != SEPARATE
    groups = [MODALITIES] if joint else [(name,) for name in MODALITIES]
    fields = joint_fields(variant, settings) if joint else {}
    result: dict[str, Any] = {"steps": steps, "cpu_minutes": 0.0, "logs": [], "probes": {}, "parameters": []}
    models = {}
    for modalities in groups:
        model = make_model(settings, modalities, steps, seed, fields)
        untrained = copy.deepcopy(model) if variant == "shared" else None
        mix = sources(folder, settings["data"], modalities, seed)
        if variant == CROSS_MODAL:
            mix["pairs"] = pairs.source(seed)
        run = train(model, MixtureDataset(mix), settings, steps, seed)
        result["cpu_minutes"] += run["cpu_minutes"]
        result["logs"].append([run["logs"][0], run["logs"][-1]])
        result["gradients"] = gradients(run["logs"])
        result["parameters"].append(parameters(model))
        for name, encoder in slices(model).items():
            result["probes"][name] = probes.score(encoder, name)
            models[name] = model
            print(f"{variant}, seed {seed}: {name} {result['probes'][name]}", flush=True)
    features = pairs.features(models)
    result["retrieval"] = {"ridge": retrieval(features)}
    if variant == CROSS_MODAL:
        result["retrieval"]["heads"] = retrieval(features, model)
    if untrained is not None:
        scores = {name: probes.score(encoder, name) for name, encoder in slices(untrained).items()}
        found = {"ridge": retrieval(pairs.features(dict.fromkeys(MODALITIES, untrained)))}
        result[RANDOM] = {"probes": scores, "retrieval": found}
    return result


# ---- all runs ----


def run_all(options: argparse.Namespace, settings: dict) -> None:
    """Fill in what is missing of the results, seed after seed."""
    prepare(options.folder)
    pairs = Stamps(options.folder, settings)
    file = options.folder / "results.json"
    for seed in options.seeds:
        probes = None
        for variant in options.variants:
            results = json.loads(file.read_text()) if file.exists() else {}
            key = f"{variant}, {seed}"
            if key in results:
                continue
            probes = probes or Probes(options.folder, settings["data"], seed)
            results[key] = cell(variant, seed, options.steps, settings, options.folder, probes, pairs)
            unfinished = file.with_suffix(".tmp")
            unfinished.write_text(json.dumps(results, indent=1))
            unfinished.replace(file)
            print(f"done: {key}, {results[key]['cpu_minutes']:.1f} CPU-minutes: {results[key]['probes']}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for prepared data and results.json")
    parser.add_argument("--steps", type=int, default=1_200, help="updates of each modality")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--max_grad_norm", type=float, help="instead of the settings', as a control: see the docs")
    parser.add_argument("--table", action="store_true", help="print the results so far")
    options = parser.parse_args()
    if options.table:
        return report(json.loads((options.folder / "results.json").read_text()))
    begin()
    settings = yaml.safe_load(SETTINGS.read_text())
    if options.max_grad_norm is not None:
        settings["training"]["max_grad_norm"] = options.max_grad_norm
    run_all(options, settings)


if __name__ == "__main__":
    main()
