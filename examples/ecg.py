"""A kind of data that the package doesn't know: electrocardiograms, in one file. docs/own_data.md explains each part.

    data2vec pretrain --plugin examples/ecg.py --recipe ecg --dataset FOLDER

`FOLDER` holds recordings as `.npy` files [leads, samples], all of one sampling rate.
"""

import numpy as np
import torch
from huggingface_hub.dataclasses import strict
from transformers import AutoModelForSequenceClassification, FeatureExtractionMixin
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.output_capturing import capture_outputs

from modeling_data2vec import (
    Data2Vec2Encoder,
    Data2Vec2EncoderForPreTraining,
    Data2Vec2ForPooledClasses,
    Data2Vec2PreTrainedModel,
    Data2Vec2PreTrainingConfig,
    Medium,
    Modality,
    PatchFeatureEncoder,
    PatchShape,
    RawFeatures,
    UnreadableError,
)

# ---- the model ----


@strict
class EcgConfig(PatchShape, Data2Vec2PreTrainingConfig):
    """Windows of recordings, cut into patches along time; a patch holds all leads."""

    model_type = "data2vec2-ecg"

    num_channels: int = 12  # leads
    num_samples: int = 1000  # of a window
    patch_size: int = 25  # samples: 0.1 seconds
    mask_length: int = 4
    hidden_size: int = 192
    num_hidden_layers: int = 6

    @property
    def input_shape(self):
        return (self.num_samples,)


class EcgPreTrainedModel(Data2Vec2PreTrainedModel):
    config_class = EcgConfig
    base_model_prefix = "data2vec2_ecg"
    modality = "ecg"
    main_input_name = "leads"
    input_modalities = ("time",)
    feature_encoder_class = PatchFeatureEncoder
    num_axes = 1


class EcgModel(EcgPreTrainedModel, Data2Vec2Encoder):
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, leads, **kwargs):
        return self.encode(leads, **kwargs)


class EcgForPreTraining(EcgPreTrainedModel, Data2Vec2EncoderForPreTraining):
    encoder_class = EcgModel

    def forward(self, leads=None, mask=None, return_loss=True, **view):
        return self.pretrain(leads, mask, None, return_loss, **view)


class EcgForClassification(EcgPreTrainedModel, Data2Vec2ForPooledClasses):
    encoder_class = EcgModel
    auto_class = AutoModelForSequenceClassification

    def forward(self, leads, labels=None, **kwargs):
        loss, logits = self.classify(self.encode(leads, **kwargs)[1].pooler_output, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class EcgFeatureExtractor(FeatureExtractionMixin):
    """Gives each lead mean 0 and deviation 1."""

    model_input_names = ["leads"]

    def __init__(self, sampling_rate=250, **kwargs):
        super().__init__(**kwargs)
        self.sampling_rate = sampling_rate

    def __call__(self, recording):
        values = torch.as_tensor(np.asarray(recording), dtype=torch.float32)  # [leads, samples]
        return {"leads": (values - values.mean(1, keepdim=True)) / values.std(1, keepdim=True).clamp_min(1e-6)}


# ---- the data ----


class EcgModality(Modality):
    name, input_name, title = "ecg", "leads", "electrocardiograms"
    sample, position = "recording", "patch"
    medium = Medium(noun="recording", suffixes=frozenset({".npy"}), columns=("recording",))
    processor_class = EcgFeatureExtractor
    recipe = {
        "name": "ecg",
        "source": "a first guess, to be tuned",
        "config": {"model_type": "data2vec2-ecg"},
        "data": {},
        "num_gpus": 1,
        "global_batch": 32,
        "training": {"max_steps": 20_000, "per_device_train_batch_size": 32, "learning_rate": 5e-4},
    }

    def read(self, value, rng):
        leads = self.processor(np.load(value))["leads"]
        length = self.config.num_samples
        if len(leads) != self.config.num_channels or leads.shape[1] < length:
            raise UnreadableError(
                f"it has shape {tuple(leads.shape)}, not [{self.config.num_channels}, {length} or more]"
            )
        start = rng.randint(0, leads.shape[1] - length) if rng else 0
        return leads[:, start : start + length]

    def raw_features(self):
        def spectrum(windows):
            return torch.fft.rfft(torch.stack(list(windows))).abs().log1p().flatten(1).numpy()

        return [RawFeatures("spectrum", lambda train, test: (spectrum(train), spectrum(test)))]
