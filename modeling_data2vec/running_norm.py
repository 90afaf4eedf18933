"""Norms over samples, by statistics that run over the batches of training."""

import torch
from torch import Tensor
from transformers import initialization as init

from .full_precision import FullPrecision, without_autocast

HORIZON = 30  # batches: the statistics are the mean over all so far, from here on a moving one
SHRINKAGE = 0.1  # how far the covariance is drawn to a multiple of the identity before it is whitened by
ROOT_STEPS = 16  # of `inverse_root`: enough for 1,024 channels of which one has all the variance


class RunningWhitening(FullPrecision):
    """Standardises each of K layers over samples, takes their mean over layers, and whitens it.

    The statistics run over batches, so what comes out is a function of the sample, and not of the few others in its
    batch: a batch of 8 spans 7 directions, and whitened by itself it is turned another way each time. A batch counts
    before it is normalised, so that the first one is normalised by itself. Before it, and in a checkpoint without
    statistics, single layers pass as they are. In evaluation the statistics stand still. Several processes hold the
    same ones, of all their batches.

    Whitened is by the symmetric root: all directions in which samples differ count alike, and channels stay what they
    are. The channels of pooled layers say much the same: a few directions have most of the variance, and a loss over
    them asks for little else. Directions with much less than a tenth of the mean variance are left small, as they are
    noise.

    Args:
        num_layers: K.
        dim: channels D.

    Example:
        >>> norm = RunningWhitening(2, 16)
        >>> norm(torch.randn(8, 2, 16)).mean(0).abs().max() < 1e-5
        tensor(True)
    """

    batches: Tensor
    mean: Tensor
    variance: Tensor
    covariance: Tensor
    whitening: Tensor

    def __init__(self, num_layers: int, dim: int):
        super().__init__()
        layers, square = (num_layers, dim), (dim, dim)
        self.register_buffer("batches", torch.empty((), dtype=torch.int64))
        self.register_buffer("mean", torch.empty(layers, dtype=torch.float32))
        self.register_buffer("variance", torch.empty(layers, dtype=torch.float32))
        self.register_buffer("covariance", torch.empty(square, dtype=torch.float32))  # of the standardised layers' mean
        self.register_buffer("whitening", torch.empty(square, dtype=torch.float32))
        self.init_weights()

    def init_weights(self) -> None:
        """Statistics that change nothing; a checkpoint that holds none gets these."""
        init.zeros_(self.batches)
        init.zeros_(self.mean)
        init.ones_(self.variance)
        init.eye_(self.covariance)
        init.eye_(self.whitening)

    def forward(self, x: Tensor) -> Tensor:
        """Take a batch into the statistics, in training, and normalise it: [..., K, D] to fp32 [..., D]."""
        if self.training:
            self.update(x.detach().flatten(0, -3))
        return self.normalized(x)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take samples [N, K, D] into the statistics."""
        with without_autocast(x):
            self.batches += 1
            rate = (1 / self.batches).clamp_min(1 / HORIZON)
            offset = x.float() - self.mean
            shift, square = mean_over_processes(torch.stack([offset.mean(0), offset.square().mean(0)]))  # [K, D] each
            # About the new mean: the square of its step is what the moving mean of squares has too much.
            self.variance.lerp_(square, rate).sub_((rate * shift).square()).clamp_min_(0)
            self.mean += rate * shift
            rows = self._standardised(x)  # [N, D]
            self.covariance.lerp_(mean_over_processes(rows.T @ rows / len(rows)), rate)
            self.whitening.copy_(inverse_root(shrunk(self.covariance)))

    def normalized(self, x: Tensor) -> Tensor:
        """Normalise samples by the statistics as they are: [..., K, D] to fp32 [..., D]."""
        with without_autocast(x):
            # A copy: the next batch of a step changes the buffer before this one's gradients are computed.
            return self._standardised(x) @ self.whitening.clone()

    def _standardised(self, x: Tensor, eps: float = 1e-5) -> Tensor:
        return ((x.float() - self.mean) * torch.rsqrt(self.variance + eps)).mean(-2)


def shrunk(covariance: Tensor, eps: float = 1e-5) -> Tensor:
    """A covariance [D, D] whose weak directions have a part of the mean variance, so that it has an inverse."""
    mean = covariance.diagonal().mean() + eps
    return (1 - SHRINKAGE) * covariance + torch.diag(SHRINKAGE * mean.expand(len(covariance)))


def inverse_root(matrix: Tensor) -> Tensor:
    """The symmetric inverse square root of a symmetric positive matrix [D, D], by Newton-Schulz iterations.

    Products alone: an eigendecomposition would wait for the device (Higham, Functions of Matrices, 2008, eq. 6.35).

    Example:
        >>> inverse_root(torch.diag(torch.tensor([4.0, 100.0]))).diagonal()
        tensor([0.5000, 0.1000])
    """
    norm = matrix.norm()
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    root, inverse = matrix / norm, identity  # the iterations converge where no eigenvalue is above 1
    for _ in range(ROOT_STEPS):
        step = (3 * identity - inverse @ root) / 2
        root, inverse = root @ step, step @ inverse
    return inverse * norm.rsqrt()


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of what the processes of a run hold; all of them call this. Alone, the values as they are."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    distributed.all_reduce(values)
    return values / distributed.get_world_size()
