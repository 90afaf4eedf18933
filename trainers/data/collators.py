"""Batches for pretraining: inputs, padded where they differ in length, and the masks that are drawn for them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from modeling_data2vec import Data2Vec2PreTrainingConfig
from modeling_data2vec.drawn_masks import draw_views
from modeling_data2vec.embedding import visible_ids

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

    def __init__(self, config: Any) -> None:
        self.config = config
        self.drops_positions = isinstance(config, Data2Vec2PreTrainingConfig)  # data2vec 1.0 replaces them

    def batch(self, examples: Examples, keys: Tensor) -> tuple[dict[str, Tensor], tuple[int, ...], Tensor | None]:
        """(model inputs, grid of positions, real positions of each sample or None for all); `keys` are int32 [B]."""
        raise NotImplementedError

    def __call__(self, examples: Examples) -> dict[str, Tensor]:
        if "key" in examples[0]:
            keys = torch.tensor([int(example["key"]) for example in examples], dtype=torch.int32)
        else:
            keys = torch.randint(-(2**31), 2**31, (len(examples),), dtype=torch.int32)
        inputs, grid, lengths = self.batch(examples, keys)
        mask, keys, valid = draw_views(self.config, keys, grid, lengths)
        if not self.drops_positions:
            return inputs | {"mask": mask}
        return inputs | {"mask": mask, "ids_keep": visible_ids(mask, valid), "noise_keys": keys}
