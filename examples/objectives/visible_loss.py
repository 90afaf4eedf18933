"""A loss on visible positions too, by the distance to the nearest hidden one (V-JEPA 2.1, arXiv 2603.14482).

For any pretraining class of sequences or grids; here with data2vec's own regression loss, at half its weight:

    class OwnModel(VisibleLoss, Data2Vec2VisionForPreTraining):
        pass
"""

from functools import partial
from math import prod

import torch
from torch import Tensor

from modeling_data2vec.objective import Term, Views, regression_loss


def visible_loss(views: Views, columns: int, **loss) -> Tensor:
    """Loss at visible positions, weighted by one over the root of the distance to the nearest hidden one.

    Args:
        columns: of the grid of positions; 1 for a sequence.
        loss: arguments of `regression_loss`.
    """
    places = torch.arange(views.mask.shape[-1], device=views.mask.device)
    cells = torch.stack([places // columns, places % columns], dim=1).float()  # [T, 2]
    distances = torch.cdist(cells, cells)  # [T, T]
    to_hidden = torch.where(views.mask[:, :, None], distances, torch.inf)  # [B, M, T, T]
    weights = to_hidden.amin(-1).clamp_min(1).rsqrt() * ~views.mask  # [B, M, T], 0 at hidden positions
    if views.valid is not None:
        weights = weights * views.valid[:, None]
    losses = regression_loss(views.predictions, views.targets[:, None], **loss)  # [B, M, T]
    return (losses * weights).sum() / weights.sum()


class VisibleLoss:
    """To be put before a pretraining class."""

    def build_terms(self, config) -> list[Term]:
        columns = prod(config.grid[1:]) if hasattr(config, "grid") else 1
        loss = partial(visible_loss, columns=columns, loss_beta=config.loss_beta, loss_scale=config.loss_scale)
        return [*super().build_terms(config), Term("visible_loss", 0.5, loss)]
