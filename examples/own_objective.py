"""A loss and a target of one's own, without a change to the package: 2 x 2 patches of scikit-learn's digits on a CPU.

- A loss on visible positions too, which counts less the farther the nearest hidden position is: V-JEPA 2.1's context
  loss (arXiv 2603.14482), here with data2vec's own squared error: objectives/visible_loss.py.
- Several hidden layers of the teacher, each predicted separately instead of their average (Bootleg, arXiv 2603.15553):
  objectives/separate_layers.py.

Run it for 300 steps:

    python examples/own_objective.py runs/own_objective 300
"""

import sys

import torch
from objectives.separate_layers import SeparateLayers
from objectives.visible_loss import VisibleLoss

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


class OwnModel(SeparateLayers, VisibleLoss, Data2Vec2VisionForPreTraining):
    """data2vec 2.0 for images with this target and this loss; all the rest stays as it is."""


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
        if "visible_loss" in entry:
            names = ("regression_loss", "visible_loss", "loss_below_constant", "student_rank")
            print(entry["step"], " ".join(f"{name} {entry[name]:.3f}" for name in names))
    return trainer


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
