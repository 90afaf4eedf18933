"""Figures of predictions against numbers worked out by hand."""

import numpy as np
import pytest

from modeling_data2vec.trainers.finetuning.metrics import (
    classification_metrics,
    greater_is_better,
    pixel_confusion,
    regression_metrics,
    segmentation_metrics,
    token_metrics,
    transcript_metrics,
)


def test_classes():
    figures = classification_metrics(np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0]), 2)
    assert figures["accuracy"] == 0.75 and figures["f1"] == pytest.approx(2 / 3)
    assert figures["f1_macro"] == pytest.approx((2 / 3 + 0.8) / 2)
    assert figures["matthews"] == pytest.approx(1 / np.sqrt(3))
    assert "f1" not in classification_metrics(np.array([2, 1]), np.array([1, 1]), 3)


def test_numbers_and_constant_predictions():
    assert regression_metrics(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))["pearson"] == pytest.approx(1)
    constant = regression_metrics(np.ones(3), np.array([1.0, 2.0, 3.0]))
    assert constant["pearson"] == constant["spearman"] == 0.0 and constant["mse"] == pytest.approx(5 / 3)


def test_tokens_without_a_label_do_not_count():
    figures = token_metrics(np.array([[0, 1, 1, 2]]), np.array([[0, 1, 2, -100]]), ["O", "A", "B"])
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["f1"] == pytest.approx(0.5)  # one of two found, one of two right


def test_pixels_that_do_not_count():
    labels, predicted = np.array([0, 0, 1, 255]), np.array([0, 1, 1, 1])
    figures = segmentation_metrics(pixel_confusion(predicted, labels, 3))
    assert figures["miou"] == 0.5 and figures["pixel_accuracy"] == pytest.approx(2 / 3)


def test_words_and_letters():
    figures = transcript_metrics(["", "the cat"], ["a dog", "the cat"])
    assert figures["wer"] == 0.5 and figures["cer"] == pytest.approx(5 / 12)


@pytest.mark.parametrize("name", ["eval_loss", "wer", "eval_cer", "mse"])
def test_what_should_be_low(name):
    assert not greater_is_better(name)
