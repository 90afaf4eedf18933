"""One modality of a model, and samples of its data: what the page shows of them, as arrays.

Letters: N samples, T positions of one, M masks, L + 1 layers, D channels.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel
from transformers.utils import logging

from modeling_data2vec import Data2VecPreTrainingConfig

from ..data.samples import nothing_readable
from ..embedding.data import Sample, SampleStream, open_data, readable, windows
from ..evaluation.baselines import random_weights
from ..evaluation.features import frame_features
from ..evaluation.layer_features import layer_features
from ..evaluation.pictures import AVERAGED
from ..modalities.base import Modality
from .colours import ContentColours

logger = logging.get_logger(__name__)

MODEL, RANDOM = "model", "random weights"
WINDOW = 32  # samples that are embedded at once
NEIGHBOURS = 6


class Neighbour(NamedTuple):
    """A sample of the data that is near to another.

    Attributes:
        number: its place among the samples of the page.
        similarity: cosine, after the mean over all samples is taken out: 1 for the same, 0 for unrelated.
    """

    number: int
    similarity: float


class Shown(NamedTuple):
    """A sample on the page.

    Attributes:
        inputs: what the model takes, unbatched.
        example: what it was read from, in the column that holds the data.
        name: of its file, or its place in the data.
        number: its place among the samples of the page; None for a person's own.
    """

    inputs: Tensor
    example: dict[str, Any]
    name: str
    number: int | None = None


class Explorer:
    """Masks, colours and neighbors of samples, by a model and by random weights of the same architecture.

    All samples are read and encoded at once, and then held in memory.

    Args:
        encoder: of one modality.
        kind: reads its data.
        samples: of the data.
        limit: samples that are taken at most, evenly spread over the data.
        pooling: of the vectors that neighbors are found by; None for that of probes.
        progress: whether to show a bar.

    Raises:
        ValueError: fewer than 4 samples can be read, or the encoder has no such pooling.
    """

    def __init__(
        self,
        encoder: PreTrainedModel,
        kind: Modality,
        samples: SampleStream,
        *,
        limit: int = 500,
        pooling: str | None = None,
        progress: bool = False,
    ) -> None:
        self.kind, self.stream = kind, samples
        self.pooling = pooling or kind.probe_pooling
        self.encoders = {MODEL: encoder.eval(), RANDOM: random_weights(encoder)}
        self.samples: list[Sample] = []
        vectors: dict[str, list[np.ndarray]] = {name: [] for name in self.encoders}
        count = len(samples.dataset)
        rows = np.linspace(0, count - 1, min(count, limit)).round().astype(int).tolist()
        left_out: dict[str, str] = {}
        with tqdm(total=len(rows), desc=f"embedding {kind.title}", unit=kind.sample, disable=not progress) as bar:
            for window in windows(samples.at(rows), WINDOW):
                read, unreadable = readable(window)
                left_out |= unreadable
                self.samples += read
                for name, one in self.encoders.items() if read else ():
                    inputs: Any = [sample.inputs for sample in read]
                    pooled = layer_features(one, inputs, pooling=self.pooling).pooled  # [L + 1, n, D]
                    vectors[name].append(pooled.astype(np.float16))
                bar.update(len(window))
        for name, why in left_out.items():
            logger.warning(f"Leaving out {kind.sample} {name}: {why}")
        if not self.samples:
            raise nothing_readable(left_out, kind.medium.noun)
        if len(self.samples) < 4:
            raise ValueError(f"only {len(self.samples)} {kind.medium.noun}(s) can be read: give at least 4 to look at")
        self.vectors = {name: np.concatenate(parts, axis=1) for name, parts in vectors.items()}  # [L + 1, N, D]
        self.num_layers = len(self.vectors[MODEL]) - 1
        self.colours = cache(self._colours)

    def __len__(self) -> int:
        return len(self.samples)

    # ---- samples ----

    def sample(self, number: int) -> Shown:
        """A sample of the data, by its place among those of the page."""
        sample = self.samples[number]
        assert isinstance(sample.inputs, Tensor)
        name = f"{self.kind.sample} {sample.id}" if sample.id.isdecimal() else sample.id
        return Shown(sample.inputs, self.stream.dataset[sample.row], name, number)

    def own(self, value: Any) -> Shown:
        """A person's own sample: a path, an image, an array or a text.

        Raises:
            ValueError: it can't be read.
        """
        stream = open_data(self.kind, [value], cut=True)
        (sample,) = stream.read()
        if isinstance(sample.inputs, str):
            raise ValueError(f"this {self.kind.medium.noun} can't be used: {sample.inputs}")
        return Shown(sample.inputs, stream.dataset[0], f"your {self.kind.medium.noun}")

    # ---- what the model makes of one ----

    def masks(self, sample: Shown, seed: int) -> np.ndarray | None:
        """What each mask hides of a sample: bool [M, T]; None for a model that is trained without masks.

        Raises:
            ValueError: the sample is too short to hide something of it.
        """
        if not isinstance(self.kind.config, Data2VecPreTrainingConfig):
            return None
        batch = self.kind.collator()([{self.kind.input_name: sample.inputs, "key": seed}])
        return batch["mask"][0, : self.kind.max_masks].bool().numpy()

    def colours_of(self, sample: Shown, layer: int) -> dict[str, np.ndarray]:
        """Colours of a sample's positions, RGB [T, 3], by the model and by random weights.

        They are `ContentColours` of the first 48 samples, so that one color means one thing from sample to sample.

        Args:
            sample: any sample.
            layer: 0 for the first layer's input, `num_layers` for the encoder's output.
        """
        found = {}
        for name, encoder in self.encoders.items():
            features, _ = frame_features(encoder, [sample.inputs], layer=self._index(layer))
            found[name] = self.colours(name, layer)(features)
        return found

    def neighbours(self, sample: Shown, layer: int) -> dict[str, list[Neighbour]]:
        """The samples of the data that are nearest to a sample, itself left out, by the model and by random weights.

        Args:
            sample: any sample.
            layer: 0 for the first layer's input, `num_layers` for the encoder's output.
        """
        found = {}
        for name, encoder in self.encoders.items():
            gallery = self.vectors[name][layer].astype(np.float32)  # [N, D]
            mean = gallery.mean(0)
            if sample.number is None:
                own = layer_features(encoder, [sample.inputs], pooling=self.pooling).pooled[layer, 0]
            else:
                own = gallery[sample.number]
            found[name] = nearest(own - mean, gallery - mean, leave_out=sample.number)
        return found

    def _colours(self, name: str, layer: int) -> ContentColours:
        inputs: Any = [sample.inputs for sample in self.samples[:: max(1, len(self) // AVERAGED)][:AVERAGED]]
        return ContentColours(*frame_features(self.encoders[name], inputs, layer=self._index(layer)))

    def _index(self, layer: int) -> int:
        """The layer as `frame_features` counts: what the encoder puts out may differ from its last hidden state."""
        return -1 if layer == self.num_layers else layer


def nearest(vector: np.ndarray, gallery: np.ndarray, *, leave_out: int | None = None) -> list[Neighbour]:
    """The rows of a gallery with the largest cosine, the nearest first.

    Args:
        vector: [D].
        gallery: [N, D].
        leave_out: a row that does not count.

    Example:
        >>> nearest(np.array([1.0, 0.0]), np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), leave_out=0)
        [Neighbour(number=2, similarity=1.0), Neighbour(number=1, similarity=0.0)]
    """
    norms = np.linalg.norm(gallery, axis=1) * np.linalg.norm(vector)
    cosines = gallery @ vector / np.maximum(norms, 1e-12)
    order = [number for number in np.argsort(-cosines, kind="stable").tolist() if number != leave_out]
    return [Neighbour(number, round(float(cosines[number]), 4)) for number in order[:NEIGHBOURS]]
