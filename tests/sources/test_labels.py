"""Labels before training: which classes a column has, and what is refused by row."""

from datetime import date
from decimal import Decimal
from types import SimpleNamespace

import datasets
import pytest
from PIL import Image

from modeling_data2vec.trainers.finetuning.tasks.all_tasks import TASKS
from modeling_data2vec.trainers.modalities.image import load_images
from modeling_data2vec.trainers.sources.label_checks import say_alike
from modeling_data2vec.trainers.sources.labels import LabelMap
from modeling_data2vec.trainers.sources.tables import read_csv

NAN = float("nan")


def survey(values, task="text-classification", **options):
    """A task that has seen a table with these labels."""
    options = SimpleNamespace(regression=False, label_column="label", column="text", **options)
    config = SimpleNamespace(id2label={}, label2id={}, problem_type=None)
    one = TASKS[task](config, None, options, None)
    one.column, one.label_column = "text", "label"
    one.survey(table(values))
    return one


def table(values, **columns):
    rows = len(values)
    return datasets.Dataset.from_dict({"text": ["some words"] * rows, "label": values} | columns)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["10", "9", "1", "9"], ["1", "9", "10"]),
        (["b", "10", "9"], ["10", "9", "b"]),
        ([10, -1, 9], ["-1", "9", "10"]),
        ([True, False], ["False", "True"]),
        (["01", "1", "2"], ["01", "1", "2"]),
        (["NA", "null", "nan"], ["NA", "nan", "null"]),
    ],
    ids=str,
)
def test_classes_are_what_stands_in_the_table_in_order(values, names):
    data = table(values)
    labels = LabelMap.of(data, "label")
    assert labels.names == names
    assert [labels.reader(data, "label")(row) for row in data] == [names.index(str(value)) for value in values]


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["10", "2", "1", "10"], ["1", "2", "10"]),
        (["NA", "EU", "AS"], ["AS", "EU", "NA"]),
        (["1", "2", "many"], ["1", "2", "many"]),
        (["007", "7", "8"], ["007", "7", "8"]),
        (["null", "none", "nan"], ["nan", "none", "null"]),
    ],
    ids=str,
)
def test_classes_of_a_csv_are_the_characters_in_it(tmp_path, datasets_cache, cells, names):
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"some text,{cell}\n" for cell in cells))
    task = survey(read_csv([tmp_path / "a.csv"])["label"][:])
    assert task.labels.names == names and task.config.problem_type == "single_label_classification"


def test_a_label_that_is_written_in_another_way_in_another_split():
    labels = LabelMap.of(datasets.Dataset.from_dict({"label": ["caf\u00e9", "tea"]}), "label")
    for cells, advice in ((["cafe\u0301", "Tea "], "the same, but for spaces, capitals"), (["Tea ", "cup"], "remove")):
        with pytest.raises(ValueError, match=f"split 'test' has labels that the training split lacks.*: {advice}"):
            labels.check(datasets.Dataset.from_dict({"label": cells}), "label", "test")


def test_a_type_with_names_gives_the_classes():
    feature = datasets.ClassLabel(names=["dog", "cat", "bird"])
    data = table([0, 1, 0]).cast_column("label", feature)
    assert survey([0, 1]).labels.names == ["0", "1"]
    labels = LabelMap.of(data, "label")
    assert labels.names == ["dog", "cat", "bird"] and labels.reader(data, "label")(data[1]) == 1
    hidden = table([-1, -1]).cast_column("label", feature)
    with pytest.raises(ValueError, match="split 'test' has no labels: column 'label' is empty in all of its 2 rows"):
        labels.check(hidden, "label", "test")
    with pytest.raises(ValueError, match="split 'test', column 'label': row 2 has no label"):
        labels.check(table([1, -1]).cast_column("label", feature), "label", "test")


EIGHTEEN = [0, 1, 2] * 6


@pytest.mark.parametrize(
    "values",
    [
        [*map(str, EIGHTEEN), None],
        [*map(str, EIGHTEEN), " "],
        [*EIGHTEEN, None],
        [*map(float, EIGHTEEN), NAN],
        [*map(float, EIGHTEEN), None],
    ],
    ids=["text", "blank", "whole numbers", "floats of pandas", "floats of arrow"],
)
@pytest.mark.parametrize("task", ["text-classification", "audio-classification"])
def test_one_label_missing_among_whole_numbers(values, task):
    with pytest.raises(ValueError, match="row 19 has no label, while 18 of 19 rows have whole numbers, which are cl"):
        survey(values, task)


