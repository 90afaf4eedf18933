"""Training steps as one writes them straight from the papers in plain PyTorch; `side_by_side.py` times them.

`PaperStep` is data2vec 2.0 (arXiv 2212.07525) in the authors' formulation: the batch is repeated M times before masks
are applied, ALiBi is built for every clone, convolutions have channels first and norms transpose, noise is drawn for
every channel. `NativeStep` is data2vec 1.0 (arXiv 2202.03555) around transformers' own models. Both take the batches of
our collators, so that all sides see the same inputs and masks.
"""

import copy
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from modeling_data2vec.feature_encoder import alibi_slopes


class Block(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        dim, self.heads = config.hidden_size, config.num_attention_heads
        self.rates = config.attention_dropout, config.activation_dropout, config.hidden_dropout, config.post_mlp_dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, config.intermediate_size), nn.Linear(config.intermediate_size, dim)

    def forward(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        rows, length, dim = x.shape
        attention, activation, hidden, mlp = (rate if self.training else 0.0 for rate in self.rates)
        q, k, v = self.qkv(x).view(rows, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        scores = (q * (dim // self.heads) ** -0.5) @ k.transpose(-2, -1)
        weights = (scores if bias is None else scores + bias).softmax(-1)
        y = (F.dropout(weights, attention) @ v).transpose(1, 2).reshape(rows, length, dim)
        x = self.norm1(x + F.dropout(self.proj(y), hidden))
        y = F.dropout(self.fc2(F.dropout(F.gelu(self.fc1(x)), activation)), activation)
        return self.norm2(x + F.dropout(y, mlp)), y


class ChannelsFirst(nn.Module):
    """Convolution, norm over channels, GELU: [R, C, ...] to [R, C', ...]."""

    def __init__(self, conv: nn.Module, channels: int, affine: bool) -> None:
        super().__init__()
        self.conv, self.norm = conv, nn.LayerNorm(channels, elementwise_affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        for axis in range(2, y.ndim):
            if y.shape[axis] == x.shape[axis] + 1:  # an even kernel
                y = y.narrow(axis, 0, x.shape[axis])
        return F.gelu(self.norm(y.transpose(1, -1)).transpose(1, -1))


class Encoder(nn.Module):
    """Local encoder, positions and blocks."""

    def __init__(self, config: Any, kind: str) -> None:
        super().__init__()
        self.config, self.kind, dim = config, kind, config.hidden_size
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm, self.extra = nn.LayerNorm(dim), nn.Parameter(torch.randn(1, config.num_extra_tokens, dim))
        if kind == "images":
            self.patches = nn.Conv2d(config.num_channels, dim, config.patch_size, config.patch_size)
            size = config.image_size // config.patch_size
            self.positions = nn.Parameter(torch.randn(1, size * size, dim), requires_grad=False)
        elif kind == "text":
            self.words = nn.Embedding(config.vocab_size, dim)
            self.positions = nn.Parameter(torch.randn(1, config.max_tokens, dim))
            self.embedding_norm = nn.LayerNorm(dim)
        else:
            widths = [1, *config.conv_dim]
            sizes = zip(widths, widths[1:], config.conv_kernel, config.conv_stride, strict=False)
            self.convs = nn.Sequential(
                *(ChannelsFirst(nn.Conv1d(a, b, k, s, bias=False), b, True) for a, b, k, s in sizes)
            )
            self.projection = nn.Sequential(nn.LayerNorm(widths[-1]), nn.Linear(widths[-1], dim))
            kernel, groups = config.conv_pos_kernel_size, config.num_conv_pos_embedding_groups
            self.relative = nn.Sequential(
                *(
                    ChannelsFirst(nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups), dim, False)
                    for _ in range(config.num_conv_pos_embeddings)
                )
            )
        if config.use_alibi:
            self.scale = nn.Parameter(torch.ones(1, config.num_attention_heads, 1, 1))

    def embed(self, inputs: Tensor) -> Tensor:
        if self.kind == "images":
            return self.patches(inputs).flatten(2).transpose(1, 2) + self.positions
        if self.kind == "text":
            x = self.words(inputs) + self.positions[:, : inputs.shape[1]]
            return F.dropout(self.embedding_norm(x), self.config.embedding_dropout, self.training)
        return self.projection(self.convs(inputs[:, None]).transpose(1, 2))

    def encode(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """[R, T, D] and bool [R, T], what is hidden, to states and feed-forward outputs."""
        rows, length, dim = x.shape
        if self.kind == "speech":
            x = x if mask is None else x.masked_fill(mask[..., None], 0)
            x = x + self.relative(x.transpose(1, 2)).transpose(1, 2)
        bias = None
        if self.config.use_alibi:  # for every clone, all positions; then what it sees
            places = torch.arange(length, device=x.device)
            distances = -(places[None] - places[:, None]).abs()
            bias = (alibi_slopes(self.config.num_attention_heads)[:, None, None] * distances).repeat(rows, 1, 1, 1)
        if mask is not None:
            keep = mask.long().argsort(dim=1, stable=True)[:, : int((~mask[0]).sum())]  # [R, V]
            x = x.gather(1, keep[..., None].expand(-1, -1, dim))
            if bias is not None:
                bias = bias.gather(2, keep[:, None, :, None].expand(-1, bias.shape[1], -1, length))
                bias = bias.gather(3, keep[:, None, None].expand(-1, bias.shape[1], bias.shape[2], -1))
        x = torch.cat([self.extra.expand(rows, -1, -1), x], 1)
        if bias is not None:
            bias = F.pad(bias * self.scale.clamp_min(0), (self.extra.shape[1], 0) * 2)
        x, outputs = F.dropout(self.norm(x), self.config.prenet_dropout, self.training), []
        for block in self.blocks:
            x, output = block(x, bias)
            outputs.append(output[:, self.extra.shape[1] :])
        return x[:, self.extra.shape[1] :], outputs


class PaperStep(nn.Module):
    """data2vec 2.0 of one modality ("images", "speech" or "text"), with our config's sizes."""

    def __init__(self, config: Any, kind: str) -> None:
        super().__init__()
        self.config, self.grid = config, kind == "images"
        self.student = Encoder(config, kind)
        conv = nn.Conv2d if self.grid else nn.Conv1d
        widths = [config.hidden_size] + [config.decoder_dim] * config.decoder_layers
        kernel, groups = config.decoder_kernel, config.decoder_groups
        self.decoder = nn.ModuleList(
            ChannelsFirst(conv(a, b, kernel, padding=kernel // 2, groups=groups), b, False) for a, b in pairwise(widths)
        )
        middle = int(config.decoder_dim * config.decoder_projection_ratio)
        widths = [config.decoder_dim] + [middle] * (config.decoder_projection_layers - 1) + [config.hidden_size]
        layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.GELU())]
        self.projection = nn.Sequential(*layers[:-1])
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def forward(self, inputs: Tensor, mask: Tensor, **batch: Tensor) -> Tensor:
        config, num_masks = self.config, mask.shape[1]
        features = self.student.embed(inputs)
        x, mask = features.repeat_interleave(num_masks, 0), mask.flatten(0, 1)  # [R, T, D], [R, T]
        states, _ = self.student.encode(x, mask)
        filled = torch.randn_like(x) * config.mask_noise_std
        states = F.dropout(states, config.decoder_dropout, self.training)
        filled = filled.masked_scatter(~mask[..., None], states).transpose(1, 2)
        filled = filled.unflatten(2, [int(filled.shape[2] ** 0.5)] * 2) if self.grid else filled
        for layer in self.decoder:
            y = layer(filled)
            filled = filled + y if config.decoder_residual and y.shape == filled.shape else y
        predictions = self.projection(filled.flatten(2).transpose(1, 2))[mask]
        with torch.no_grad():
            self.teacher.eval()
            own = config.teacher_scope == "model"
            _, layers = self.teacher.encode(self.teacher.embed(inputs) if own else features.detach())
            targets = averaged(layers, config).repeat_interleave(num_masks, 0)[mask]
        return (predictions - targets).square().sum(-1).mean() * config.hidden_size**-0.5


class NativeStep(nn.Module):
    """data2vec 1.0 around transformers' own model of a pretraining config."""

    def __init__(self, config: Any, kind: str) -> None:
        super().__init__()
        self.config, self.kind = config, kind
        fields = {name: value for name, value in config.to_dict().items() if name != "model_type"}
        self.student = AutoModel.from_config(AutoConfig.for_model(config.model_type, **fields))
        self.head = nn.Linear(config.hidden_size, config.hidden_size)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.outputs: list[Tensor] = []
        encoder = self.teacher.encoder
        for layer in getattr(encoder, "layers", None) or encoder.layer:
            part = {"images": "output", "text": "output.dense", "speech": "feed_forward"}[kind]
            layer.get_submodule(part).register_forward_hook(self._record)

    def _record(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.outputs.append(output)

    def forward(self, inputs: Tensor, mask: Tensor, **batch: Tensor) -> Tensor:
        mask = mask[:, 0]
        self.teacher.eval()
        self.outputs.clear()
        with torch.no_grad():
            self.teacher(inputs)
        if self.kind == "images":
            states = self.student(inputs, bool_masked_pos=mask).last_hidden_state[:, 1:]
        elif self.kind == "text":
            states = self.student(inputs.masked_fill(mask, self.config.mask_token)).last_hidden_state
        else:
            states = self.student(inputs.clone(), mask_time_indices=mask).last_hidden_state
        with torch.no_grad():
            targets = averaged([output[:, -mask.shape[1] :] for output in self.outputs], self.config)[mask]
        return (self.head(states)[mask] - targets).square().sum(-1).mean() * self.config.hidden_size**-0.5


def averaged(layers: list[Tensor], config: Any) -> Tensor:
    """Targets of the last K layers."""
    layers = layers[-config.average_top_k_layers :]
    if config.instance_norm_target_layer:
        layers = [F.instance_norm(layer.transpose(1, 2)).transpose(1, 2) for layer in layers]
    if config.layer_norm_target_layer:
        layers = [F.layer_norm(layer, layer.shape[-1:]) for layer in layers]
    targets: Any = sum(layers) / len(layers)
    return F.layer_norm(targets, targets.shape[-1:]) if config.layer_norm_targets else targets


@torch.no_grad()
def move_teacher(step: PaperStep | NativeStep, decay: float = 0.999) -> None:
    """Average the student into the teacher, weight by weight."""
    for average, weight in zip(step.teacher.parameters(), step.student.parameters(), strict=True):
        average.mul_(decay).add_(weight, alpha=1 - decay)
