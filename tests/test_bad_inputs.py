"""Bad inputs over all commands: each ends with its exit code and one line that names the culprit, and leaves nothing.

All run in this process; most fail before a model is built. `pytest tests/test_bad_inputs.py` runs them all.
"""

import re

import pytest
from bad_material import write_material
from transformers.utils import logging

import data2vec_cli

pytestmark = pytest.mark.usefixtures("datasets_cache")


@pytest.fixture(scope="module")
def material(tmp_path_factory, tokenizer):
    return write_material(tmp_path_factory.mktemp("material"), tokenizer)


def pretrain(*more, recipe="data2vec2-vision-tiny", dataset="digits"):
    fast = ("--use_cpu", "--max_steps", "2", "--warmup_steps", "0", "--per_device_train_batch_size", "2")
    return ["pretrain", "--recipe", recipe, "--dataset", dataset, *fast, "--output_dir", "out", *more]


def finetune(dataset, *more, task="text-classification", model="text"):
    fast = ("--use_cpu", "--max_steps", "1", "--per_device_train_batch_size", "2")
    return [
        "finetune",
        "--task",
        task,
        "--model",
        f"@{model}",
        "--dataset",
        dataset,
        *fast,
        "--output_dir",
        "out",
        *more,
    ]


def ctc(dataset, *more):
    return finetune(dataset, *more, task="ctc", model="speech")


def tags(dataset):
    return finetune(dataset, task="token-classification")


def images(dataset, *more):
    return finetune(dataset, *more, task="image-classification", model="images")


def probe(*more, model="@images"):
    return ["probe", "--model", model, "--dataset", "digits", "--limit", "60", *more]


def evaluate(*more, model="@images"):
    return ["evaluate", "--model", model, "--dataset", "digits", "--limit", "60", "--output_dir", "out", *more]


def tokenizer_of(dataset, *more):
    return ["tokenizer", "--dataset", dataset, "--output_dir", "out", *more]


def transcribe(*more, model="@recogniser"):
    return ["transcribe", model, *more]


