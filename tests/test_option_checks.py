"""Options from Python: the same checks as the commands', by the dataclasses themselves."""

import pytest

from modeling_data2vec.trainers.evaluation.run import EvaluateOptions, ProbeOptions
from modeling_data2vec.trainers.finetuning.arguments import FinetuningArguments
from modeling_data2vec.trainers.finetuning.options import FinetuningOptions
from modeling_data2vec.trainers.hub.publishing import PushOptions
from modeling_data2vec.trainers.modalities.tokenizer_training import TokenizerOptions
from modeling_data2vec.trainers.option_checks import did_you_mean, require_license, require_plain_name, require_range
from modeling_data2vec.trainers.runs.arguments import Data2VecTrainingArguments
from modeling_data2vec.trainers.transcription.run import TranscribeOptions


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Data2VecTrainingArguments("out", use_cpu=True, learning_rate="high"), "--learning_rate is 'high'"),
        (lambda: Data2VecTrainingArguments("out", use_cpu=True, max_steps=True), "--max_steps is True"),
        (lambda: Data2VecTrainingArguments("out", use_cpu=True, mixing="blend"), "one of accumulate, step"),
        (lambda: FinetuningArguments("out", use_cpu=True, erasing=float("nan")), "--erasing is nan"),
        (lambda: FinetuningArguments("out", use_cpu=True, crop_scale=[1.0, 0.5]), "the smallest and the largest"),
        (lambda: FinetuningOptions("model", "data", "ctcc"), "did you mean ctc"),
        (
            lambda: FinetuningOptions("model", "data", "ctc", max_seconds=0.05),
            "max_seconds is 0.05, but must be above 0.1",
        ),
        (lambda: ProbeOptions(model="model", dataset="data", labels=["some"]), "not 'some'"),
        (lambda: EvaluateOptions(model=["model"], dataset="data", output_dir="out", seeds=[0, -1]), "--seeds is -1"),
        (lambda: TokenizerOptions("data", "out", max_length=2), "at least 3"),
        (lambda: TranscribeOptions(chunk_seconds=10, overlap_seconds=5), "less than half of --chunk_seconds, 10"),
        (lambda: PushOptions(license="Creative Commons"), "--license is 'Creative Commons'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_without_meaning(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_values_at_the_edges():
    args = FinetuningArguments(
        "out", use_cpu=True, learning_rate=0.0, layer_decay=1.0, erasing=1.0, max_grad_norm=0.0, warmup_steps=0, seed=0
    )
    assert args.max_steps == -1 and args.layer_decay == 1.0
    assert FinetuningOptions("model", "data", "ctc", min_seconds=0.0, eval_fraction=0.99).eval_fraction == 0.99
    assert TranscribeOptions(chunk_seconds=10, overlap_seconds=4.9).overlap_seconds == 4.9
    for name in ("mit", "cc-by-nc-4.0", "llama3.1", "bigscience-bloom-rail-1.0", "c-uda", "other"):
        require_license(PushOptions(license=name))


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "a b", "x\n", 7])
def test_names_that_no_folder_should_have(name):
    with pytest.raises(ValueError, match="own.yaml: name is"):
        require_plain_name(name, "own.yaml")
    require_plain_name("data2vec2-vision-base_1.0", "own.yaml")


def test_what_was_meant():
    assert did_you_mean("label", ["label_column", "labels"]) == "did you mean labels?"  # the closest one
    assert did_you_mean("learn", ["weight", "learning_rate"]) == "did you mean learning_rate?"  # begins so
    assert did_you_mean("colour", ["size", "rate"]) == ""


def test_of_lists_each_value_is_checked():
    options = ProbeOptions(model="model", dataset="data", seeds=[0, 1, 3])
    with pytest.raises(ValueError, match="--seeds is 3, but must be at most 2"):
        require_range(options, "seeds", high=2)
