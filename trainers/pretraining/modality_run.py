"""One modality of a pretraining run: its data, and what is drawn, checked and reported of it."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging

from modeling_data2vec import Data2Vec2Model

from ..data.samples import IterableSampleDataset, LabelledSet
from ..evaluation.pictures import AVERAGED, pca_maps, plot_masks
from ..evaluation.probe_labels import usual_counts
from ..evaluation.probe_table import baseline_accuracy, probe_accuracy, probe_table
from ..files.writing import write_text
from ..modalities.base import Modality, Samples

logger = logging.get_logger(__name__)


def part_of(model: Any, modality: str) -> Any:
    """What one modality's pictures and probes are made with: a copy of its part of a joint model, else the model."""
    return model.base_model.slice(modality) if isinstance(model.base_model, Data2Vec2Model) else model


@dataclass
class RunPart:
    """One modality of a run.

    Attributes:
        modality: "audio", "text" or "vision".
        data: how they are read.
        samples: to train on.
        source: what they were named by.
        label: what the names of its figures, and the ends of its files' names, are marked with; empty for a model that
            has only one modality.
        probe_sets: labelled training and test samples; None for no probes.
    """

    modality: str
    data: Modality
    samples: Samples
    source: str
    label: str = ""
    probe_sets: tuple[LabelledSet, LabelledSet] | None = None

    def file(self, folder: Path, name: str) -> Path:
        """The path of a file about this part: `masks.png`, or of a joint model `masks_audio.png`."""
        path = folder / name
        return path.with_stem(f"{path.stem}_{self.label}") if self.label else path

    def examples(self, count: int) -> list[Tensor]:
        """Samples that can be read, without augmentation: evenly spread over the data, or the first ones of a stream.

        Raises:
            ValueError: there is none.
        """
        samples = self.samples
        whole = type(samples)(samples.dataset, samples.reader, augment=False)
        if isinstance(whole, IterableSampleDataset):
            stream = iter(whole)
        else:
            spread = np.linspace(0, len(whole) - 1, min(count, len(whole))).round().astype(int)
            stream = map(whole.__getitem__, spread.tolist())
        found = [sample[self.data.input_name] for sample in islice(stream, count)]
        if not found:
            raise ValueError(f"{self.source} has no {samples.reader.noun} that can be read")
        return found

    # ---- pictures ----

    def draw_masks(self, model: Any, folder: Path) -> None:
        """Show what masks hide of the first samples."""
        name = self.data.input_name
        batch = self.data.collator()([{name: sample, "key": key} for key, sample in enumerate(self.examples(4))])
        shown = _as_collated(batch[name], batch.get("attention_mask"))
        path = self.file(folder, "masks.png")
        plot_masks(part_of(model, self.modality), shown, batch["mask"], path, self.data.processor)

    def draw_features(self, model: Any, folder: Path) -> None:
        """Show the features of some samples as colours, if there are any."""
        path = self.file(folder, "pca.png")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pca_maps(part_of(model, self.modality), self.examples(AVERAGED), path, self.data.processor)
            except ValueError as error:  # a diverged model has no features to draw, and CollapseError says more
                logger.warning(f"no picture of the features: {error}")

    # ---- checks and probes ----

    def check_features(self, model: Any, reloaded: Any, folder: Path) -> None:
        """Require that a saved and reloaded encoder gives the trained student's features of a sample.

        Raises:
            RuntimeError: they differ.
        """
        inputs = {self.data.input_name: self.examples(1)[0][None].to(model.device)}
        with torch.no_grad():
            expected = model.eval().base_model(**inputs).last_hidden_state
            actual = reloaded(**inputs).last_hidden_state
        if not torch.equal(expected.nan_to_num(), actual.nan_to_num()):  # a diverged model's may be NaN
            raise RuntimeError(
                f"{folder} does not give the trained model's features when it is loaded: please report this"
            )

    def baselines(self, model: Any) -> Mapping[str, float]:
        """What the probes during training are compared with."""
        assert self.probe_sets is not None
        encoder = part_of(model, self.modality).base_model
        return baseline_accuracy(encoder, *self.probe_sets, pooling=self.data.probe_pooling)

    def probe(self, model: Any, baselines: Mapping[str, float]) -> dict[str, float]:
        """Figures of a probe during training, as they are logged."""
        assert self.probe_sets is not None
        encoder = part_of(model, self.modality)
        figures = probe_accuracy(encoder, *self.probe_sets, pooling=self.data.probe_pooling) | dict(baselines)
        prefix = f"{self.label}/" if self.label else ""
        return {f"{prefix}probe_{name}": value for name, value in figures.items()}

    def report(self, reloaded: Any, folder: Path) -> str:
        """The probe's table as markdown; it is written as JSON, too."""
        assert self.probe_sets is not None
        train, test = self.probe_sets
        model = part_of(reloaded, self.modality)
        depth = getattr(model.config, "num_prenet_layers", 0) + model.config.num_hidden_layers
        layer = list(range(1, depth + 1)) if self.data.probe_layers == "all" else -1
        counts = usual_counts(train[1], 2)
        table = probe_table(model, train, test, label_counts=counts, pooling=self.data.probe_pooling, layer=layer)
        write_text(self.file(folder, "probe.json"), json.dumps(table.to_dict(), indent=2))
        return (f"{self.label}:\n\n" if self.label else "") + table.to_markdown()


def _as_collated(inputs: Tensor, attention_mask: Tensor | None) -> list[Tensor]:
    """A batch as a list of samples without padding."""
    if attention_mask is None:
        return list(inputs)
    return [sample[real] for sample, real in zip(inputs, attention_mask.bool(), strict=True)]
