"""Whether the modalities of paired samples come to agree: CKA, retrieval within a batch, uniformity."""

from collections.abc import Mapping
from itertools import combinations, permutations

import torch
from torch import Tensor


def linear_cka(first: Tensor, second: Tensor) -> Tensor:
    """Unbiased linear CKA of [B, D] and [B, D'] of the same B samples, at least 4: a scalar, 0 for unrelated ones.

    As `evaluation/similarity.py` has it for many layers and samples; a batch gives a rough estimate.
    """
    grams = []
    for x in (first, second):
        x = x.double() - x.double().mean(0)
        gram = (x @ x.T).fill_diagonal_(0)  # [B, B]
        count = len(gram)
        rows = gram.sum(1) / (count - 2)
        gram = gram + gram.sum() / ((count - 1) * (count - 2)) - rows[:, None] - rows[None]
        grams.append(gram.fill_diagonal_(0))
    between, own = (grams[0] * grams[1]).sum(), grams[0].square().sum() * grams[1].square().sum()
    return (between / own.sqrt().clamp_min(1e-12)).float()


@torch.no_grad()
def measure_alignment(pooled: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """How far modalities agree on a batch of paired samples.

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
    states = torch.stack([pooled[name].float() for name in names], dim=1)  # [B, modalities, D]
    count = len(states)
    centred = torch.nn.functional.normalize(states - states.mean(0), dim=-1)
    figures = {}
    if count >= 4:
        for (i, first), (j, second) in combinations(enumerate(names), 2):
            figures[f"cka_{first}_{second}"] = linear_cka(states[:, i], states[:, j])
    for (i, source), (j, target) in permutations(enumerate(names), 2):
        nearest = (centred[:, i] @ centred[:, j].T).argmax(1)
        figures[f"found_{source}_to_{target}"] = (nearest == torch.arange(count, device=nearest.device)).float().mean()
    if len(names) > 1:
        figures["found_by_chance"] = torch.tensor(1 / count, device=states.device)
    for i, name in enumerate(names):
        x = torch.nn.functional.normalize(states[:, i], dim=-1)
        distances = torch.pdist(x).square()
        figures[f"uniformity_{name}"] = (-2 * distances).exp().mean().log()
    return figures
