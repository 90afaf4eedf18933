"""Classes of labelled data: numbers and names from a column, the same in all splits."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import datasets

from .label_checks import WAYS, is_whole, meant, require_labels
from .loading import STRINGS, column_types, find_column, shown_type
from .source_files import LABEL_COLUMNS

LABEL_TYPE = re.compile(r"u?int\d+|float\d+|bool|null|decimal.*")


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
        """The classes of a column: those that its type names, else all its values, numbers by value, others sorted.

        Raises:
            ValueError: a row has no label, or there is only one class.
        """
        require_labels(label_values(dataset, column), column, dataset)
        feature = _class_label(column_types(dataset)[column])
        names = list(feature.names) if feature else [str(value) for value in in_order(set(cls.values(dataset, column)))]
        if len(names) < 2:
            raise ValueError(f"column {column!r} has one class only, {names}: there is nothing to learn")
        return cls(names)

    @staticmethod
    def values(dataset: datasets.Dataset, column: str) -> list[Any]:
        """Values of a column, row by row; lists are flattened."""
        rows = label_values(dataset, column)
        return [value for row in rows for value in (row if isinstance(row, list) else [row])]

    def check(self, dataset: datasets.Dataset, column: str, split: str) -> None:
        """Require that all rows of a split have a label, and one that is known.

        Raises:
            ValueError: names those that aren't known, and how often they occur.
        """
        values = label_values(dataset, column)
        if values and all(value is None for value in values):
            raise ValueError(
                f"split {split!r} has no labels: column {column!r} is empty in all of its {len(values):,} rows, or -1, "
                "as in GLUE's test sets. Name another split"
            )
        try:
            require_labels(values, column, dataset)
        except ValueError as error:
            raise ValueError(f"split {split!r}, {error}") from error
        unseen = Counter(str(value) for value in self.values(dataset, column) if str(value) not in self.index)
        if unseen:
            shown = ", ".join(f"{name!r} ({count}x)" for name, count in unseen.most_common(5))
            advice = "remove these rows, or add such rows to the training split"
            if {meant(name) for name in unseen} <= {meant(name) for name in self.names}:
                advice = f"the same, but for {WAYS}: write them alike"
            raise ValueError(
                f"split {split!r} has labels that the training split lacks: {shown}. Known are "
                f"{', '.join(self.names[:20])}: {advice}"
            )

    def reader(self, dataset: datasets.Dataset, column: str) -> Any:
        """A function that gives the number of an example's label, or of each where a row holds several."""
        plain = _plain(column_types(dataset)[column])

        def number(example: dict[str, Any]) -> Any:
            value = plain(example[column])
            return [self(name) for name in value] if isinstance(value, list) else self(value)

        return number

    def __call__(self, name: Any) -> int:
        return self.index[str(name)]

    def configure(self, config: Any) -> None:
        """Write number and names of the classes into a model's config."""
        config.id2label = dict(enumerate(self.names))
        config.label2id = dict(self.index)


def label_values(dataset: datasets.Dataset, column: str) -> list[Any]:
    """The label of each row: a name, number or truth value, a list of them, or None where there is none.

    Of a column of fractions, whole numbers are given as such: pandas turns 1 into 1.0 where one row lacks its number.

    Raises:
        ValueError: the column holds something else, such as objects, bytes or dates.
    """
    kind = column_types(dataset)[column]
    inner = kind.feature if isinstance(kind, datasets.List | datasets.LargeList) else kind
    named = isinstance(inner, datasets.ClassLabel) or inner in STRINGS
    if not named and not (isinstance(inner, datasets.Value) and LABEL_TYPE.fullmatch(inner.dtype)):
        raise ValueError(
            f"column {column!r} holds {shown_type(kind)}, but labels are text, numbers or truth values: name another "
            "--label_column, or write them so"
        )
    plain = _plain(kind)
    return [plain(value) for value in dataset[column][:]]


def _plain(kind: Any) -> Callable[[Any], Any]:
    """A function that turns a value of a column of this type into a label."""
    feature = _class_label(kind)

    def plain(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [plain(member) for member in value]
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if feature is not None:
            return feature.names[value] if value >= 0 else None
        if isinstance(value, float | Decimal):
            value = float(value)
            return None if math.isnan(value) else int(value) if is_whole(value) else value
        return value

    return plain


def rarities(rows: Iterable[Any]) -> list[float]:
    """How rare the classes of each row are: the sum over its classes of 1 / (number of rows that have it).

    Args:
        rows: the class of each row, or a list of them; an empty one gives 0.

    Example:
        >>> rarities([["speech"], ["speech", "wren"], []]), rarities(["cat", "dog", "cat"])
        ([0.5, 1.5, 0.0], [0.5, 1.0, 0.5])
    """
    classes = [set(row) if isinstance(row, list) else {row} for row in rows]
    counts = Counter(name for own in classes for name in own)
    return [sum((1 / counts[name] for name in own), 0.0) for own in classes]


def in_order(values: Iterable[Any]) -> list[Any]:
    """Values sorted, strings as numbers if all of them are whole numbers.

    Example:
        >>> in_order(["10", "2", "007"]), in_order(["b", "10", "2"])
        (['2', '007', '10'], ['10', '2', 'b'])
    """
    values = list(values)
    if all(isinstance(value, str) and is_whole(value) for value in values):
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


def is_list(kind: Any) -> bool:
    """Whether a column of this type holds lists."""
    return isinstance(kind, datasets.List | datasets.LargeList | list)


def _class_label(kind: Any) -> datasets.ClassLabel | None:
    inner = kind.feature if isinstance(kind, datasets.List | datasets.LargeList) else kind
    return inner if isinstance(inner, datasets.ClassLabel) else None
