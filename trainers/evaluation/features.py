"""Features of a frozen encoder, for whole samples or for each position: images, speech and text alike.

Letters: B samples of a batch, E extra tokens, T positions (patches, frames or tokens), D channels.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..modalities.base import Inputs as Inputs
from ..modalities.names import modality
from .options import Layers, layer_numbers, pooling_parts
from .pooling import pool_states, real_positions, without_extra_tokens

Batch = Tensor | Mapping[str, Tensor]
# What is made of states [B, E + T, D] of which the positions in a bool mask [B, T] are real, and of the batch's inputs.
Reduce = Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor]


def extract_features(
    model: PreTrainedModel,
    batches: Iterable[Batch],
    *,
    pooling: str = "mean",
    layer: Layers = -1,
) -> np.ndarray:
    """One feature vector for each sample from a frozen encoder, in eval mode and without gradients.

    Args:
        model: any Hugging Face transformer of image patches, waveforms or tokens; of a model with a head, such as a
            `...ForPreTraining` one, the `base_model` (the student) is used. It stays on its device and gets its
            training mode back.
        batches: its main inputs, [B, channels, height, width] normalised images, [B, samples] waveforms or [B, T] token
            ids; or dicts of its inputs, where an `attention_mask` says what is padding. `encode` makes them.
        pooling: how the real positions (patches, frames, tokens) become one vector; several are joined by "+" and stand
            side by side, as in "mean+max" or "mean+std+time6":

            - "mean", "max", "std" (deviation) over the positions;
            - "cls", the CLS token: ours is the last extra token, other models' is the first token;
            - "grid2", "grid4", ...: means of N x N fields of a grid: of images, or of time x bands of spectrograms;
            - "time6", ...: means of N stretches of sound or text; a spectrogram's frame has its bands side by side;
            - "bands", "bands_max", "bands_std": mean, maximum and deviation over time of each band of a spectrogram;
            - "flatten": all positions side by side.

            Fields and stretches divide the sample without its padding as evenly as possible: neighbours share a
            position where it does not divide, and positions repeat where there are fewer of them.
        layer: -1 for `last_hidden_state`; any other number is an index of `hidden_states`, where 0 is the input of the
            first layer; several, as in [2, 4] or "2+4", are pooled each and stand side by side.

    Returns:
        fp32 [N, D'], where each layer and each pooling adds D, times N * N for "gridN", T for "flatten", and so on.

    Raises:
        ValueError: for an unknown pooling or one that such samples don't have (grid of a text, CLS token of speech,
            "flatten" of unequal lengths), a layer out of range, an encoder whose output is not one token for each
            position, no samples, or features that are not finite.

    Example:
        >>> from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionModel
        >>> config = Data2Vec2VisionConfig(hidden_size=32, num_hidden_layers=2, num_prenet_layers=1, image_size=16,
        ...     num_attention_heads=2, intermediate_size=64, average_top_k_layers=2, patch_size=4, decoder_dim=32)
        >>> extract_features(Data2Vec2VisionModel(config), torch.randn(10, 3, 16, 16).split(4), layer="1+-1").shape
        (10, 64)
    """
    pooling_parts(pooling)  # a wrong one should not cost a forward

    def pool(states: Tensor, real: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        return pool_states(states, real, inputs, pooling, model.base_model)

    features, _ = _reduced_states(model, batches, layer, pool)
    if len({batch.shape[1] for batch in features}) > 1:
        raise ValueError('pooling is "flatten", but the samples differ in length: choose "mean" or "max"')
    return np.concatenate(features)


def encode(
    model: PreTrainedModel,
    inputs: Inputs,
    *,
    pooling: str = "mean",
    layer: Layers = -1,
    batch_size: int = 32,
) -> np.ndarray:
    """As `extract_features`, of a whole set of samples, which may differ in length; samples of similar length share a
    batch.

    Args:
        model, pooling, layer: as in `extract_features`.
        inputs: images [N, channels, height, width], or a list of N unbatched inputs: images, waveforms [samples] or
            token ids [T].
        batch_size: samples in a forward pass.

    Returns:
        fp32 [N, D'], in the order of the samples.
    """
    order, batches = padded_batches(model, inputs, batch_size)
    return extract_features(model, batches, pooling=pooling, layer=layer)[np.argsort(order)]


def frame_features(
    model: PreTrainedModel, inputs: Inputs, *, layer: Layers = -1, batch_size: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """The features of every real position, sample after sample: what probes of frames, tokens or patches need.

    Arguments and errors are those of `encode`.

    Returns:
        (features fp32 [F, D'], samples int64 [F]), F being the real positions of all samples together; `samples` says
        which sample each one belongs to.

    Example:
        >>> from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionModel
        >>> config = Data2Vec2VisionConfig(hidden_size=32, num_hidden_layers=2, num_prenet_layers=1, image_size=16,
        ...     num_attention_heads=2, intermediate_size=64, average_top_k_layers=2, patch_size=8, decoder_dim=32)
        >>> features, samples = frame_features(Data2Vec2VisionModel(config), torch.randn(3, 3, 16, 16))
        >>> features.shape, samples
        ((12, 32), array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]))
    """
    order, batches = padded_batches(model, inputs, batch_size)

    def keep_real(states: Tensor, real: Tensor, _: Mapping[str, Tensor]) -> Tensor:
        return without_extra_tokens(states, real, model.base_model)[real]  # [real positions of the batch, D]

    features, counts = _reduced_states(model, batches, layer, keep_real)
    return in_order(features, counts, order)


def in_order(features: list[np.ndarray], counts: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of samples that came in `order`, `counts` of each, put in the order of the samples: [F, D], [F]."""
    samples = np.split(np.concatenate(features), np.cumsum(counts)[:-1])
    places = np.argsort(order)
    return np.concatenate([samples[place] for place in places]), np.repeat(np.arange(len(order)), counts[places])


def padded_batches(
    model: PreTrainedModel, inputs: Inputs, batch_size: int
) -> tuple[np.ndarray, Iterator[dict[str, Tensor]]]:
    """The order of samples in batches, and the batches: the longest first, so that too large a one fails at once."""
    order = np.arange(len(inputs))
    if not isinstance(inputs, Tensor):
        order = np.argsort([-sample.shape[0] for sample in inputs], kind="stable")
    return order, _batches(model, inputs, order, batch_size)


def _batches(model: PreTrainedModel, inputs: Inputs, order: np.ndarray, batch_size: int) -> Iterator[dict[str, Tensor]]:
    name, config = model.base_model.main_input_name, model.config
    kind = modality(model.base_model)(config)
    if getattr(config, "feat_extract_norm", None) == "group":  # wav2vec 2.0 base: padding would change the features
        batch_size = 1
    for chosen in (order[start : start + batch_size] for start in range(0, len(order), batch_size)):
        if isinstance(inputs, Tensor):
            yield {name: inputs[torch.from_numpy(chosen)]}
        else:
            values, mask = kind.pad([inputs[i] for i in chosen])
            yield {name: values} if mask is None else {name: values, "attention_mask": mask}


def _reduced_states(
    model: PreTrainedModel, batches: Iterable[Batch], layer: Layers, reduce: Reduce
) -> tuple[list[np.ndarray], np.ndarray]:
    """`reduce` of each layer's states, layers side by side: fp32 [..., D'] for each batch; each sample's positions."""
    layers = layer_numbers(layer)

    def reduce_all(states: list[Tensor], real: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([reduce(state, real, inputs) for state in states], dim=1)

    return visit_states(model, batches, layers, reduce_all)


def visit_states(
    model: PreTrainedModel,
    batches: Iterable[Batch],
    layers: list[int] | None,
    reduce: Callable[[list[Tensor], Tensor, Mapping[str, Tensor]], Tensor],
) -> tuple[list[np.ndarray], np.ndarray]:
    """What `reduce` makes of each batch, fp32, and each sample's number of real positions.

    `reduce` gets the fp32 states [B, E + T, D] of `layers`, or of all layers for None, bool [B, T] and the batch's
    inputs. The model is in eval mode meanwhile, and gets its modes back.
    """
    encoder = model.base_model
    features, counts = [], []
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        # Not inference_mode: what a model caches under it (positions) could not be used in training afterwards.
        with torch.no_grad():
            for batch in batches:
                inputs: Any = {encoder.main_input_name: batch} if isinstance(batch, Tensor) else batch
                real = real_positions(encoder, inputs)
                states = _states(encoder, inputs, layers)
                reduced = reduce([state.float() for state in states], real.to(states[0].device), inputs)
                features.append(reduced.cpu().numpy())
                counts.append(real.sum(1).numpy())
    finally:
        for module, mode in modes:  # one by one: some may have been frozen in eval mode
            module.training = mode
    if not features:
        raise ValueError("there are no batches, and so no sample to take features of")
    if not all(np.isfinite(batch).all() for batch in features):
        raise ValueError("the features are not finite: either the weights have diverged, or the inputs hold NaN")
    return features, np.concatenate(counts)


def _states(encoder: PreTrainedModel, inputs: Mapping[str, Tensor], layers: list[int] | None) -> list[Tensor]:
    """[B, E + T, D] of each layer; of all for None, the last one being the encoder's output."""
    placed = {
        name: value.to(encoder.device, encoder.dtype if value.is_floating_point() else None)
        for name, value in inputs.items()
    }
    outputs = encoder(**placed, output_hidden_states=layers is None or any(index != -1 for index in layers))
    if layers is None:
        return [*outputs.hidden_states[:-1], outputs.last_hidden_state]
    states = []
    for index in layers:
        if index == -1:
            states.append(outputs.last_hidden_state)
        elif -len(outputs.hidden_states) <= index < len(outputs.hidden_states):
            states.append(outputs.hidden_states[index])
        else:
            last = len(outputs.hidden_states) - 1
            raise ValueError(
                f"layer is {index}, but the encoder has hidden_states 0 (input of the first layer) to {last}: choose "
                "one of them, or -1 for the encoder's output"
            )
    return states
