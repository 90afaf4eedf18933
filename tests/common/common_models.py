"""transformers' common tests of models, for every base and head of data2vec 2.0; `run.py` makes them importable."""

import unittest
from typing import Any

import torch
from tiny_runs import KINDS
from transformers import AutoModel
from transformers_tests.test_modeling_common import ModelTesterMixin

from modeling_data2vec import (
    Data2Vec2AudioForAudioFrameClassification,
    Data2Vec2AudioForCTC,
    Data2Vec2AudioForSequenceClassification,
    Data2Vec2AudioForXVector,
    Data2Vec2AudioModel,
    Data2Vec2TextForMaskedLM,
    Data2Vec2TextForQuestionAnswering,
    Data2Vec2TextForSequenceClassification,
    Data2Vec2TextForTokenClassification,
    Data2Vec2TextModel,
    Data2Vec2VisionForImageClassification,
    Data2Vec2VisionForSemanticSegmentation,
    Data2Vec2VisionModel,
)
from modeling_data2vec.auto import MODELS, TASKS

# The tests look our classes up by their names where transformers lists its own.
for _auto, _model in (*TASKS, *((AutoModel, model) for _, model, _ in MODELS)):
    _auto._model_mapping._model_mapping[_model.config_class.model_type] = _model.__name__


class Tester:
    """What the tests ask for: a small config, a batch, and their sizes."""

    batch_size = 3
    is_training = True

    def __init__(self, kind: str, **changes: Any):
        model_class, fields = KINDS[kind]
        self.config_class, self.fields = model_class.config_class, fields | changes
        config = self.get_config()
        self.num_hidden_layers = config.depth
        self.expected_num_hidden_layers = self.num_hidden_layers + 1
        self.hidden_size = config.hidden_size
        self.num_attention_heads = config.num_attention_heads

    def get_config(self) -> Any:
        return self.config_class(**self.fields)


class SpeechTester(Tester):
    samples = 4_000

    def __init__(self):
        super().__init__("speech 2.0", tdnn_dim=[8, 8], tdnn_kernel=[3, 3], tdnn_dilation=[1, 2], xvector_output_dim=8)
        self.seq_length = self.get_config().num_frames(self.samples)

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, torch.Tensor]]:
        clips = torch.randn(self.batch_size, self.samples)
        return self.get_config(), {"input_values": clips, "attention_mask": torch.ones_like(clips, dtype=torch.long)}


class ImageTester(Tester):
    def __init__(self, num_prenet_layers: int = 1, num_hidden_layers: int = 1):
        layers = {"num_prenet_layers": num_prenet_layers, "num_hidden_layers": num_hidden_layers}
        super().__init__("images 2.0", **layers, average_top_k_layers=1)
        config = self.get_config()
        self.seq_length = config.grid[0] * config.grid[1] + config.num_extra_tokens

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, torch.Tensor]]:
        config = self.get_config()
        return config, {"pixel_values": torch.randn(self.batch_size, config.num_channels, *config.image_shape)}


class TextTester(Tester):
    seq_length = 12

    def __init__(self):
        super().__init__("text 2.0")
        self.vocab_size = self.get_config().vocab_size

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, torch.Tensor]]:
        ids = torch.randint(4, self.vocab_size, (self.batch_size, self.seq_length))
        return self.get_config(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


class SpeechTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (
        Data2Vec2AudioModel,
        Data2Vec2AudioForCTC,
        Data2Vec2AudioForSequenceClassification,
        Data2Vec2AudioForAudioFrameClassification,
        Data2Vec2AudioForXVector,
    )
    test_resize_embeddings = False

    def setUp(self):
        self.model_tester = SpeechTester()

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if return_labels and model_class is Data2Vec2AudioForAudioFrameClassification:
            inputs["labels"] = torch.zeros(self.model_tester.batch_size, self.model_tester.seq_length, dtype=torch.long)
        elif return_labels and model_class is Data2Vec2AudioForXVector:
            inputs["labels"] = torch.arange(self.model_tester.batch_size) % 2
        return inputs

    @unittest.skip("a waveform has no table of embeddings")
    def test_model_get_set_embeddings(self):
        pass


class ImageTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (
        Data2Vec2VisionModel,
        Data2Vec2VisionForImageClassification,
        Data2Vec2VisionForSemanticSegmentation,
    )
    test_resize_embeddings = False

    def setUp(self):
        self.model_tester = ImageTester()

    @unittest.skip("patches are embedded by a convolution, not by a table")
    def test_model_get_set_embeddings(self):
        pass


class TextTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (
        Data2Vec2TextModel,
        Data2Vec2TextForSequenceClassification,
        Data2Vec2TextForTokenClassification,
        Data2Vec2TextForQuestionAnswering,
        Data2Vec2TextForMaskedLM,
    )

    def setUp(self):
        self.model_tester = TextTester()
