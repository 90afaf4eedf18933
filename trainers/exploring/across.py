"""Search across modalities: samples of one by a sample of another, in a model that was trained on pairs.

Letters: N samples, D channels.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from modeling_data2vec.auto import pretraining_class

from ..evaluation.retrieval import head_predictions, latents_of, pooled_features, whole_samples
from ..modalities.base import Modality
from .explorer import MODEL, WINDOW, Explorer, Neighbour, Shown, nearest


class AcrossModalities:
    """Finds samples of the other modalities by the heads that predict their pooled latents.

    Args:
        model: a joint pretraining model with `cross_modal_layers`; it is put into eval mode.
        explorers: of two of its modalities or more.
    """

    def __init__(self, model: PreTrainedModel, explorers: Sequence[Explorer]) -> None:
        self.model = model.eval()
        self.explorers = {explorer.kind.name: explorer for explorer in explorers}
        self.latents = {}  # by modality, [N, D], centered over its samples
        for name, explorer in self.explorers.items():
            inputs: Any = [sample.inputs for sample in explorer.samples]
            features = pooled_features(model, name, list(_batches(explorer.kind, inputs)))
            self.latents[name] = latents_of(model, name, features)(features)

    def nearest(self, source: str, sample: Shown) -> dict[str, list[Neighbour]]:
        """The nearest samples of each other modality.

        Args:
            source: the sample's modality.
            sample: any sample of it.
        """
        kind = self.explorers[source].kind
        states = pooled_features(self.model, source, list(_batches(kind, [sample.inputs]))).states  # [1, D]
        return {
            target: nearest(head_predictions(self.model, source, target, states)[0], latents)
            for target, latents in self.latents.items()
            if target != source
        }


def across_modalities(model: str, explorers: Sequence[Explorer]) -> AcrossModalities | None:
    """Load what a search across modalities needs; None for a model without such heads, or data of one modality.

    Args:
        model: folder or Hub id.
        explorers: one for each modality that there are data of.
    """
    config = AutoConfig.from_pretrained(model)
    if len(explorers) < 2 or not getattr(config, "cross_modal_layers", 0):
        return None
    whole: Any = pretraining_class(config.model_type).from_pretrained(model)
    return AcrossModalities(whole.to(explorers[0].encoders[MODEL].device), explorers)


def _batches(kind: Modality, inputs: Sequence[Tensor]) -> Iterator[dict[str, Tensor]]:
    for start in range(0, len(inputs), WINDOW):
        yield whole_samples(kind, inputs[start : start + WINDOW])
