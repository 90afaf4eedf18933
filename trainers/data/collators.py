"""Batches for pretraining: inputs, padded where they differ in length, and the masks that are drawn for them."""

from collections.abc import Sequence
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from modeling_data2vec import (
    Data2Vec2PreTrainingConfig,
    Data2VecPreTrainingConfig,
)
from modeling_data2vec.auto import pretraining_class
from modeling_data2vec.counter_rng import derive_keys, uniform
from modeling_data2vec.embedding import visible_ids
from modeling_data2vec.masking import (
    beit_block_mask,
    block_mask_1d,
    block_mask_2d,
    random_mask,
    span_mask,
)

CROP_STREAM = 4  # of `counter_rng`; masks and noise have 1 to 3

Examples = Sequence[dict[str, Any]]


def pad_inputs(inputs: Sequence[Tensor], value: float = 0.0) -> tuple[Tensor, Tensor | None]:
    """Pad sequences on the right.

    Args:
        inputs: B tensors [length], of one dtype.
        value: what fills the end.

    Returns:
        ([B, T], bool [B, T] that is True at real values, or None where all are equally long).

    Example:
        >>> pad_inputs([torch.tensor([5, 6, 7]), torch.tensor([8])], 1)
        (tensor([[5, 6, 7],
                [8, 1, 1]]), tensor([[ True,  True,  True],
                [ True, False, False]]))
    """
    lengths = torch.tensor([len(one) for one in inputs])
    padded = pad_sequence(list(inputs), batch_first=True, padding_value=value)
    if bool((lengths == padded.shape[1]).all()):
        return padded, None
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


class MaskCollator:
    """Makes a batch of samples and draws M masks for each; a subclass for each kind of input says how.

    Masks and the decoder's noise depend on a sample's `key` and its own length alone (the datasets derive the key from
    seed, epoch and sample), not on the batch: accumulation, the number of workers and processes, and resuming don't
    change them (`equal_mask_counts` of data2vec 1.0 speech makes an exception). Samples without a key get one from
    torch's global generator.

    Args:
        config: reads `num_masks`, `padding` and the mask fields. That of data2vec 2.0 gets masks, the positions that
            they leave and the noise's keys, that of 1.0 only masks.
    """

    # Whether the authors' data2vec 2.0 draws these masks over padding as well (`padding="reference"`).
    padding_hidden_in_reference = False

    def __init__(self, config: Any) -> None:
        self.config = config
        self.drops_positions = isinstance(config, Data2Vec2PreTrainingConfig)  # data2vec 1.0 replaces them

    def draw_v1(self, keys: Tensor, grid: tuple[int, ...], lengths: Tensor | None) -> Tensor:
        """As `draw`, the masks of data2vec 1.0."""
        raise NotImplementedError

    def batch(self, examples: Examples, keys: Tensor) -> tuple[dict[str, Tensor], tuple[int, ...], Tensor | None]:
        """(model inputs, grid of positions, real positions of each sample or None for all); `keys` are int32 [B]."""
        raise NotImplementedError

    def draw(self, keys: Tensor, grid: tuple[int, ...], lengths: Tensor | None = None) -> Tensor:
        """Masks for int32 keys [N]: bool [N, T]; `lengths` [N] where not all T positions are real."""
        config = self.config
        if not self.drops_positions:
            return self.draw_v1(keys, grid, lengths)
        if config.mask_length == 1:
            return random_mask(len(keys), prod(grid), config.mask_prob, generator=keys, lengths=lengths)
        shape: dict[str, Any] = {
            "mask_prob": config.mask_prob,
            "mask_length": config.mask_length,
            "generator": keys,
            "mask_prob_adjust": config.mask_prob_adjust,
            "inverse": config.inverse_mask,
        }
        if len(grid) == 2:
            return block_mask_2d(len(keys), (grid[0], grid[1]), lengths=lengths, **shape)
        return block_mask_1d(len(keys), grid[0], lengths=lengths, **shape)

    def __call__(self, examples: Examples) -> dict[str, Tensor]:
        if "key" in examples[0]:
            keys = torch.tensor([int(example["key"]) for example in examples], dtype=torch.int32)
        else:
            keys = torch.randint(-(2**31), 2**31, (len(examples),), dtype=torch.int32)
        inputs, grid, lengths = self.batch(examples, keys)
        keys = derive_keys(keys[:, None], torch.arange(self.config.num_masks))  # [B, M]
        valid, row_lengths = None, None
        hides_padding = self.padding_hidden_in_reference and self.drops_positions and self.config.padding == "reference"
        if lengths is not None and not hides_padding:
            row_lengths = lengths.repeat_interleave(keys.shape[1])  # [B * M]
            valid = torch.arange(prod(grid)) < lengths[:, None, None]  # [B, 1, T]
        mask = self.draw(keys.flatten(), grid, row_lengths).unflatten(0, keys.shape)  # [B, M, T]
        if not self.drops_positions:
            return inputs | {"mask": mask}
        return inputs | {"mask": mask, "ids_keep": visible_ids(mask, valid), "noise_keys": keys}


