"""Batches for pretraining: inputs, padded where they differ in length, and the masks that are drawn for them."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from modeling_data2vec import Data2Vec2PreTrainingConfig
from modeling_data2vec.counter_rng import derive_keys
from modeling_data2vec.embedding import visible_ids
from modeling_data2vec.masking import block_mask, random_mask

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
        return block_mask(len(keys), grid, lengths=lengths, **shape)

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
