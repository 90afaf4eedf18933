"""Figures of predictions, by scikit-learn, scipy and jiwer: nothing is downloaded."""

import warnings

import jiwer
import numpy as np
from scipy import stats
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, matthews_corrcoef

from ..evaluation.probe_labels import mean_average_precision

IGNORED = -100  # a label that does not count
LOWER_IS_BETTER = ("loss", "wer", "cer", "mse")
MULTI_LABEL_FIGURES = ("map", "f1_micro", "f1_macro")


def greater_is_better(metric: str) -> bool:
    """Whether a model with a greater value is the better one; of names with or without "eval_".

    Example:
        >>> greater_is_better("accuracy"), greater_is_better("eval_wer")
        (True, False)
    """
    return not metric.endswith(LOWER_IS_BETTER)


def classification_metrics(predicted: np.ndarray, labels: np.ndarray, num_labels: int) -> dict[str, float]:
    """Accuracy, F1 as a mean over classes, Matthews' correlation; of two classes, F1 of the second (GLUE's) and the
    mean of it and accuracy.

    Args:
        predicted, labels: [N] classes.
        num_labels: of the model.
    """
    figures = {
        "accuracy": accuracy_score(labels, predicted),
        "f1_macro": f1_score(labels, predicted, average="macro", zero_division=0.0),
        "matthews": matthews_corrcoef(labels, predicted),
    }
    if num_labels == 2:
        figures["f1"] = f1_score(labels, predicted, pos_label=1, zero_division=0.0)
        figures["accuracy_f1"] = (figures["accuracy"] + figures["f1"]) / 2
    return {name: float(value) for name, value in figures.items()}


def multi_label_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean average precision over the classes that occur, and F1 of scores above one half.

    Args:
        scores: [N, C], between 0 and 1.
        labels: [N, C], 1 at the classes that a sample has.

    Example:
        >>> scores = np.array([[0.9, 0.2, 0.1], [0.4, 0.8, 0.2], [0.6, 0.3, 0.3]])
        >>> multi_label_metrics(scores, np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]]))["map"]
        0.9166666666666666
    """
    chosen = scores > 0.5
    figures = {"map": mean_average_precision(scores, labels)}
    for average in ("micro", "macro"):
        figures[f"f1_{average}"] = f1_score(labels, chosen, average=average, zero_division=0.0)
    return {name: float(value) for name, value in figures.items()}


def regression_metrics(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Pearson's and Spearman's correlation, their mean and the squared error; 0 where a correlation is not defined.

    Args:
        predicted, labels: [N] numbers.

    Example:
        >>> regression_metrics(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))["spearman"]
        1.0
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant predictions
        pearson, spearman = (
            float(np.nan_to_num(measure(predicted, labels)[0])) if len(labels) > 1 else 0.0
            for measure in (stats.pearsonr, stats.spearmanr)
        )
    figures = {"pearson": pearson, "spearman": spearman, "pearson_spearman": (pearson + spearman) / 2}
    return figures | {"mse": float(np.mean((predicted - labels) ** 2))}


def token_metrics(predicted: np.ndarray, labels: np.ndarray, names: list[str]) -> dict[str, float]:
    """Accuracy of all tokens, and F1 over the tokens of all classes but "O".

    Args:
        predicted, labels: [N] classes of words; where the label is -100, nothing counts.
        names: of the classes.
    """
    counted = labels != IGNORED
    predicted, labels = predicted[counted], labels[counted]
    classes = [index for index, name in enumerate(names) if name != "O"]
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "f1": float(f1_score(labels, predicted, labels=classes, average="micro", zero_division=0.0)),
        "f1_macro": float(f1_score(labels, predicted, labels=classes, average="macro", zero_division=0.0)),
    }


def segmentation_metrics(confusion: np.ndarray) -> dict[str, float]:
    """Mean intersection over union of the classes that occur, and the share of pixels that are right.

    Args:
        confusion: [C, C] numbers of pixels, by true and by predicted class.

    Example:
        >>> segmentation_metrics(np.array([[3, 1], [0, 4]]))
        {'miou': 0.775, 'pixel_accuracy': 0.875}
    """
    right = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - right
    occurs = union > 0
    return {
        "miou": float((right[occurs] / union[occurs]).mean()),
        "pixel_accuracy": float(right.sum() / confusion.sum()),
    }


def pixel_confusion(predicted: np.ndarray, labels: np.ndarray, num_labels: int) -> np.ndarray:
    """[C, C] numbers of pixels by true and by predicted class, where the label counts; see `segmentation_metrics`."""
    counted = (labels >= 0) & (labels < num_labels)
    return confusion_matrix(labels[counted], predicted[counted], labels=range(num_labels))


def transcript_metrics(predicted: list[str], transcripts: list[str]) -> dict[str, float]:
    """Word and character error rate: changed, missing and added ones over those of the transcripts.

    Args:
        predicted, transcripts: N sentences; no transcript is empty.

    Example:
        >>> transcript_metrics(["the cat sat"], ["the cat sits"])["cer"]
        0.16666666666666666
    """
    return {"wer": float(jiwer.wer(transcripts, predicted)), "cer": float(jiwer.cer(transcripts, predicted))}
