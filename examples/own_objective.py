"""A loss and a target of one's own, without a change to the package: 4 x 4 patches of scikit-learn's digits on a CPU.

- A loss on visible positions too, which counts less the farther the nearest hidden position is: V-JEPA 2.1's context
  loss (arXiv 2603.14482), here with data2vec's own squared error.
- Several hidden layers of the teacher, each predicted separately instead of their average (Bootleg, arXiv 2603.15553).

Run it for 300 steps:

    python examples/own_objective.py runs/own_objective 300
"""

import sys
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from modeling_data2vec import (
    Data2Vec2VisionConfig,
    Data2Vec2VisionForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
    ImageReader,
    ImageTransform,
    SampleDataset,
    load_images,
)
from modeling_data2vec.heads import ConvDecoder
from modeling_data2vec.objective import Targets, Term, Views, regression_loss


def context_loss(views: Views, grid: tuple[int, int]) -> Tensor:
    """Loss at visible positions, weighted by one over the root of the distance to the nearest hidden one."""
    rows, columns = (torch.arange(float(size), device=views.mask.device) for size in grid)
    cells = torch.cartesian_prod(rows, columns)  # [T, 2]
    distances = torch.cdist(cells, cells)  # [T, T]
    to_hidden = torch.where(views.mask[:, :, None], distances, torch.inf)  # [B, M, T, T]
    weights = to_hidden.amin(-1).clamp_min(1).rsqrt() * ~views.mask  # [B, M, T], 0 at hidden positions
    losses = regression_loss(views.predictions, views.targets[:, None])  # [B, M, T]
    return (losses * weights).sum() / weights.sum()


@dataclass(frozen=True)
class SeparateLayers(Targets):
    """K layers, evenly spread over the teacher's depth, side by side: [B, T, K * D]."""

    def chosen(self, layers):
        count, depth = self.average_top_k_layers, len(layers)
        return [layers[depth * (k + 1) // count - 1] for k in range(count)]

    def __call__(self, layers, valid=None):
        return torch.cat([self.normalized(layer, valid) for layer in self.chosen(layers)], dim=-1)


class LayersDecoder(ConvDecoder):
    """data2vec 2.0's decoder with an output for each of the K layers."""

    def __init__(self, config, num_axes):
        super().__init__(config, num_axes)
        self.proj = nn.Linear(config.decoder_dim, config.average_top_k_layers * config.hidden_size)


class OwnModel(Data2Vec2VisionForPreTraining):
    """data2vec 2.0 for images with this target and this loss; all the rest stays as it is."""

    decoder_class = LayersDecoder

    def build_targets(self, config):
        return SeparateLayers.from_config(config)

    def build_terms(self, config):
        return [*super().build_terms(config), Term("context_loss", 0.5, partial(context_loss, grid=config.grid))]


def main(folder: str, max_steps: int = 300) -> Data2VecTrainer:
    config = Data2Vec2VisionConfig(
        image_size=8, patch_size=2, num_channels=1, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=256, num_prenet_layers=0, num_masks=4, mask_prob=0.6, mask_length=2,
        average_top_k_layers=2, decoder_dim=64, decoder_layers=2, ema_decay=0.99, ema_end_decay=0.999,
        ema_anneal_end_step=max_steps, cls_loss_weight=0.0,  # a CLS token is as wide as one layer
    )  # fmt: skip
    torch.manual_seed(0)  # of the initial weights
    images, column = load_images("digits", split="train")
    transform = ImageTransform(config.image_shape, 1, [0.3], [0.35], crop_scale=(0.6, 1.0), horizontal_flip=False)
    samples = SampleDataset(images, ImageReader(transform, column))
    sizes = {"max_steps": max_steps, "per_device_train_batch_size": 32, "logging_steps": max(1, max_steps // 10)}
    args = Data2VecTrainingArguments(folder, learning_rate=1e-3, report_to=[], seed=0, **sizes)
    trainer = Data2VecTrainer(OwnModel(config), args, train_dataset=samples)
    trainer.train()
    for entry in trainer.state.log_history:
        if "context_loss" in entry:
            names = ("regression_loss", "context_loss", "loss_below_constant", "student_rank")
            print(entry["step"], " ".join(f"{name} {entry[name]:.3f}" for name in names))
    return trainer


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
