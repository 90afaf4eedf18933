"""Labels as tables have them: words and whole numbers are classes, in order, and decimals are measured."""

import datasets
import pytest

from modeling_data2vec.trainers.labels import LabelMap, are_measured
from modeling_data2vec.trainers.tables import read_csv

pytestmark = pytest.mark.usefixtures("datasets_cache")


def column_of(tmp_path, cells: list[str]) -> datasets.Dataset:
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"some text,{cell}\n" for cell in cells))
    return read_csv([tmp_path / "a.csv"])


def test_whole_numbers_are_classes_in_their_order(tmp_path):
    dataset = column_of(tmp_path, ["10", "2", "1", "10"])
    labels = LabelMap.of(dataset, "label")
    assert labels.names == ["1", "2", "10"] and not are_measured(dataset, "label")
    read = labels.reader(dataset, "label")
    assert [read(row) for row in dataset] == [2, 1, 0, 2]


@pytest.mark.parametrize("cells", [["NA", "EU", "AS"], ["1", "2", "many"], ["007", "7", "8"], ["null", "none", "nan"]])
def test_words_are_classes(tmp_path, cells):
    dataset = column_of(tmp_path, cells)
    assert sorted(LabelMap.of(dataset, "label").names) == sorted(cells) and not are_measured(dataset, "label")


@pytest.mark.parametrize(
    "cells, measured", [(["0.5", "2.5"], True), (["1", "2.5", ""], True), (["1", "2", ""], False), (["", ""], False)]
)
def test_decimals_are_measured(tmp_path, cells, measured):
    assert are_measured(column_of(tmp_path, cells), "label") == measured


def test_a_missing_label_does_not_make_classes_into_numbers(tmp_path):
    with pytest.raises(ValueError, match="column 'label' has .*without a label"):
        LabelMap.of(column_of(tmp_path, ["1", "2", "", "1"]), "label")