class ImageMaskCollator(MaskCollator):
    """Stacks images of one size.

    Example:
        >>> from modeling_data2vec import Data2Vec2VisionConfig
        >>> collator = ImageMaskCollator(Data2Vec2VisionConfig(image_size=64, num_masks=4))
        >>> batch = collator([{"pixel_values": torch.zeros(3, 64, 64), "key": i} for i in range(2)])
        >>> {name: tuple(value.shape) for name, value in batch.items()}["mask"]
        (2, 4, 16)
    """

    def batch(self, examples: Examples, keys: Tensor) -> tuple[dict[str, Tensor], tuple[int, ...], Tensor | None]:
        pixel_values = torch.stack([example["pixel_values"] for example in examples])  # [B, channels, H, W]
        height, width = pixel_values.shape[2:]
        return {"pixel_values": pixel_values}, (height // self.config.patch_size, width // self.config.patch_size), None

    def draw_v1(self, keys: Tensor, grid: tuple[int, ...], lengths: Tensor | None) -> Tensor:
        config, (rows, columns) = self.config, grid
        sizes = {"min_block": config.min_mask_block, "max_block": config.max_mask_block}
        return beit_block_mask(len(keys), (rows, columns), config.mask_prob, generator=keys, **sizes)


class AudioMaskCollator(MaskCollator):
    """Pads clips to the longest, or crops them to the shortest, and masks frames.

    Args:
        config: also reads the convolutions' shape.
        crop: "none" pads; "shortest" cuts a random window of the shortest clip's length out of each, as the published
            recipes do, which wastes no computation, but makes what is seen of a clip depend on its batch.

    Raises:
        ValueError: a clip is too short to hide one frame and show another.

    Example:
        >>> from modeling_data2vec import Data2Vec2AudioConfig
        >>> collator = AudioMaskCollator(Data2Vec2AudioConfig(num_masks=4))
        >>> batch = collator([{"input_values": torch.randn(n), "key": n} for n in (16_000, 12_000)])
        >>> tuple(batch["mask"].shape), batch["attention_mask"].sum(1).tolist()
        ((2, 4, 49), [16000, 12000])
    """

    def __init__(self, config: Any, crop: Literal["none", "shortest"] = "none") -> None:
        super().__init__(config)
        self.crop = crop

    def batch(self, examples: Examples, keys: Tensor) -> tuple[dict[str, Tensor], tuple[int, ...], Tensor | None]:
        clips = [example["input_values"] for example in examples]
        shortest = min(len(clip) for clip in clips)
        if self.config.num_frames(shortest) < 2:
            raise ValueError(
                f"a clip has {shortest} samples, which make {self.config.num_frames(shortest)} frame(s), but masks "
                "need two: raise min_seconds, which leaves out short clips"
            )
        if self.crop == "shortest":
            shares = uniform(keys, 1, CROP_STREAM).flatten().double().tolist()
            starts = [int(share * (len(clip) - shortest + 1)) for share, clip in zip(shares, clips, strict=True)]
            clips = [clip[start : start + shortest] for start, clip in zip(starts, clips, strict=True)]
        input_values, attention_mask = pad_inputs(clips)
        grid = (self.config.num_frames(input_values.shape[1]),)
        if attention_mask is None:
            return {"input_values": input_values}, grid, None
        lengths = self.config.num_frames(attention_mask.sum(1))
        return {"input_values": input_values, "attention_mask": attention_mask}, grid, lengths

    def draw_v1(self, keys: Tensor, grid: tuple[int, ...], lengths: Tensor | None) -> Tensor:
        config = self.config
        shape = (len(keys), grid[0], config.mask_prob, config.mask_length)
        return span_mask(*shape, generator=keys, lengths=lengths, equal_counts=config.equal_mask_counts)


class SpectrogramMaskCollator(MaskCollator):
    """Pads spectrograms to the longest and masks patches.

    With `padding="reference"` all frames count, as in EAT's code, which pads clips to one length before.

    Raises:
        ValueError: a spectrogram is too short to hide one patch and show another.

    Example:
        >>> from modeling_data2vec import Data2Vec2SpectrogramConfig
        >>> collator = SpectrogramMaskCollator(Data2Vec2SpectrogramConfig(num_masks=4))
        >>> batch = collator([{"input_features": torch.randn(n, 128), "key": n} for n in (128, 64)])
        >>> tuple(batch["mask"].shape), batch["mask"].sum(2).tolist()
        ((2, 4, 64), [[52, 52, 52, 52], [26, 26, 26, 26]])
    """

    padding_hidden_in_reference = True

    def batch(self, examples: Examples, keys: Tensor) -> tuple[dict[str, Tensor], tuple[int, ...], Tensor | None]:
        config, spectrograms = self.config, [example["input_features"] for example in examples]
        shortest = min(len(spectrogram) for spectrogram in spectrograms)
        patches = config.num_time_patches(shortest) * config.num_bands
        if patches < 2:
            raise ValueError(
                f"a spectrogram has {shortest} frames, which make {patches} patch(es), but masks need two: leave out "
                "shorter clips"
            )
        input_features, attention_mask = pad_inputs(spectrograms)
        grid = (config.num_time_patches(input_features.shape[1]), config.num_bands)
        if attention_mask is None:
            return {"input_features": input_features}, grid, None
        lengths = config.num_time_patches(attention_mask.sum(1)) * config.num_bands
        return {"input_features": input_features, "attention_mask": attention_mask}, grid, lengths


class TextMaskCollator(MaskCollator):
    """Pads token sequences to the longest and masks tokens.

    Raises:
        ValueError: a sequence is too short to hide one token and show another.

    Example:
        >>> from modeling_data2vec import Data2Vec2TextConfig
        >>> collator = TextMaskCollator(Data2Vec2TextConfig(num_masks=4))
        >>> batch = collator([{"input_ids": torch.arange(n), "key": n} for n in (12, 8)])
        >>> tuple(batch["mask"].shape), batch["mask"].sum(2).tolist()
        ((2, 4, 12), [[6, 6, 6, 6], [4, 4, 4, 4]])
    """

    padding_hidden_in_reference = True

    def batch(self, examples: Examples, keys: Tensor) -> tuple[dict[str, Tensor], tuple[int, ...], Tensor | None]:
        sequences = [example["input_ids"] for example in examples]
        shortest = min(len(sequence) for sequence in sequences)
        if shortest < 2:
            raise ValueError(f"a sequence has {shortest} token(s), but masks need two: leave out empty texts")
        input_ids, attention_mask = pad_inputs(sequences, self.config.pad_token_id)
        grid = (int(input_ids.shape[1]),)
        if attention_mask is None:
            return {"input_ids": input_ids}, grid, None
        return {"input_ids": input_ids, "attention_mask": attention_mask}, grid, attention_mask.sum(1)

    def draw_v1(self, keys: Tensor, grid: tuple[int, ...], lengths: Tensor | None) -> Tensor:
        config = self.config
        shape = (len(keys), grid[0], config.mask_prob, config.mask_length)
        return span_mask(*shape, generator=keys, lengths=lengths, fit=False)


COLLATORS: dict[str, type[MaskCollator]] = {
    "input_values": AudioMaskCollator,
    "input_features": SpectrogramMaskCollator,
    "input_ids": TextMaskCollator,
    "pixel_values": ImageMaskCollator,
}


def mask_collator(config: Data2VecPreTrainingConfig) -> MaskCollator:
    """The collator for a model's config.

    Example:
        >>> from modeling_data2vec import Data2Vec2TextConfig
        >>> type(mask_collator(Data2Vec2TextConfig())).__name__
        'TextMaskCollator'
    """
    return COLLATORS[pretraining_class(config.model_type).main_input_name](config)