# What is typed, with @ before names in the material, and what the one line says.
CASES = {
    "commands": [
        (["trian"], "unknown command 'trian': "),
        (["pretrian"], "unknown command 'pretrian': did you mean pretrain?"),
        (["fine-tune"], "did you mean finetune?"),
    ],
    "option names": [
        (pretrain("--lerning_rate", "1"), "there is no option --lerning_rate: did you mean --learning_rate?"),
        (pretrain("--learning-rat=1"), "there is no option --learning-rat: did you mean --learning_rate?"),
        (["pretrain", "--recipe", "data2vec2-vision-tiny", "--datasett", "digits"], "did you mean --dataset?"),
        (finetune("@classes.csv", "--evalfraction", "0.1"), "did you mean --eval_fraction?"),
        (probe("--label", "10"), "there is no option --label: did you mean --labels?"),
        (evaluate("--seed", "1"), "did you mean --seeds?"),
        (tokenizer_of("@classes.csv", "--vocabsize", "300"), "did you mean --vocab_size?"),
        (["inspect", "data2vec2-vision-tiny", "--batchsize", "3"], "did you mean --batch_size?"),
        (["convert", "@no.pt", "out", "--licence", "mit"], "did you mean --license?"),
        (["export", "@images", "out", "--quantise", "int8"], "did you mean --quantize?"),
        (["push", "@images", "a/b", "--with-teachr"], "did you mean --with_teacher?"),
        (transcribe("@0.wav", "--beamwidth", "3"), "did you mean --beam_width?"),
        (["merge", "audio=@speech", "--output_dir", "out", "--trunc", "audio"], "did you mean --trunk?"),
        (["recipes", "--all"], "there is no option --all"),
        (["recipe-check", "--fix"], "there is no option --fix"),
        (["pretrain"], "required: --recipe, --dataset"),
        (["finetune", "--dataset", "x"], "required: --model"),
        (["transcribe", "@recogniser"], "required: files"),
        (["convert", "@no.pt"], "required: destination"),
        (["merge", "audio=@speech"], "required: --output_dir"),
        (finetune("@classes.csv", "extra"), "'extra' belongs to no option"),
        (["recipes", "vision"], "'vision' belongs to no option"),
    ],
    "values of training": [
        (pretrain("--learning_rate", "-1e-3"), "--learning_rate is -0.001, but must be at least 0"),
        (pretrain("--learning_rate", "nan"), "--learning_rate is nan"),
        (pretrain("--learning_rate", "1e-3x"), "--learning_rate: invalid float value: '1e-3x'"),
        (pretrain("--learning_rate"), "--learning_rate: expected one argument"),
        (pretrain("--per_device_train_batch_size", "0"), "--per_device_train_batch_size is 0, but must be at least 1"),
        (pretrain("--per_device_train_batch_size", "-1"), "--per_device_train_batch_size is -1"),
        (pretrain("--per_device_train_batch_size", "2.5"), "invalid int value: '2.5'"),
        (finetune("@classes.csv", "--per_device_eval_batch_size", "0"), "--per_device_eval_batch_size is 0"),
        (pretrain("--gradient_accumulation_steps", "-1"), "--gradient_accumulation_steps is -1"),
        (pretrain("--warmup_steps", "-1"), "--warmup_steps is -1"),
        (pretrain("--warmup_steps", "5"), "warmup_steps is 5, but the run ends at max_steps 2"),
        (finetune("@classes.csv", "--warmup_steps", "5"), "warmup_steps is 5, but the run ends at max_steps 1"),
        (pretrain("--max_steps", "0"), "--max_steps is 0, but must be at least 1"),
        (pretrain("--max_steps", "-5"), "--max_steps is -5"),
        (finetune("@classes.csv", "--num_train_epochs", "-1"), "--num_train_epochs is -1.0, but must be above 0"),
        (finetune("@classes.csv", "--num_train_epochs", "0"), "--num_train_epochs is 0.0"),
        (pretrain("--lr_scheduler_type", "cosin"), "--lr_scheduler_type is 'cosin' (did you mean cosine?)"),
        (pretrain("--lr_scheduler_kwargs", '{"foo": 1}'), "--lr_scheduler_kwargs {'foo': 1}"),
        (pretrain("--lr_scheduler_type", "cosine_with_min_lr"), "--lr_scheduler_type is cosine_with_min_lr with"),
        (pretrain("--optim_args", "foo"), "--optim_args is 'foo', but must be NAME=VALUE"),
        (pretrain("--report_to", "wandbb"), "--report_to is 'wandbb' (did you mean wandb?)"),
        (pretrain("--report_to", "dvclive"), "--report_to is dvclive, which is not installed"),
        (pretrain("--report_to", "tensorboard", "none"), "is tensorboard none, but none stands alone"),
        (pretrain("--label_column", "label"), "--label_column is for probes, but there are none"),
        (finetune("@classes.csv", "--neftune_noise_alpha", "-1"), "--neftune_noise_alpha is -1.0"),
        (finetune("@classes.csv", "--metric_for_best_model", "acuracy", "--eval_fraction", "0.3"), "is 'acuracy'"),
        (finetune("@classes.csv", "--patience", "2"), "--patience needs data to evaluate on"),
        (finetune("@classes.csv", "--eval_fraction", "0.3", "--save_strategy", "steps"), "add --eval_strategy steps"),
        (pretrain("--optim", "adam"), "--optim is 'adam' (did you mean adamw_torch?)"),
        (pretrain("--save_strategy", "step"), "--save_strategy is 'step' (did you mean steps?)"),
        (finetune("@classes.csv", "--eval_strategy", "never"), "--eval_strategy is 'never'"),
        (pretrain("--weight_decay", "-0.1"), "--weight_decay is -0.1"),
        (pretrain("--max_grad_norm", "-1"), "--max_grad_norm is -1.0"),
        (pretrain("--seed", "-1"), "--seed is -1, but must be at least 0"),
        (pretrain("--data_seed", "-3"), "--data_seed is -3"),
        (pretrain("--adam_beta2", "1.5"), "--adam_beta2 is 1.5, but must be at least 0 and below 1"),
        (pretrain("--logging_steps", "0"), "--logging_steps is 0"),
        (pretrain("--save_steps", "0"), "--save_steps is 0"),
        (pretrain("--dataloader_num_workers", "-1"), "--dataloader_num_workers is -1"),
        (pretrain("--bf16", "maybe"), "--bf16: Truthy value expected"),
        (
            pretrain("--gradient_checkpointing_kwargs", "{x"),
            "--gradient_checkpointing_kwargs is '{x', which is no JSON",
        ),
        (pretrain("--max_batch_length", "0"), "--max_batch_length is 0"),
        (pretrain("--tri_stage", "0.5", "0.1"), "tri_stage is [0.5, 0.1]"),
        (pretrain("--tri_stage", "0.5", "0.4", "0.1", "--tri_stage_end", "0"), "tri_stage_end is 0.0"),
        (pretrain("--mixing", "blend"), "--mixing is 'blend', but must be one of accumulate, step"),
        (pretrain("--health_patience", "0"), "--health_patience is 0"),
        (pretrain("--gradient_cosine_steps", "-1"), "--gradient_cosine_steps is -1"),
        (finetune("@classes.csv", "--layer_decay", "1.5"), "--layer_decay is 1.5, but must be above 0 and at most 1"),
        (finetune("@classes.csv", "--layer_decay", "-1"), "--layer_decay is -1.0"),
        (finetune("@classes.csv", "--head_only_steps", "-1"), "--head_only_steps is -1"),
        (finetune("@classes.csv", "--patience", "0"), "--patience is 0"),
        (images("digits", "--crop_scale", "0", "1"), "--crop_scale is 0.0, but must be above 0"),
        (images("digits", "--crop_scale", "0.5"), "crop_scale is [0.5], but must be two shares"),
        (images("digits", "--mixup", "-1"), "--mixup is -1.0"),
        (images("digits", "--erasing", "2"), "--erasing is 2.0"),
        (images("digits", "--label_smoothing_factor", "1"), "--label_smoothing_factor is 1.0"),
    ],
    "other values": [
        (pretrain(recipe="data2vec2-vision-tinny"), "did you mean data2vec2-vision-tiny?"),
        (pretrain(recipe="../x"), "there is no recipe '../x'"),
        (pretrain(recipe="@named.yaml"), "name is '../x', but must be of letters"),
        (pretrain(recipe="@extra.yaml"), "unknown key 'colour'"),
        (pretrain(recipe="@epochs.yaml"), "epochs is 1, but max_steps"),
        (pretrain(recipe="@no_yaml.yaml"), "no_yaml.yaml is not valid yaml"),
        (pretrain(recipe="@no_recipe.yaml"), "no_recipe.yaml must hold keys and values"),
        (pretrain("--config", "hidden_size"), "--config takes NAME=VALUE, not 'hidden_size'"),
        (pretrain("--config", "hiden_size=16"), "unknown key 'hiden_size'; did you mean hidden_size"),
        (pretrain("--config", "num_hidden_layers=0"), "num_hidden_layers is 0, but must be"),
        (pretrain("--config", "hidden_act=foo"), "hidden_act is 'foo', but must be one of gelu"),
        (pretrain("--resume_from_checkpoint", "none"), "there is no checkpoint none"),
        (pretrain("--config", "hidden_size=-16"), "hidden_size"),
        (pretrain("--config", "hidden_size=many"), "hidden_size"),
        (pretrain("--config", "num_attention_heads=5"), "num_attention_heads is 5"),
        (pretrain("--config", "ema_decay=-0.5"), "ema_decay"),
        (pretrain("--config", "ema_decay=1.5"), "ema_decay"),
        (pretrain("--config", "mask_prob=2"), "mask_prob"),
        (pretrain("--config", "patch_size=3"), "patch_size"),
        (pretrain("--license", "!!"), "--license is '!!'"),
        (finetune("@classes.csv", "--license", "Apache 2.0"), "--license is 'Apache 2.0' (did you mean apache-2.0?)"),
        (["push", "@images", "a/b", "--license", "MIT"], "--license is 'MIT' (did you mean mit?)"),
        (["convert", "@no.pt", "out", "--license", "free for all"], "--license is 'free for all'"),
        (pretrain("--probe_limit", "0"), "--probe_limit is 0"),
        (pretrain("--probe_steps", "-1"), "--probe_steps is -1"),
        (pretrain("--mixing_ratio", "vision=x"), "--mixing_ratio has 'vision=x'"),
        (pretrain("--mixing_ratio", "vision=0"), "--mixing_ratio has 'vision=0'"),
        (pretrain("--micro_batch", "vision=-2"), "--micro_batch has 'vision=-2'"),
        (pretrain("--mixing_temperature", "0"), "--mixing_temperature is 0"),
        (pretrain("--pairs_batch_size", "0"), "--pairs_batch_size is 0"),
        (finetune("@classes.csv", "--recipe", "glue-colla"), "did you mean glue-cola?"),
        (finetune("@classes.csv", task="text-clasification"), "did you mean text-classification?"),
        (["finetune", "--model", "@text", "--dataset", "@classes.csv"], "--task is missing: name one of ctc"),
        (
            finetune("@classes.csv", "--eval_fraction", "1"),
            "--eval_fraction is 1.0, but must be at least 0 and below 1",
        ),
        (finetune("@classes.csv", "--eval_fraction", "-0.1"), "--eval_fraction is -0.1"),
        (finetune("@classes.csv", "--eval_fraction", "0.01"), "0.01, but of 12 rows that is less than one"),
        (finetune("@each_once.jsonl", "--eval_fraction", "0.5"), "each of the 4 classes has one row only"),
        (finetune("@classes.csv", "--eval_fraction", "0.5", "--eval_split", "x"), "--eval_fraction and --eval_split"),
        (finetune("@classes.csv", "--limit", "0"), "--limit is 0"),
        (finetune("@classes.csv", "--max_length", "0"), "--max_length is 0"),
        (finetune("@classes.csv", "--max_length", "2"), "max_length is 2"),
        (finetune("@classes.csv", "--max_length", "9999"), "max_length is 9999, but the model takes"),
        (finetune("@classes.csv", "--merge"), "--merge merges an adapter"),
        (finetune("@classes.csv", "--peft", "lorra"), "--peft is 'lorra' (did you mean lora?)"),
        (finetune("@classes.csv", "--peft", "lora", "--peft_config", "r=0"), "r"),
        (finetune("@classes.csv", "--freeze", "9"), "freeze is '9'"),
        (ctc("@clips.jsonl", "--lowercase", "--uppercase"), "--lowercase and --uppercase"),
        (ctc("@clips.jsonl", "--min_seconds", "-1"), "--min_seconds is -1.0"),
        (ctc("@clips.jsonl", "--max_seconds", "0"), "--max_seconds is 0.0, but must be above 0.1"),
        (finetune("@classes.csv", "--num_labels", "1"), "--num_labels is 1"),
        (finetune("@classes.csv", "--num_labels", "3"), "--num_labels 3 is for semantic-segmentation: leave it out"),
        (finetune("@classes.csv", "--lowercase"), "--lowercase is for ctc: leave it out"),
        (ctc("@clips.jsonl", "--max_length", "20"), "--max_length 20 is for text-classification and token-"),
        (images("digits", "--pair_column", "x"), "--pair_column x is for text-classification"),
        (images("digits", "--tokenizer", "@text"), "leave it out of --task image-classification"),
        (pretrain("--tokenizer", "@text"), "--tokenizer is for text"),
        (pretrain("--micro_batch", "vision=3"), "--micro_batch is for several modalities"),
        (pretrain("--mixing_ratio", "vision=3"), "--mixing_ratio is for several modalities"),
        (pretrain("--mixing_temperature", "2"), "--mixing_temperature is for several modalities"),
        (pretrain("--pairs", "@classes.csv"), "the run has only vision: leave it out"),
        (probe("--labels", "0"), "--labels takes whole numbers from 1 or 'all', not '0'"),
        (probe("--labels", "9999"), "9999"),
        (probe("--pooling", "meen"), "--pooling is 'meen' (did you mean mean?)"),
        (probe("--layers", "99", "--labels", "30"), "99"),
        (probe("--layers", "-2"), "--layers is -2"),
        (probe("--limit", "0"), "--limit is 0"),
        (probe("--seeds", "-1"), "--seeds is -1"),
        (probe("--modality", "smell"), "--modality is 'smell'"),
        (probe("--test_split", "exam"), "not 'exam'"),
        (probe("--dataset", "@one_missing.csv", model="@text"), "row 13 has no label"),
        (probe("--dataset", "@lists_as_text.csv", model="@text"), "holds lists in some rows and single values"),
        (probe("--dataset", "@classes.csv", "--test_split", "train", model="@text"), "is what is trained on"),
        (evaluate("--test_split", "Train"), "split 'Train' of digits is what is trained on"),
        (finetune("@classes.csv", "--test_split", "train"), "--test_split: split 'train' of"),
        (finetune("@classes.csv", "--eval_dataset", "@classes.csv"), "--eval_split: split 'train' of"),
        (pretrain("--probe_split", "train"), "--probe_split: split 'train' of digits is what is trained on"),
        (evaluate("--batch_size", "0"), "--batch_size is 0"),
        (evaluate("--pooling", "flatten"), "--pooling is 'flatten'"),
        (evaluate("--layers", "auto"), "--layers is auto, but must be whole numbers of at least -1"),
        (probe("--layers", "auto", "3"), "--layers is auto, but must be whole numbers of at least -1"),
        (probe("--pooling", "mean+grid2x2"), "--pooling is 'mean+grid2x2'"),
        (evaluate("--names", "a", "b"), "--names gives 2 name(s), but --model 1"),
        (tokenizer_of("@classes.csv", "--vocab_size", "10"), "--vocab_size is 10, but must be at least 261"),
        (tokenizer_of("@classes.csv", "--max_length", "0"), "--max_length is 0, but must be at least 3"),
        (tokenizer_of("@classes.csv", "--limit", "-1"), "--limit is -1"),
        (["inspect", "data2vec2-vision-tiny", "--batch_size", "0"], "--batch_size is 0"),
        (["inspect", "data2vec2-vision-tiny", "--dtype_bytes", "3"], "--dtype_bytes is 3"),
        (["inspect", "data2vec2-audio-tiny", "--seconds", "-1"], "--seconds is -1.0"),
        (["inspect", "data2vec2-text-tiny", "--tokens", "0"], "--tokens is 0"),
        (["inspect", "data2vec2-vision-tiny", "--seconds", "3"], "leave seconds out"),
        (["recipe-check", "data2vec2-vision-tinny"], "did you mean data2vec2-vision-tiny?"),
        (["convert", "@no.pt", "out", "--to", "tensorflow"], "--to is 'tensorflow'"),
        (["convert", "@no.pt", "out", "--published", "data2vec-audio-bas"], "did you mean data2vec-audio-base?"),
        (["export", "@images", "out", "--format", "onxx"], "--format is 'onxx' (did you mean onnx?)"),
        (["export", "@images", "out", "--quantize", "int4"], "--quantize is 'int4'"),
        (["export", "@images", "out", "--modality", "smell"], "--modality is 'smell'"),
        (["merge", "audio=@speech", "--output_dir", "out", "--trunk", "smell"], "--trunk is 'smell'"),
        (["merge", "@speech", "--output_dir", "out"], "is no MODALITY=MODEL"),
        (["merge", "audio=", "--output_dir", "out"], "audio= can't be loaded: no model is named"),
        (["merge", "audio=@speech", "--output_dir", "out", "--config", "hidden_size=3"], "unknown key 'hidden_size'"),
        (["merge", "smell=@speech", "--output_dir", "out"], "smell"),
        (["merge", "audio=@speech", "audio=@speech", "--output_dir", "out"], "a second one"),
        (transcribe("@0.wav", "--chunk_seconds", "0"), "--chunk_seconds is 0.0"),
        (transcribe("@0.wav", "--overlap_seconds", "20"), "--overlap_seconds is 20.0, but must be less than half"),
        (transcribe("@0.wav", "--batch_size", "0"), "--batch_size is 0"),
        (transcribe("@0.wav", "--beam_width", "0"), "--beam_width is 0"),
        (transcribe("@0.wav", "--lm", "none.arpa"), "there is no language model 'none.arpa'"),
        (transcribe("@0.wav", "--lm", "@broken.arpa"), "broken.arpa' is no language model"),
    ],
    "tables and labels": [
        (finetune("@one_missing.csv"), "row 13 has no label, while 12 of 13 rows have whole numbers"),
        (images("@one_missing.csv"), "one_missing.csv has 0 image columns"),
        (finetune("@all_missing.csv"), "'label': rows 1, 2, 3, 4 have no label"),
        (finetune("@one_class.csv"), "one class only, ['0']"),
        (finetune("@ids.csv"), "25 different values in 25 rows"),
        (finetune("@pointed.csv"), "whole numbers with a decimal point in its 6 rows"),
        (finetune("@score_text.csv"), "row 7 is no number ('high'), while 6 of 7 rows"),
        (finetune("@score_inf.csv", "--regression"), "rows 2, 4, 6 of 6 have 'inf'"),
        (finetune("@classes.csv", "--regression", "--label_column", "text"), "but each needs one of its own"),
        (finetune("@words_as_scores.csv", "--regression"), "rows 1, 2 of 2 have 'high'"),
        (finetune("@several.csv"), "to learn several classes a row, write lists in JSONL or parquet"),
        (finetune("@multi.jsonl", "--label_smoothing_factor", "0.1"), "leave out --label_smoothing_factor"),
        (finetune("@no_labels.csv"), "has 0 label columns among ['other', 'text']"),
        (finetune("@no_text.csv"), "no_text.csv has 0 text columns"),
        (finetune("@classes.csv", "--label_column", "colour"), "no column 'colour'"),
        (finetune("@classes.csv", "--pair_column", "colour"), "no column 'colour'"),
        (finetune("@classes.csv", "--eval_split", "dev"), "has no split 'dev'"),
        (finetune("@classes.csv", "--test_dataset", "@scores.csv"), "split 'test' has labels that the training split"),
        (finetune("@scores.csv", "--test_dataset", "@score_text.csv"), "split 'test', column 'label' must hold finite"),
        (finetune("@rows_of_unequal_length.csv"), "rows_of_unequal_length.csv"),
        (finetune("@header_alone.csv"), "header_alone.csv"),
        (finetune("@empty.csv"), "empty.csv"),
        (finetune("@empty.jsonl"), "empty.jsonl"),
        (finetune("@broken.jsonl"), "broken.jsonl"),
        (finetune("@list.json"), "list.json"),
        (finetune("@latin1.csv"), "latin1.csv"),
        (finetune("@broken.parquet"), "broken.parquet"),
        (tags("@lists.csv"), "column 'tokens' holds text, not lists of words (row 1: \"['the', 'cat']\")"),
        (
            tags("@unequal.jsonl"),
            "row 2 of 2: there must be as many tags as words, but the first has 1 words and 2 tags",
        ),
        (tags("@tag_missing.jsonl"), "column 'tags': row 1 has no label"),
        (tags("@word_missing.jsonl"), "there is an empty place (null) among the words of row 1"),
        (tags("@one_tag.jsonl"), "one class only, ['O']"),
        (tags("@number_words.jsonl"), "column 'tokens' holds lists of int64"),
        (finetune("@ratings.csv", task="image-classification", model="images"), "holds fractions (rows 1, 3: 0.5)"),
        (probe("--dataset", "@broken_images"), "split 'train', can be read; the first is"),
        (ctc("@missing_clips.jsonl"), "no.wav"),
        (ctc("@empty_transcripts.jsonl"), "all 2 transcripts in column 'text' are empty"),
        (ctc("@long_transcripts.jsonl"), "1 of 1 clips have fewer frames than their transcript needs"),
        (ctc("@half_clips.jsonl"), "column 'text' holds float64, not transcripts"),
        (ctc("@start.jsonl"), "'start' holds 'soon'"),
        (ctc("@clips.jsonl", "--tokenizer", "@letters"), "lacks letters of the transcripts: 'a' (2x), 'b' (2x)"),
        (ctc("@clips.jsonl", "--tokenizer", "@text"), "but ctc needs a Wav2Vec2CTCTokenizer"),
        (ctc("@clips.jsonl", "--tokenizer", "@folder_of_nothing"), "folder_of_nothing' can't be loaded"),
        (ctc("@clips.jsonl", "--label_column", "path"), "path"),
        (images("@one_class"), "one class only, ['cat']"),
        (images("@broken_images"), "cat"),
        (tokenizer_of("@texts"), "texts"),
    ],
    "what tables hold": [
        (finetune("@semicolons.csv"), "holds numbers with a decimal comma ('1,5')"),
        (finetune("@objects.jsonl"), "column 'label' holds objects, but labels are"),
        (finetune("@classes.csv", "--pair_column", "text"), "but each needs one of its own"),
        (finetune("@classes.csv", "--pair_column", "second"), "no column 'second'"),
        (finetune("@classes.csv", "--column", "lable"), "no column 'lable'"),
        (images("digits", "--column", "label"), "column 'label' of digits holds a number in each row, not images"),
        (tokenizer_of("@utf16.txt"), "utf16.txt holds NUL bytes"),
        (ctc("@times.jsonl"), "column 'begin' beside column 'path'"),
        (ctc("@same_sound.jsonl"), "rows 1, 2 have the same sound"),
        (
            finetune("digits", task="semantic-segmentation", model="images"),
            "a number or class for each image",
        ),
    ],
    "places and models": [
        (pretrain(dataset="@folder_of_nothing"), "folder_of_nothing holds no images"),
        (pretrain(dataset="@missing"), "missing"),
        (pretrain(dataset="@notes.md"), "notes.md"),
        (pretrain(dataset="@broken_images"), "none of the 2 images can be read"),
        (pretrain("--split", "dev"), "'dev'"),
        (pretrain("--probe_split", "dev"), "'dev'"),
        (pretrain("--column", "picture"), "no column 'picture'"),
        (pretrain("--probe_split", "test", "--label_column", "colour"), "no column 'colour'"),
        (
            finetune("digits", "--max_batch_length", "900", model="images"),
            "--max_batch_length is for ctc: leave it out",
        ),
        (pretrain("--model", "@missing"), "there is no folder"),
        (finetune("@classes.csv", model="missing"), "there is no folder"),
        (finetune("@classes.csv", model="notes.md"), "notes.md is a file, not a folder with a model"),
        (finetune("@classes.csv", "--model", "./none"), "there is no folder ./none"),
        (finetune("@classes.csv", "--model", "runs/none/last"), "there is no folder runs/none/last"),
        (probe(model="~/none/last"), "there is no folder ~/none/last"),
        (["export", "none/", "out"], "there is no folder none/"),
        (["merge", "audio=./none", "--output_dir", "out"], "there is no folder ./none"),
        (["transcribe", "./none", "@0.wav"], "there is no folder ./none"),
        (transcribe("@texts"), "texts is a folder: name its files"),
        (
            pretrain("--model", "@speech_of_nan", recipe="data2vec2-audio-tiny", dataset="@clips.jsonl"),
            "speech_of_nan has NaN or infinity in 1 of its",
        ),
        (finetune("@classes.csv", model="text_of_nan"), "text_of_nan has NaN or infinity in 1 of its"),
        (probe(model="@images_of_nan"), "images_of_nan has NaN or infinity in 1 of its"),
        (["transcribe", "@recogniser_of_nan", "@0.wav"], "recogniser_of_nan has NaN or infinity in 1 of its"),
        (["convert", "@text_of_nan", "out.pt", "--to", "fairseq"], "text_of_nan has NaN or infinity in 1 of its"),
        (["export", "@text_of_nan", "out"], "text_of_nan has NaN or infinity in 1 of its"),
        (finetune("@classes.csv", model="no_padding"), "the tokenizer of"),
        (["inspect", "@folder_of_nothing"], "folder_of_nothing holds no model: there is no config.json in it"),
        (finetune("@classes.csv", model="texts"), "texts holds no model: there is no config.json in it"),
        (pretrain("--model", "@text"), "text"),
        (pretrain("--output_dir", "@notes.md"), "notes.md"),
        (finetune("@classes.csv", "--output_dir", "@notes.md"), "notes.md"),
        (evaluate("--output_dir", "@notes.md"), "--output_dir"),
        (finetune("@classes.csv", model="images"), "which can't do text-classification"),
        (finetune("@classes.csv", model="no_tokenizer"), "no_tokenizer"),
        (finetune("@classes.csv", model="cut_weights"), "cut_weights"),
        (finetune("@classes.csv", model="broken_config"), "broken_config"),
        (finetune("@classes.csv", model="list_config"), "list_config"),
        (finetune("@classes.csv", model="no_type"), "no_type"),
        (probe(model="@missing"), "missing"),
        (probe(model="@joint"), "--modality"),
        (evaluate(model="@broken_config"), "broken_config"),
        (["inspect", "@missing"], "missing"),
        (["inspect", "data2vec2-vision-bse"], "is no recipe (did you mean data2vec2-vision-base?), and no config"),
        (["inspect", "@other_type"], "bert"),
        (["inspect", "@list_config"], "list_config"),
        (tokenizer_of("@missing.txt"), "missing.txt"),
        (tokenizer_of("@notes.md"), "notes.md"),
        (["tokenizer", "--dataset", "@classes.csv", "--output_dir", "@text"], "already holds a tokenizer"),
        (["convert", "@missing.pt", "out", "--license", "mit"], "missing.pt"),
        (["convert", "@no.pt", "out"], "--license says under which licence"),
        (["convert", "@no.pt", "out", "--license", "mit"], "no.pt"),
        (["convert", "@no.pt", "@occupied", "--license", "mit"], "occupied exists already"),
        (["export", "@missing", "out"], "missing"),
        (["export", "@other_type", "out"], "of type 'bert'"),
        (["export", "@joint", "out"], "--modality"),
        (["export", "@images", "@occupied"], "occupied exists already"),
        (["merge", "audio=@missing", "--output_dir", "out"], "missing"),
        (["merge", "audio=@text", "text=@text", "--output_dir", "out"], "audio"),
        (["merge", "audio=@speech", "--output_dir", "@occupied"], "occupied exists already"),
        (transcribe("missing.wav"), "no file 'missing.wav'"),
        (transcribe("@broken.wav"), "broken.wav"),
        (transcribe("@0.wav", model="@missing"), "missing"),
        (transcribe("@0.wav", model="@speech"), "is no recogniser"),
        (transcribe("@0.wav", model="@text"), "no CTC head"),
        (["push", "@missing", "a/b"], "missing"),
        (["push", "@folder_of_nothing", "a/b"], "folder_of_nothing"),
        (["push", "@images", "a b!!"], "a b!!"),
    ],
}
OWN_CODE = {"push": (1, 2)}  # what the Hub, or the way to it, refuses
EACH = [(argv, said) for cases in CASES.values() for argv, said in cases]
NAMES = [f"{kind} {number} {argv[0]}" for kind, cases in CASES.items() for number, (argv, _) in enumerate(cases)]


@pytest.fixture(autouse=True)
def progress_bars():
    yield
    logging.enable_progress_bar()


@pytest.mark.parametrize(("argv", "said"), EACH, ids=NAMES)
def test_bad_input(argv, said, material, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in material.rglob("*")}
    try:
        code = data2vec_cli.main([re.sub(r"(^|=)@", rf"\1{material}/", word) for word in argv])
    except SystemExit as stop:
        code = stop.code
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("data2vec")]
    assert code in OWN_CODE.get(argv[0], (2,)), err
    assert "Traceback" not in err and "please report" not in err, err
    assert len(lines) == 1 and lines[0] == err.splitlines()[-1], err
    assert said in lines[0], lines[0]
    assert not list(tmp_path.iterdir()), "something is left behind"
    assert before == {path: path.stat().st_mtime_ns for path in material.rglob("*")}


def test_there_are_150():
    assert len(EACH) >= 150 and len({" ".join(argv) for argv, _ in EACH}) == len(EACH)
