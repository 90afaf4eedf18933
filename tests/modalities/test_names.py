"""Kinds of data are known by subclassing."""

import gc

import pytest

from modeling_data2vec import Modality
from modeling_data2vec.trainers.modalities.image import ImageModality
from modeling_data2vec.trainers.modalities.names import modalities, modality_of_input


@pytest.fixture(autouse=True)
def forgotten():
    """Classes that a test makes are gone after it."""
    before = modalities()
    yield
    gc.collect()
    assert modalities() == before


def test_a_subclass_is_known_at_once():
    class Touch(Modality):
        name, input_name = "touch", "pressures"

    assert modalities()["touch"] is modality_of_input("pressures") is Touch


def test_what_changes_a_kind_of_the_package_does_not_replace_it():
    class Larger(ImageModality):
        max_masks = 9

    assert modalities()["vision"] is ImageModality is not Larger


def test_two_kinds_with_one_input_are_refused():
    class Photos(Modality):
        name, input_name = "photos", "pixel_values"

    with pytest.raises(ValueError, match="'vision' and 'photos' both take 'pixel_values'"):
        modalities()
    del Photos


def test_an_input_that_no_kind_takes_names_the_option():
    with pytest.raises(
        ValueError, match="the model takes 'odors', but only .* name the file with its Modality by --pl"
    ):
        modality_of_input("odors")