def test_lists_are_any_number_of_classes():
    task = survey([["b", "a"], [], ["c", "a", "a"]])
    assert task.labels.names == ["a", "b", "c"] and task.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert task.config.problem_type == "multi_label_classification" and task.metric == "map"
    assert task.learns_several and task.strata(None) is None


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        ([0.5, 2.0, 1.5], True),
        (["0.5", "2", "1.5"], True),
        (["2", "1", "2"], False),
        ([2, 1, 2], False),
        (["1.5", "a", "b", "c"], False),
        ([True, False], False),
        ([Decimal("0.5"), Decimal("2.0")], True),
        ([Decimal("1.0"), Decimal("2.0")], False),
    ],
    ids=str,
)
def test_fractions_are_predicted_and_whole_numbers_are_classes(values, numbers):
    task = survey(values)
    assert (task.labels is None) == numbers
    assert task.config.problem_type == ("regression" if numbers else "single_label_classification")
    assert task.metric == ("pearson_spearman" if numbers else "accuracy")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 2.0, 1.0], "whole numbers with a decimal point in its 3 rows: .* --regression"),
        (["1.0", "2.0", "1.0"], "whole numbers with a decimal point in its 3 rows: .* --regression"),
        (["0.5", "1.5", "n/a"], r"row 3 is no number \('n/a'\), while 2 of 3 rows have numbers to predict"),
        ([0.5, float("inf"), 1.5], "row 2 of 3 has inf"),
        (["1,5", "2,5", "3"], r"decimal comma \('1,5'\) in 2 of 3 rows: write them with a point"),
        ([{"id": 1}, {"id": 2}], "column 'label' holds objects, but labels are text, numbers or truth values"),
        ([b"a", b"b"], "column 'label' holds binary, but"),
        ([date(2020, 1, 1), date(2020, 1, 2)], "column 'label' holds date32, but"),
        ([0.5, NAN, 1.5], "row 2 has no label, while 2 of 3 rows have numbers"),
        (["a", "a", "a"], r"one class only, \['a'\]"),
        ([f"id{i}" for i in range(20)], "20 different values in 20 rows, e.g. 'id0': they name rows, not classes"),
        (list(range(10_000)), "10,000 different values in 10,000 rows"),
        (
            ["['a', 'b']", "['b']"],
            r"holds text, not lists: row 1 is .*write lists in JSONL or parquet",
        ),
        ([["a", "b"], ["b", None]], "row 2 has no label"),
        ([["a"], ["a"], []], r"one class only, \['a'\]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_labels_that_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        survey(values)


def test_what_lies_beside_the_folders_of_classes_has_no_class(tmp_path, caplog):
    """It was a class of its own once, named as the folder of all."""
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "Dog/1.png", "cover.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    data = load_images(str(tmp_path))[0]
    with pytest.raises(ValueError, match=rf"row 4 \({tmp_path}/cover.png\) has no label"):
        LabelMap.of(data, "label")
    (tmp_path / "cover.png").unlink()
    data = load_images(str(tmp_path))[0]
    assert LabelMap.of(data, "label").names == ["Dog", "cat", "dog"]
    say_alike([data.features["label"].names[number] for number in data["label"]], "label")
    assert "'Dog' (1x), 'dog' (1x)" in caplog.text


def test_only_texts_have_numbers_to_predict():
    with pytest.raises(ValueError, match=r"holds fractions \(row 1: 0.5\), but --task audio-classification learns cl"):
        survey([0.5, 1.0], "audio-classification")
    assert survey([0.0, 1.0], "audio-classification").labels.names == ["0", "1"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["cat", "Cat ", "dog"], "'cat' (1x), 'Cat ' (1x). They are learned as different ones"),
        (["1", "01", "2"], "'1' (1x), '01' (1x)"),
        (["caf\u00e9", "cafe\u0301", "tea"], "the form of accents"),
        ([0, 1, -1, 0], "1 of 4 rows with -1, which is taken as a class"),
        (["0", "1", "0", "nan"], "whole numbers in 3 of 4 rows; the others, e.g. 'nan', are taken as classes"),
        ([f"{i % 20}x" for i in range(30)], "20 classes in 30 rows: few of them can be learned"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_labels_that_one_is_told_about(values, message, caplog):
    assert survey(values).labels is not None
    assert message in caplog.text


def test_a_number_to_predict_must_be_one_in_every_split():
    task = survey([0.5, 1.5])
    with pytest.raises(
        ValueError, match="split 'test', column 'label' must hold finite numbers .* row 2 of 2 has nothing"
    ):
        task.check(table(["1.5", None]), "test")
    options = SimpleNamespace(regression=True)
    task.options = options
    with pytest.raises(ValueError, match="finite numbers where numbers are predicted, but rows 1, 3 of 3 have 'high'"):
        task.survey(table(["high", "2", "low"]))


# ---- tokens ----


def tagged(words, tags):
    options = SimpleNamespace(label_column="tags", column="words")
    one = TASKS["token-classification"](SimpleNamespace(), None, options, None)
    one.column, one.label_column = "words", "tags"
    one.survey(datasets.Dataset.from_dict({"words": words, "tags": tags}))
    return one


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        (
            ["['the', 'cat']"],
            ["['O', 'B']"],
            r"'words' holds text, not lists of words \(row 1: \"\['the', 'cat'\]\"\). .*",
        ),
        (
            [["the", "cat"]],
            ["['O', 'B']"],
            "'tags' holds text, not lists of tags .* write the table as JSONL or parquet",
        ),
        ([["the", "cat"], ["a"]], [["O", "B"], []], "row 2 of 2: .* the first has 1 words and 0 tags"),
        ([["the", "cat"], ["a"]], [["O", None], ["B"]], "column 'tags': row 1 has no label"),
        ([[1, 2]], [["O", "B"]], "holds lists of int64, not of words"),
        ([["the", "cat"]], [["O", "O"]], "one class only"),
    ],
    ids=["text", "tags in text", "unequal", "a tag missing", "numbers", "one class"],
)
def test_tags_that_are_refused(words, tags, message):
    with pytest.raises(ValueError, match=message):
        tagged(words, tags)


def test_tags_of_any_kind_and_rows_without_words():
    assert tagged([["a", "b"], [], ["c"]], [["O", "B-PER"], [], ["I-PER"]]).labels.names == ["B-PER", "I-PER", "O"]
    assert tagged([["a", "b"], ["c"]], [[10, 9], [0]]).labels.names == ["0", "9", "10"]
