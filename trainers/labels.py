"""Classes of labelled data: from what a column holds to numbers and names, the same in all splits."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import datasets

from .sources import STRINGS, column_types, find_column
from .table_rows import NUMBER

FLOATS = {"float16", "float32", "float64"}
WHOLE_NUMBER = re.compile(r"[+-]?\d+")
LABEL_COLUMNS = ("label", "labels", "fine_label")


def label_column(dataset: Any, source: str, column: str | None) -> str:
    """The column with labels: the one asked for, the one class column, or one of the usual names.

    Raises:
        ValueError: there is none, or several.
    """
    advice = "fine-tuning needs labels: name their column with --label_column"
    return find_column(
        dataset, source, "label", column=column, feature=datasets.ClassLabel, names=LABEL_COLUMNS, advice=advice
    )


class LabelMap:
    """Numbers and names of classes.

    Args:
        names: of the classes, in order.

    Example:
        >>> data = datasets.Dataset.from_dict({"label": ["dog", "cat", "dog"]})
        >>> labels = LabelMap.of(data, "label")
        >>> labels.names, [labels(value) for value in labels.values(data, "label")]
        (['cat', 'dog'], [1, 0, 1])
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.index = {name: index for index, name in enumerate(names)}

    @classmethod
    def of(cls, dataset: datasets.Dataset, column: str) -> "LabelMap":
        """The classes of a column: those that its type names, else all its values, sorted; whole numbers as numbers.

        Raises:
            ValueError: a row has no label, or there is only one class.
        """
        feature = _class_label(column_types(dataset)[column])
        found = list(dict.fromkeys(cls.values(dataset, column)))
        if None in found:
            raise ValueError(f"column {column!r} has rows without a label: remove them, or name another --label_column")
        names = list(feature.names) if feature else [str(value) for value in in_order(found)]
        if len(names) < 2:
            raise ValueError(f"column {column!r} has one class only, {names}: there is nothing to learn")
        return cls(names)

    @staticmethod
    def values(dataset: datasets.Dataset, column: str) -> list[Any]:
        """What a column holds, row by row; of rows that hold lists, their members one after another."""
        feature = _class_label(column_types(dataset)[column])
        flat: Iterable[Any] = dataset[column]
        if _is_list(column_types(dataset)[column]):
            flat = (value for row in flat for value in row)
        if feature is None:
            return list(flat)
        return [feature.names[value] if value is not None and value >= 0 else None for value in flat]

    def check(self, dataset: datasets.Dataset, column: str, split: str) -> None:
        """Require that all labels of a split are known.

        Raises:
            ValueError: names those that aren't, and how often they occur.
        """
        unseen = Counter(str(value) for value in self.values(dataset, column) if str(value) not in self.index)
        if unseen:
            shown = ", ".join(f"{name!r} ({count}x)" for name, count in unseen.most_common(5))
            raise ValueError(
                f"split {split!r} has labels that the training split lacks: {shown}. Known are "
                f"{', '.join(self.names[:20])}: remove these rows, or add such rows to the training split"
            )

    def reader(self, dataset: datasets.Dataset, column: str) -> Any:
        """A function that gives the number of an example's label, or of each where a row holds several."""
        feature = _class_label(column_types(dataset)[column])

        def number(value: Any) -> int:
            return self.index[feature.names[value] if feature else str(value)]

        if _is_list(column_types(dataset)[column]):
            return lambda example: [number(value) for value in example[column]]
        return lambda example: number(example[column])

    def __call__(self, name: Any) -> int:
        return self.index[str(name)]

    def configure(self, config: Any) -> None:
        """Write number and names of the classes into a model's config."""
        config.id2label = dict(enumerate(self.names))
        config.label2id = dict(self.index)


def in_order(values: Iterable[Any]) -> list[Any]:
    """Values sorted, strings as numbers if all of them are whole numbers.

    Example:
        >>> in_order(["10", "2", "007"]), in_order(["b", "10", "2"])
        (['2', '007', '10'], ['10', '2', 'b'])
    """
    values = list(values)
    if all(isinstance(value, str) and WHOLE_NUMBER.fullmatch(value) for value in values):
        return sorted(values, key=lambda value: (int(value), value))
    return sorted(values)


def as_whole_numbers(labels: list[Any]) -> list[Any]:
    """Labels as ints where all are strings such as "12", as CSV has them; others as they are.

    Example:
        >>> as_whole_numbers(["2", "10"]), as_whole_numbers(["2", "007"])
        ([2, 10], ['2', '007'])
    """
    plain = all(isinstance(label, str) and re.fullmatch("0|-?[1-9][0-9]*", label) for label in labels)
    return [int(label) for label in labels] if plain else labels


def are_measured(dataset: datasets.Dataset, column: str) -> bool:
    """Whether a column holds numbers to predict: floats, or the text of numbers of which some have decimals."""
    kind = column_types(dataset)[column]
    if getattr(kind, "dtype", None) in FLOATS:
        return True
    if kind not in STRINGS:
        return False
    cells = [value for value in dataset[column] if value is not None]
    return all(NUMBER.fullmatch(cell) for cell in cells) and not all(WHOLE_NUMBER.fullmatch(cell) for cell in cells)


def _is_list(kind: Any) -> bool:
    return isinstance(kind, datasets.List | datasets.LargeList | list)


def _class_label(kind: Any) -> datasets.ClassLabel | None:
    inner = kind.feature if isinstance(kind, datasets.List | datasets.LargeList) else kind
    return inner if isinstance(inner, datasets.ClassLabel) else None
