"""Does prediction across modalities help each of them? One trunk with and without pairs, beside separate ones.

    nice python benchmarks/cross_modal.py --folder runs/cross_modal            # goes on where it was stopped
    python benchmarks/cross_modal.py --folder runs/cross_modal --table         # what there is so far, as Markdown
    python benchmarks/cross_modal.py --folder runs/longer --data runs/cross_modal --steps 640 --seeds 0
    python benchmarks/cross_modal.py --folder runs/cross_modal --figure docs/cross_modal.png
    python benchmarks/cross_modal.py --folder runs/cross_modal --curve runs/longer runs/fewer  # with other sizes

Four arms see the same data, masks and number of updates: each modality's own data (`three_sets.py`), and Tux Paint's
stamps, masked, of which it predicts its own hidden positions.

    separate         a trunk for each modality
    shared           one trunk; the stamps of all three modalities in one batch, and nothing is predicted across
    pairs            the same batches; each modality's visible positions predict the others' targets as well
    shuffled pairs   as pairs, of stamps whose picture, name and speech don't belong together

Only separate trunks have fewer samples that are computed together; from "shared" on, only what is predicted across
differs. Gradients are clipped for each modality by itself, so that no arm clips less often than another
(`clip_modalities`). Initial weights of a seed are the same in all arms.

Runs are kept as JSON below FOLDER/runs, one a file, seed after seed. The data come with the Debian packages of
`one_network.py`.
"""

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import learning_waveforms
import numpy as np
import torch
import yaml
from cross_modal_table import ARMS, RANDOM, curve_table, figure, report
from one_network import SETTINGS, Stamps, retrieval, slices, train
from syllable_probes import unheard_folds
from three_sets import Probes, begin, prepare, sources

from modeling_data2vec import Data2Vec2Config, Data2Vec2ForPreTraining
from modeling_data2vec.configuration_data2vec2_joint import modality_configs
from modeling_data2vec.embedding import mean_over_positions
from modeling_data2vec.trainers.data.samples import SampleDataset
from modeling_data2vec.trainers.evaluation.features import encode
from modeling_data2vec.trainers.evaluation.probes import ridge_probe
from modeling_data2vec.trainers.evaluation.retrieval import PooledFeatures, pooled_features
from modeling_data2vec.trainers.modalities.mixture import MixtureDataset, MixtureSource
from modeling_data2vec.trainers.modalities.pairs import PairsCollator, PairsReader, shuffled_pairs
from modeling_data2vec.trainers.monitoring.similarity import cka, uniformity

MODALITIES = ("audio", "vision", "text")
COLUMNS = {"audio": "audio", "text": "text", "vision": "image"}
LOGS = 10
DIAGNOSED = 8  # batches of pairs whose gradients are compared at the end


def load_settings() -> dict:
    """Those of `one_network.py` with the changes for this experiment; null leaves one out."""

    def merged(old: Any, new: Any) -> Any:
        if not isinstance(old, dict) or not isinstance(new, dict):
            return new
        both = old | {key: merged(old.get(key), value) for key, value in new.items()}
        return {key: value for key, value in both.items() if value is not None}

    changes = Path(__file__).parent / "cross_modal" / "settings.yaml"
    return merged(yaml.safe_load(SETTINGS.read_text()), yaml.safe_load(changes.read_text()))


