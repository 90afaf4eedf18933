"""The parts of an authors' checkpoint beside its model: with them, the same file is written again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class Source:
    """The parts of a fairseq file that a model does not hold, kept to write the same file again.

    Attributes:
        config: the file's config, plain and resolved.
        names: the names of its weights, in order; the teacher's with `teacher_key` and a point before them.
        teacher_key: the entry that holds the teacher; None without one.
        task_state: what the task had kept, such as a dictionary, plain.
        rest: weights that the model has no place for, or has in another form.
        prefix: what stands before all names in the file, as around a model that was trained in parallel.
    """

    config: dict[str, Any]
    names: list[str]
    teacher_key: str | None = None
    task_state: dict[str, Any] = field(default_factory=dict)
    rest: dict[str, Tensor] = field(default_factory=dict)
    prefix: str = ""

    @property
    def dictionary(self) -> list[str] | None:
        """Symbols of the task's dictionary, in order; None without one."""
        dictionary = self.task_state.get("target_dictionary") or self.task_state.get("source_dictionary")
        if isinstance(dictionary, Mapping):
            dictionary = dictionary.get("symbols")
        return [str(symbol) for symbol in dictionary] if isinstance(dictionary, list) else None

    def class_names(self, num_labels: int) -> dict[int, str] | None:
        """Names of so many classes by their number, which the task has as {name: number}; None where it has none."""
        names = self.task_state.get("labels")
        if not isinstance(names, Mapping):
            return None
        found = {int(number): str(name) for name, number in names.items()}
        return found if sorted(found) == list(range(num_labels)) else None
