"""Freezing: parts of an encoder for good, or all but the head for the first steps."""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.modeling_layers import GradientCheckpointingLayer

from modeling_data2vec.trunk import trainable_input

from .layer_decay import layer_depths


def freeze(model: nn.Module, encoder: str, what: str) -> None:
    """Stop training a part of a model.

    Args:
        model: with a head on an encoder.
        encoder: name of the encoder within the model, its `base_model_prefix`.
        what: "feature_encoder" (what comes before the first layer: patches, convolutions over the waveform, of text the
            embeddings), "encoder" (all but the head), or a number of layers from below, and the feature encoder.

    Raises:
        ValueError: it is none of these.
    """
    depths = layer_depths((name for name, _ in model.named_parameters()), encoder)
    last = max(depths.values(), default=0)
    if what == "encoder":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and not in_encoder(name, encoder))
        return
    if what != "feature_encoder" and not (what.isdigit() and int(what) < last):
        raise ValueError(
            f"freeze is {what!r}, but must be 'feature_encoder', 'encoder', or a number of layers below {last}"
        )
    if what == "feature_encoder" and hasattr(model, "freeze_feature_encoder"):
        cast(Any, model).freeze_feature_encoder()  # of speech: the convolutions alone, as in wav2vec 2.0
        return
    deepest = int(what) if what.isdigit() else 0
    for name, parameter in model.named_parameters():
        if depths[name] <= deepest:
            parameter.requires_grad_(False)


def in_encoder(name: str, encoder: str) -> bool:
    """Whether a weight of this name belongs to the encoder, not to the head."""
    return encoder in name.split(".")


class HeadOnlyCallback(TrainerCallback):
    """Trains the head alone for the first optimizer steps, as wav2vec 2.0 is fine-tuned [freeze_finetune_updates].

    A function of the step, so a resumed run goes on as it was.

    Args:
        model: what is trained.
        encoder: name of the encoder within the model, its `base_model_prefix`.
        steps: how many.
    """

    def __init__(self, model: nn.Module, encoder: str, steps: int) -> None:
        self.steps = steps
        self.held = [
            parameter
            for name, parameter in model.named_parameters()
            if in_encoder(name, encoder) and parameter.requires_grad
        ]

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._hold(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._hold(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for parameter in self.held:
            parameter.requires_grad_(True)

    def _hold(self, state: TrainerState) -> None:
        trained = state.global_step >= self.steps
        for parameter in self.held:
            parameter.requires_grad_(trained)


def let_gradients_reach_layers(model: nn.Module) -> None:
    """Let reentrant checkpointing train layers that come after frozen ones, also those of transformers' own models.

    Layers of data2vec 2.0 see to it themselves. Call it when checkpointing is on.
    """
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer) and layer.gradient_checkpointing:
            layer._gradient_checkpointing_func = _reaching(layer, layer._gradient_checkpointing_func)


def _reaching(layer: nn.Module, checkpoint: Callable[..., Any]) -> Callable[..., Any]:
    def checkpointed(function: Any, *args: Any) -> Any:
        # Arguments by name, such as a bias that layers share, are trained by way of the input as well.
        named = {name: value for name, value in getattr(function, "keywords", {}).items() if isinstance(value, Tensor)}
        if args and isinstance(args[0], Tensor):
            args = (trainable_input(layer, args[0], named), *args[1:])
        return checkpoint(function, *args)

    return checkpointed


class GradientsReachLayersCallback(TrainerCallback):
    """`let_gradients_reach_layers` when training begins: `Trainer` has turned checkpointing on by then, if asked to."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        let_gradients_reach_layers(kwargs["model"])
