"""A model as tensors with names in, tensors with names out: the form that `torch.export` and ONNX take."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from modeling_data2vec.modeling_data2vec2 import Data2Vec2PreTrainedModel

from ..data.packing import most_tokens

TRACED = (2, 20)  # samples and positions of the example that a model is traced with; both unlike any other size


class Exportable(nn.Module):
    """A model that takes tensors by name and returns a dict of tensors: neither needs transformers to be read.

    Args:
        model: an encoder or a model for a task.
    """

    axes: dict[int, str] = {}  # noqa: RUF012  those of every input whose size is free, and their names

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    @property
    def shapes_vary(self) -> bool:
        """Whether anything but the batch may change its size."""
        return True

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """By input: axes of any size, and what they are called."""
        axes = self.axes if self.shapes_vary else {0: self.axes[0]}
        return {name: dict(axes) for name in self.examples(*TRACED)}

    def examples(self, batch: int, size: int) -> dict[str, Tensor]:
        """Random input, always the same for the same arguments.

        Args:
            batch: samples B. Those of sequences are of unequal lengths, the first is the longest.
            size: positions (frames, tokens) of the longest, or patches of one side; as many tokens as fit, if fewer do.
        """
        raise NotImplementedError

    def run(self, **inputs: Tensor) -> dict[str, Tensor]:
        """All tensors that the model returns, by their names in its output."""
        return {name: value for name, value in self.model(**inputs).items() if isinstance(value, Tensor)}

    @torch.no_grad()
    def trace(self) -> ExportedProgram:
        """The model as a `torch.export` program, for any batch and length."""
        example = self.examples(*TRACED)
        free = {name: dict.fromkeys(axes, Dim.DYNAMIC) for name, axes in self.dynamic_axes().items()}
        return torch.export.export(self, (), example, dynamic_shapes=free, strict=False)


class ExportableImages(Exportable):
    """Images [B, channels, height, width]: of any multiples of the patch size, but for two kinds of models.

    transformers' 1.0 takes one size. So does a file of a model that pools to a fixed number of cells (segmentation),
    which ONNX can do with a known size only.
    """

    axes = {0: "batch", 2: "height", 3: "width"}  # noqa: RUF012

    @property
    def shapes_vary(self) -> bool:
        pools = any(isinstance(module, nn.AdaptiveAvgPool2d) for module in self.model.modules())
        return isinstance(self.model, Data2Vec2PreTrainedModel) and not pools

    def examples(self, batch: int, size: int) -> dict[str, Tensor]:
        config = self.model.config
        height, width = config.patch_size * size, config.patch_size * (size + 1)
        if not self.shapes_vary:
            shape = config.image_size
            height, width = (shape, shape) if isinstance(shape, int) else shape
        return {"pixel_values": torch.randn(batch, config.num_channels, height, width, generator=_generator(size))}

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """Run the model on images."""
        return self.run(pixel_values=pixel_values)


class ExportableClips(Exportable):
    """Clips [B, samples], padded on the right, with their mask."""

    axes = {0: "batch", 1: "samples"}  # noqa: RUF012

    def examples(self, batch: int, size: int) -> dict[str, Tensor]:
        config = self.model.config
        samples = size
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        mask = _padding(batch, samples)
        clips = torch.randn(batch, samples, generator=_generator(size)) * mask
        return {"input_values": clips, "attention_mask": mask}

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Run the model on clips."""
        return self.run(input_values=input_values, attention_mask=attention_mask)


class ExportableSpectrograms(Exportable):
    """Log-mel spectrograms [B, frames, mel bins], padded on the right, with their mask."""

    axes = {0: "batch", 1: "frames"}  # noqa: RUF012

    def examples(self, batch: int, size: int) -> dict[str, Tensor]:
        config = self.model.config
        frames = size * config.patch_shape[0]
        mask = _padding(batch, frames)
        values = torch.randn(batch, frames, config.num_mel_bins, generator=_generator(size))
        return {"input_features": values * mask[..., None], "attention_mask": mask}

    def forward(self, input_features: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Run the model on spectrograms."""
        return self.run(input_features=input_features, attention_mask=attention_mask)


class ExportableTokens(Exportable):
    """Token ids [B, tokens], padded on the right, with their mask."""

    axes = {0: "batch", 1: "tokens"}  # noqa: RUF012

    def examples(self, batch: int, size: int) -> dict[str, Tensor]:
        config = self.model.config
        size = int(min(size, most_tokens(config)))
        mask = _padding(batch, size)
        ids = torch.randint(0, config.vocab_size, (batch, size), generator=_generator(size))
        ids = torch.where(ids == config.pad_token_id, (config.pad_token_id + 1) % config.vocab_size, ids)
        return {"input_ids": ids.masked_fill(mask == 0, config.pad_token_id), "attention_mask": mask}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Run the model on tokens."""
        return self.run(input_ids=input_ids, attention_mask=attention_mask)


EXPORTABLES: dict[str, type[Exportable]] = {
    "pixel_values": ExportableImages,
    "input_values": ExportableClips,
    "input_features": ExportableSpectrograms,
    "input_ids": ExportableTokens,
}


def exportable(model: Any) -> Exportable:
    """A model ready to be traced, by the name of its main input.

    Example:
        >>> from modeling_data2vec import Data2Vec2TextConfig, Data2Vec2TextModel
        >>> config = Data2Vec2TextConfig(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64)
        >>> one = exportable(Data2Vec2TextModel(config))
        >>> one.dynamic_axes()["input_ids"], {name: tuple(x.shape) for name, x in one(**one.examples(2, 5)).items()}
        ({0: 'batch', 1: 'tokens'}, {'last_hidden_state': (2, 5, 64), 'pooler_output': (2, 64)})
    """
    return EXPORTABLES[model.main_input_name](model.eval())


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _padding(batch: int, length: int) -> Tensor:
    """int64 [B, length], 1 at real places: each sample shorter than the one before it, none by more than a fifth."""
    lengths = length - torch.arange(batch) * (length // 5) // max(1, batch - 1)
    return (torch.arange(length) < lengths[:, None]).long()