class PairedStamps(Stamps):
    """Tux Paint's stamps, also of some modalities only, and with broken pairs; whole ones are read once."""

    def __init__(self, folder: Path, settings: dict) -> None:
        super().__init__(folder, settings)
        own = settings["pairs"]
        self.data["train"] = self.data["train"].select(range(round(own["share"] * len(self.data["train"]))))
        language = own["languages"][0]  # of the test: each thing once
        self.data["test"] = self.data["test"].filter(lambda row: row["language"] == language)
        config = make_model(settings, 1, 0, {}, 0.0).config
        collator = PairsCollator(PairsCollator.of(config).collators)  # nothing is masked
        self.batches: dict[str, list[dict]] = {}
        for split, data in self.data.items():
            samples = [self.reader(example) for example in data]
            groups = [samples[start : start + 32] for start in range(0, len(samples), 32)]
            self.batches[split] = [collator(group)["pairs"] for group in groups]

        # As many training stamps as the test has: whether what was seen is found.
        self.batches["seen"] = self.batches["train"][: len(self.batches["test"])]

    def features(self, models: dict[str, Any]) -> dict[str, dict]:
        return {
            split: {name: pooled_features(models[name], name, [one[name] for one in batches]) for name in models}
            for split, batches in self.batches.items()
        }

    def part(self, modalities: Iterable[str], seed: int, *, shuffled: bool = False) -> MixtureSource:
        """The training stamps for a mix."""
        data = self.data["train"]
        if shuffled:
            data = shuffled_pairs(data, COLUMNS)
        reader = PairsReader({name: reader for name, reader in self.reader.readers.items() if name in modalities})
        return MixtureSource(SampleDataset(data, reader, seed=seed), self.batch_size)


class RidgeProbes(Probes):
    """Ridge regressions on the last layer's mean over positions; of speech, on those of six stretches of time."""

    def score(self, encoder: Any, modality: str) -> dict[str, float]:
        """Accuracies of a single encoder."""
        if modality == "audio":
            width = 6 * encoder.config.hidden_size  # the means of six stretches of time; not those of the whole
            features = learning_waveforms.encode(encoder, self.clips)["last layer"][:, -width:]
            return {
                task: float(np.mean([ridge_probe(features[a], labels[a], features[b], labels[b]) for a, b in folds]))
                for task, labels, _, folds in unheard_folds(self.syllables)
            }
        (train, labels), (test, test_labels) = self.sets[modality]
        x, test_x = (encode(encoder, inputs, batch_size=64) for inputs in (train, test))
        return {modality: ridge_probe(x, labels, test_x, test_labels)}


def make_model(settings: dict, steps: int, seed: int, loss_weights: dict, weight: float) -> Any:
    """A fresh model of all three modalities; a separate one leaves two of them untrained."""
    trunk = settings["trunk"] | {"ema_anneal_end_step": max(1, int(0.7 * steps))}
    configs = {f"{name}_config": modality_configs()[name](**(trunk | settings[name])) for name in MODALITIES}
    torch.manual_seed(seed)
    fields = settings["cross_modal"] | {"cross_modal_weight": weight}
    return Data2Vec2ForPreTraining(Data2Vec2Config(**configs, loss_weights=loss_weights, **fields))


# ---- what is measured of a trained model ----


def term_cosines(model: Any, batches: list[dict]) -> dict[str, list[float]]:
    """Cosines between the gradients of the terms of a batch of pairs on each of the trunk's layers.

    The terms of each modality and, as "across", those across modalities; the mean over batches, for each layer from
    first to last, by "audio_across" and so on.
    """
    layers = [list(layer.parameters()) for layer in model.base_model.trunk.layers]
    found: dict[str, list[list[float]]] = {}
    for batch in batches:
        losses = model.train()(**batch).losses
        groups = {name: [loss for term, loss in losses.items() if term.startswith(f"{name}_")] for name in MODALITIES}
        groups["across"] = [loss for term, loss in losses.items() if term.startswith("cross_")]
        gradients = {}
        for name, terms in groups.items():
            if terms:
                weights = [weight for layer in layers for weight in layer]
                parts = iter(torch.autograd.grad(torch.stack(terms).sum(), weights, retain_graph=True))
                gradients[name] = [torch.cat([next(parts).flatten() for _ in layer]) for layer in layers]
        names = list(gradients)
        for number, first in enumerate(names):
            for second in names[number + 1 :]:
                pairs = zip(gradients[first], gradients[second], strict=True)
                cosines = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in pairs]
                found.setdefault(f"{first}_{second}", []).append(cosines)
    return {pair: np.mean(cosines, axis=0).tolist() for pair, cosines in found.items()}


