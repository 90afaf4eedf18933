"""All tasks by name."""

from .any_classification import AnyClassification
from .classification import AudioClassification, ImageClassification, TextClassification
from .ctc import CTC
from .frames import AudioFrameClassification
from .segmentation import SemanticSegmentation
from .task import Task
from .tokens import TokenClassification

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        CTC,
        AnyClassification,
        AudioClassification,
        AudioFrameClassification,
        ImageClassification,
        SemanticSegmentation,
        TextClassification,
        TokenClassification,
    )
}
