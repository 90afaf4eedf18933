"""Muon for the matrices of the trunk, AdamW for all other weights (arXiv 2502.16982); from torch 2.9 on.

    optimizer = MuonAndAdamW(model, lr=args.learning_rate, weight_decay=args.weight_decay)
    Data2VecTrainer(model, args, train_dataset=samples, optimizers=(optimizer, None)).train()

Muon's steps are scaled to the size of AdamW's, so that one learning rate and one schedule serve both.
"""

from torch import nn
from torch.optim import AdamW, Muon, Optimizer


class MuonAndAdamW(Optimizer):
    """Both as one optimizer, which is saved and loaded as one.

    Args:
        model: a pretraining model of 2.0; of its teacher nothing is trained.
        lr, weight_decay: of both; biases and norms don't decay.
        betas: of AdamW.
    """

    def __init__(self, model: nn.Module, lr: float, weight_decay: float = 0.0, betas: tuple = (0.9, 0.95)):
        trunk, decaying, others = [], [], []
        for name, weight in model.named_parameters():
            if not weight.requires_grad:
                continue
            in_trunk = ".trunk.layers." in name and weight.ndim == 2
            (trunk if in_trunk else decaying if weight.squeeze().ndim > 1 else others).append(weight)
        groups = [{"params": decaying}, {"params": others, "weight_decay": 0.0}]
        self.parts = [
            Muon(trunk, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
            AdamW(groups, lr=lr, weight_decay=weight_decay, betas=betas),
        ]
        super().__init__(
            [weight for part in self.parts for group in part.param_groups for weight in group["params"]], {}
        )
        self._share_groups()

    def _share_groups(self) -> None:
        """Let schedules, which change the groups' learning rates, reach both."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure=None):
        for part in self.parts:
            part.step()

    def state_dict(self):
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict):
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