@torch.no_grad()
def layer_means(model: Any, name: str, batches: list[dict]) -> np.ndarray:
    """Each layer's states of whole samples, averaged over positions: [1 + layers, N, D], the trunk's input first."""
    side, found = model.eval().side(name), []
    for batch in batches:
        embedding = side.embed(batch["inputs"], batch.get("attention_mask"))
        tokens, masks = side.feature_encoder.contextualize(embedding)
        _, layers = side.trunk(tokens, masks, "end_of_block", differences=side.differences)
        rows = [layer[:, side.config.num_extra_tokens :] for layer in (tokens, *layers)]
        found.append(torch.stack([mean_over_positions(layer, embedding.valid) for layer in rows]))
    return torch.cat(found, dim=1).numpy()


def similarity(models: dict[str, Any], pairs: PairedStamps) -> dict[str, Any]:
    """CKA [layers, layers] between modalities on the test stamps, and the uniformity of each one's last layer."""
    batches = {name: [batch[name] for batch in pairs.batches["test"]] for name in MODALITIES}
    means = {name: layer_means(models[name], name, batches[name]) for name in MODALITIES}
    between = {
        f"{first}_{second}": cka(means[first], means[second]).tolist()
        for first, second in (("audio", "vision"), ("audio", "text"), ("vision", "text"))
    }
    return {"cka": between, "uniformity": {name: uniformity(found[-1]) for name, found in means.items()}}


def directions(features: PooledFeatures) -> float:
    """In how many directions pooled latents differ before they are whitened: (sum of variances)^2 / sum of squares."""
    layers = (features.layers - features.layers.mean(0)) / (features.layers.std(0) + 1e-5)
    variances = np.linalg.eigvalsh(np.cov(layers.mean(1).T))
    return float(variances.sum() ** 2 / np.square(variances).sum())


# ---- one run ----


def cell(arm: str, seed: int, steps: int, settings: dict, folder: Path, probes: Probes, pairs: PairedStamps) -> dict:
    """One arm with one seed: train, probe, retrieve; of "shared", random weights as well."""
    joint = arm != "separate"
    weight = settings["cross_modal"]["cross_modal_weight"] if ARMS[arm] else 0.0
    result: dict[str, Any] = {"arm": arm, "seed": seed, "steps": steps, "cpu_minutes": 0.0, "logs": {}, "probes": {}}
    result |= {"pairs": len(pairs.data["train"]), "transcripts": settings["pairs"]["transcripts"]}
    result["width"] = settings["trunk"]["hidden_size"]
    result["own FFN"] = settings["cross_modal"].get("modality_ffn_layers", 0)
    result["weight across"] = settings["cross_modal"]["cross_modal_weight"]
    models = {}
    for modalities in [MODALITIES] if joint else [(name,) for name in MODALITIES]:
        own = {name: settings["loss_weights"][name] for name in modalities}
        weights = own | {"pairs": settings["pairs"]["loss_weight"] * sum(own.values())}
        model = make_model(settings, steps, seed, weights, weight)
        if arm == "shared":
            scores = {name: probes.score(encoder, name) for name, encoder in slices(model).items()}
            found = pairs.features(dict.fromkeys(MODALITIES, model))
            rank = {name: directions(part) for name, part in found["train"].items()}
            result[RANDOM] = {"probes": scores, "retrieval": {"ridge": retrieval(found)}, "directions": rank}
        mix = sources(folder, settings["data"], modalities, seed)
        mix["pairs"] = pairs.part(modalities, seed, shuffled=arm == "shuffled pairs")
        run = train(model, MixtureDataset(mix), settings, steps, seed, LOGS)
        result["cpu_minutes"] += run["cpu_minutes"]
        result["logs"]["all" if joint else modalities[0]] = run["logs"]
        encoders = slices(model)
        for name in modalities:
            result["probes"][name] = probes.score(encoders[name], name)
            models[name] = model
        if joint:
            source = pairs.part(MODALITIES, seed + 1)
            batch = [[source.samples[(8 * number + i) % 500] for i in range(8)] for number in range(DIAGNOSED)]
            collator = PairsCollator.of(model.config)
            result["term_cosines"] = term_cosines(model, [collator(one) for one in batch])
    features = pairs.features(models)
    result["directions"] = {name: directions(part) for name, part in features["train"].items()}
    result["retrieval"] = {"ridge": retrieval(features)}
    if weight:
        result["retrieval"]["heads"] = retrieval(features, model)
        result["retrieval"]["heads, seen"] = retrieval(features | {"test": features["seen"]}, model)
    return result | similarity(models, pairs)


