"""A speech or spectrogram model as benchmarks of sound ask for it: X-ARES (arXiv 2505.16369) and HEAR (2203.03022).

X-ARES takes the class, whose model the environment names; HEAR takes this module:

    DATA2VEC_MODEL=runs/speech python -m xares.run examples/sound_encoder.py src/tasks/*.py
    python -m heareval.embeddings.runner sound_encoder --model runs/speech --tasks-dir tasks
"""

import os

import torch
from torch import Tensor, nn
from transformers import AutoFeatureExtractor, AutoModel

import modeling_data2vec  # noqa: F401 (registers 2.0 with the Auto classes)


class SoundEncoder(nn.Module):
    """Vectors of the frames of recordings; of a spectrogram model, the bands of a moment are averaged.

    Args:
        model: folder or Hub id.
    """

    def __init__(self, model: str | None = None) -> None:
        super().__init__()
        name = model or os.environ["DATA2VEC_MODEL"]
        self.model = AutoModel.from_pretrained(name).eval()
        self.extractor = AutoFeatureExtractor.from_pretrained(name)
        config, extractor = self.model.config, self.extractor
        self.bands = getattr(config, "num_bands", 1)
        if hasattr(config, "num_bands"):
            hop, rows = extractor.hop_length, config.patch_shape[0]
            self.hop, self.width = rows * hop, (rows - 1) * hop + extractor.frame_length  # samples of a frame
        else:
            self.hop, self.width = config.inputs_to_logits_ratio, config.receptive_field
        self.sampling_rate = self.sample_rate = extractor.sampling_rate
        self.output_dim = self.scene_embedding_size = self.timestamp_embedding_size = self.model.num_features
        self.hop_size_in_ms = 1000 * self.hop / self.sampling_rate

    def forward(self, audio: Tensor) -> Tensor:
        """Frames [B, T, D] of recordings [B, samples], or of one [samples], at `sampling_rate`."""
        clips = list(torch.atleast_2d(audio).float().cpu().numpy())
        inputs = self.extractor(clips, sampling_rate=self.sampling_rate, return_tensors="pt").to(self.model.device)
        with torch.no_grad():
            states = self.model.forward_features(**inputs)[:, self.model.config.num_extra_tokens :]
        return states.unflatten(1, (-1, self.bands)).mean(2)  # [B, T * bands, D] to [B, T, D]


def load_model(model_file_path: str = "") -> SoundEncoder:
    return SoundEncoder(model_file_path or None)


def get_timestamp_embeddings(audio: Tensor, model: SoundEncoder) -> tuple[Tensor, Tensor]:
    """Frames [B, T, D], and the middle of each in milliseconds [B, T]."""
    frames = model(audio)
    middles = torch.arange(frames.shape[1], device=frames.device) * model.hop + model.width / 2
    return frames, (1000 * middles / model.sample_rate).expand(len(frames), -1)


def get_scene_embeddings(audio: Tensor, model: SoundEncoder) -> Tensor:
    """The mean [B, D] of the frames: what `embed` gives, too."""
    return model(audio).mean(1)
