"""A fingerprint of training data from two samples, to see whether a resumed run has the same data."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch

from ..data.samples import SampleDataset
from ..logging import errors_only
from ..modalities.mixture import MixtureDataset


def fingerprint(samples: Any) -> str | None:
    """A hash of the first and the last sample that can be read, without augmentation; None of streams.

    Values are rounded, so that another version of a decoder gives the same.

    Args:
        samples: `SampleDataset`, or a mix of several modalities.
    """
    digest = hashlib.sha256()
    parts = (
        [source.samples for source in samples.sources.values()] if isinstance(samples, MixtureDataset) else [samples]
    )
    known = [part for part in parts if isinstance(part, SampleDataset) and len(part)]
    if not known:
        return None
    with errors_only("modeling_data2vec.trainers.data.samples"):  # what can't be read is said when it is trained on
        for part in known:
            plain = SampleDataset(part.dataset, part.reader, augment=False)
            for index in (0, len(plain) - 1):
                for name, value in _values(plain[index]):
                    rounded = torch.as_tensor(value).double().mul(100).round()
                    digest.update(name.encode() + rounded.numpy().tobytes())
    return digest.hexdigest()[:16]


def _values(sample: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values of a sample, sorted, without its `key`, which the seed decides; of pairs those of each part."""
    for name, value in sorted(sample.items()):
        if isinstance(value, dict):
            yield from _values(value)
        elif name != "key":
            yield name, value
