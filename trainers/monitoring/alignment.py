"""Whether the modalities of paired samples come to agree: CKA, retrieval within a batch, uniformity."""

from collections.abc import Mapping
from itertools import combinations, permutations

import numpy as np
import torch
from torch import Tensor

from .similarity import cka, on_sphere, uniformity


@torch.no_grad()
def measure_alignment(pooled: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """How far modalities agree on a batch of paired samples, once a log.

    | figure | meaning |
    |---|---|
    | `cka_audio_text` | unbiased linear CKA of the states of two modalities: 0 unrelated, 1 equal up to rotation |
    | `found_audio_to_text` | share of samples whose own text is nearest to their sound, by cosine of centred states |
    | `found_by_chance` | what guessing finds |
    | `uniformity_audio` | logarithm of the mean Gaussian potential (Wang and Isola 2020): 0 all alike, -4 spread out |

    Args:
        pooled: the mean of the student's states of each modality, [B, D] of the same B samples.
    """
    names = list(pooled)
    stacked = torch.stack([pooled[name].double() for name in names])
    states = stacked.cpu().numpy()  # [modalities, B, D]
    count = states.shape[1]
    centred = on_sphere(states - states.mean(1, keepdims=True))
    figures: dict[str, float] = {}
    if count >= 4:
        between = np.nan_to_num(cka(states, states))  # states that are all alike are related to nothing
        for (i, first), (j, second) in combinations(enumerate(names), 2):
            figures[f"cka_{first}_{second}"] = between[i, j]
    for (i, source), (j, target) in permutations(enumerate(names), 2):
        nearest = (centred[i] @ centred[j].T).argmax(1)
        figures[f"found_{source}_to_{target}"] = (nearest == np.arange(count)).mean()
    if len(names) > 1:
        figures["found_by_chance"] = 1 / count
    if count > 1:
        figures |= {f"uniformity_{name}": uniformity(own) for name, own in zip(names, states, strict=True)}
    values = stacked.new_tensor(list(figures.values()), dtype=torch.float32)
    return dict(zip(figures, values, strict=True))