def run_all(options: argparse.Namespace, settings: dict) -> None:
    """Fill in what is missing of the results, seed after seed."""
    data = options.data or options.folder
    prepare(data)
    pairs = PairedStamps(data, settings)
    runs = options.folder / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        probes = None
        for arm in options.arms:
            file = runs / f"{arm.replace(' ', '_')}_{seed}.json"
            if file.exists():
                continue
            probes = probes or RidgeProbes(data, settings["data"], seed)
            start = time.process_time()
            result = cell(arm, seed, options.steps, settings, data, probes, pairs)
            result["all_cpu_minutes"] = (time.process_time() - start) / 60
            unfinished = file.with_suffix(".tmp")
            unfinished.write_text(json.dumps(result))
            unfinished.replace(file)
            spent = f"{result['cpu_minutes']:.2f} of {result['all_cpu_minutes']:.2f} CPU-minutes"
            print(f"done: {arm}, seed {seed}, {spent}: {result['probes']}", flush=True)


def read(folder: Path) -> list[dict]:
    """The results in a folder."""
    return [json.loads(file.read_text()) for file in sorted((folder / "runs").glob("*.json"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for prepared data and results")
    parser.add_argument("--data", type=Path, help="folder whose prepared data are used; default: FOLDER")
    parser.add_argument("--share", type=float, help="of the training stamps; default: the settings'")
    parser.add_argument("--transcripts", action="store_true", help="texts say what is said, in three languages")
    parser.add_argument("--ffn_layers", type=int, default=0, help="topmost layers whose feed-forward part is own")
    parser.add_argument("--weight", type=float, help="of what is predicted across; default: the settings'")
    parser.add_argument("--width", type=int, help="of the trunk; default: the settings'")
    parser.add_argument("--steps", type=int, default=160, help="updates of each modality")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--table", action="store_true", help="print the results so far")
    parser.add_argument("--figure", type=Path, help="draw the results so far")
    parser.add_argument("--curve", type=Path, nargs="*", help="folders of other sizes: print what all of them have")
    options = parser.parse_args()
    if options.curve is not None:
        return print(curve_table([run for folder in (options.folder, *options.curve) for run in read(folder)]))
    if options.table or options.figure:
        results = read(options.folder)
        return figure(results, options.figure) if options.figure else print(report(results))
    begin()
    settings = load_settings()
    if options.share is not None:
        settings["pairs"]["share"] = options.share
    if options.transcripts:
        settings["pairs"] |= {"languages": ["es", "fr", "ro"], "transcripts": True}
    settings["cross_modal"]["modality_ffn_layers"] = options.ffn_layers
    if options.weight is not None:
        settings["cross_modal"]["cross_modal_weight"] = options.weight
    if options.width is not None:
        settings["trunk"] |= {"hidden_size": options.width, "intermediate_size": 4 * options.width}
    run_all(options, settings)


if __name__ == "__main__":
    main()
