"""Masks of spans that may overlap; those of data2vec 1.0 for speech and text, and of fine-tuning."""

from torch import Tensor

from .masking import (
    SPAN_STREAM,
    START_STREAM,
    THIN_STREAM,
    Generator,
    check_mask,
    choose,
    from_bits,
    one_number_each,
    ranked,
    row_lengths,
    whole_part,
)


def span_mask(
    num_masks: int,
    length: int,
    mask_prob: float,
    mask_length: int,
    *,
    generator: Generator,
    fit: bool = True,
    equal_counts: bool = False,
    lengths: Tensor | None = None,
) -> Tensor:
    """Hide spans of `mask_length` positions that may overlap (data2vec 1.0 speech and text, arXiv 2202.03555 §4).

    A mask has `mask_prob * T / mask_length` spans, rounded up or down at random, at least one; no two begin at the same
    place. At least one position stays visible, where the authors' code raises an error or masks nothing.

    Args:
        num_masks: number of masks N.
        length: number of positions T.
        mask_prob: share of positions that spans would hide if none overlapped, in (0, 1).
        mask_length: positions a span covers.
        generator: `torch.Generator` or [N] int32 keys.
        fit: spans lie wholly within the sequence (speech), so that its last position is never hidden; otherwise they
            begin anywhere and are cut off at its end (text).
        equal_counts: afterwards show random single positions, so that all masks hide as few as the one that hides
            fewest: masks then depend on each other.
        lengths: as in `random_mask`.

    Returns:
        bool [N, T].

    Example:
        >>> import torch
        >>> masks = span_mask(2, 100, 0.65, 10, generator=torch.Generator().manual_seed(0), equal_counts=True)
        >>> masks.sum(1)
        tensor([42, 42])
    """
    check_mask(length, mask_prob, mask_length)
    rows = row_lengths(num_masks, length, lengths)
    chances = one_number_each(num_masks, generator, SPAN_STREAM)
    counts, places = [], []
    for row, chance in zip(rows, chances, strict=True):
        # Rounded up with the probability of the fraction, so that the share is right on average.
        count, room = max(1, whole_part(row, mask_prob, mask_length, chance)), row
        if fit:
            room = row - mask_length
            room = min(count + 1 if room <= count else room, row)  # as the authors count them
        counts.append(min(count, room))
        places.append(room)
    starts: list[list[int]] = ranked(counts, length, places, generator, START_STREAM).tolist()
    spans = [some[:count] for some, count in zip(starts, counts, strict=True)]
    covered = _covered_by_spans(spans, mask_length, length, rows, chances).to(generator.device)
    if equal_counts:
        fewest = int(covered.sum(1).amin())
        covered = choose(covered, [fewest] * num_masks, length, rows, generator, THIN_STREAM)
    return covered


def _covered_by_spans(
    starts: list[list[int]], mask_length: int, length: int, rows: list[int], chances: list[float]
) -> Tensor:
    """What spans from each mask's `starts` cover of its first `rows` positions, but never all of them: bool [N, T].

    A few spans a mask: as bits of a number they cost less than tensors that find out what all of them cover.
    """
    span, masks = (1 << mask_length) - 1, []
    for begins, row, chance in zip(starts, rows, chances, strict=True):
        mask, every = 0, (1 << row) - 1
        for start in begins:
            mask |= span << start
        mask &= every
        if mask == every:  # a student that sees nothing can't predict: show a random position
            mask ^= 1 << min(int(chance * row), row - 1)
        masks.append(mask)
    return from_bits(masks, length)
