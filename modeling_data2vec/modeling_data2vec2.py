"""The base of the data2vec 2.0 encoders: loading, initial weights, and encoding of raw input.

`modeling_data2vec2_{audio,spectrogram,text,vision}.py` add the name of raw input and what reads it, `..._tasks.py` the
heads, and `..._pretraining.py` the teacher and the decoder.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.output_capturing import OutputRecorder

from .configuration_data2vec2 import Data2Vec2PreTrainingConfig
from .embedding import mean_over_positions
from .feature_encoder import FeatureEncoder
from .linear import own_linear
from .model_files import SafeLoading, write_embedding_files
from .trunk import Data2Vec2Attention, Data2Vec2Layer, Data2Vec2Trunk, Differences

HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


def _require_gradients(module: nn.Module, inputs: tuple, output: Tensor) -> None:
    output.requires_grad_()


def recorded_layers() -> OutputRecorder:
    """Tell transformers where hidden states are: the prenet's layers count, too, so that -1 is the trunk's last."""
    recorder = OutputRecorder(Data2Vec2Layer)
    recorder.num_hidden_layers_key = "depth"  # not an argument in the oldest transformers, which finds none by number
    return recorder


def model_of_parts(name: Any, hub: dict[str, Any]) -> Any:
    """The class of a checkpoint's model where it has several modalities, as the Auto classes know it; None otherwise.

    The joint model is built of the single ones. So these do not import it, and their code can be shared without it.

    Args:
        name: folder or Hub id.
        hub: how to reach the Hub: `revision`, `token` and so on.
    """
    try:
        values, _ = PreTrainedConfig.get_config_dict(name, **hub)
    except OSError:  # whoever loads the model will say it better
        return None
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        return None
    model = MODEL_MAPPING.get(CONFIG_MAPPING[model_type], None)
    return model if hasattr(model, "part_options") else None


class Data2Vec2PreTrainedModel(SafeLoading, PreTrainedModel):
    """Loading, saving and initial weights of all data2vec 2.0 models."""

    config: Data2Vec2PreTrainingConfig
    modality: str | None = None  # the joint models have none
    feature_encoder_class: type[FeatureEncoder]
    num_axes: int  # of the grid of positions
    supports_gradient_checkpointing = True
    _no_split_modules = ["Data2Vec2Layer"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": recorded_layers(), "attentions": Data2Vec2Attention}  # noqa: RUF012

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a model; of a checkpoint with several modalities, the part that this class is for.

        Raises:
            ValueError: the checkpoint does not have the modality.
            OSError: there is no such model, or it has no safetensors.
        """
        name = pretrained_model_name_or_path
        if cls.modality is None or name is None or kwargs.get("state_dict") is not None:
            return super().from_pretrained(name, *args, **kwargs)
        whole = model_of_parts(name, {option: kwargs[option] for option in HUB_OPTIONS if option in kwargs})
        if whole is None:
            return super().from_pretrained(name, *args, **kwargs)
        model = super().from_pretrained(None, *args, **whole.part_options(cls, name, **kwargs))
        (model[0] if isinstance(model, tuple) else model).config._name_or_path = str(name)
        return model

    def save_pretrained(self, save_directory: Any, is_main_process: bool = True, *args: Any, **kwargs: Any) -> None:
        """Save the model, and beside it how sentence-transformers takes vectors of it (docs/bridges.md)."""
        self.config.__dict__.pop("auto_map", None)  # of code that was loaded from elsewhere, and is not saved along
        super().save_pretrained(save_directory, is_main_process, *args, **kwargs)
        if is_main_process:
            write_embedding_files(save_directory, self.input_modalities)

    @property
    def num_features(self) -> int:
        """Channels D of `forward_features`, as timm calls them."""
        return int(self.config.hidden_size)

    def forward_features(self, *args: Any, **kwargs: Any) -> Tensor:
        """States of all tokens [B, E + T, D], extra tokens first, of whatever the model takes, as timm calls them."""
        return self.base_model(*args, **kwargs).last_hidden_state

    def enable_input_require_grads(self) -> None:
        """Let the input of the first layers require gradients, whatever is frozen before them.

        Libraries ask for it where adapters on frozen weights are trained with checkpointing; `disable_...` ends it.
        """
        parts = dict(self.named_modules())
        encoders = [m for name, m in parts.items() if isinstance(m, FeatureEncoder) and not name.startswith("teacher.")]
        hooks = [encoder.dropout.register_forward_hook(_require_gradients) for encoder in encoders]  # the last before
        self._require_grads_hooks, self._require_grads_hook = hooks, hooks[0]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initial weights as in the authors' code.

        | weights | distribution |
        |---|---|
        | linear layers and embeddings | N(0, initializer_range), bias and padding 0 |
        | norms | weight 1, bias 0 |
        | modules with `init_weights`, such as feature encoders and decoders | as they say |
        """
        if not isinstance(module, PreTrainedModel) and hasattr(module, "init_weights"):
            cast(Any, module).init_weights()
        elif isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, std=self.config.initializer_range)
            if isinstance(module, nn.Linear):
                init.zeros_(module.bias)
            elif module.padding_idx is not None:
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)


def encode(
    feature_encoder: FeatureEncoder,
    trunk: Data2Vec2Trunk,
    inputs: Tensor,
    attention_mask: Tensor | None = None,
    differences: Differences | None = None,
    **kwargs: Any,
) -> BaseModelOutputWithPooling:
    """Encode raw input [B, ...]: states of all tokens [B, E + T, D], and their mean over real positions [B, D].

    States at padding are 0, but for `padding="reference"`.
    """
    config = feature_encoder.config
    with own_linear():
        embedding = feature_encoder.embed(inputs, attention_mask)
        if feature_encoder.training:  # for a task: pretraining has masks, and a teacher that sees everything
            embedding = feature_encoder.augmented(embedding)
        tokens, attention_masks = feature_encoder.arrange(embedding)
        valid = embedding.valid
        del embedding  # its features would fill memory beside the layers
        tokens, attention_masks = feature_encoder.run_prenet(tokens, attention_masks, **kwargs)
        hidden_states, _ = trunk(tokens, attention_masks, differences=differences, **kwargs)
    pooled = mean_over_positions(hidden_states[:, config.num_extra_tokens :], valid)
    if valid is not None and config.padding == "exact":
        real = F.pad(valid, (config.num_extra_tokens, 0), value=True)  # [B, E + T]
        hidden_states = hidden_states.masked_fill(~real[..., None], 0)
    return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)


class Data2Vec2Encoder(Data2Vec2PreTrainedModel):
    """Feature encoder and trunk, without any head: the base of every `Data2Vec2...Model`."""

    # A pretraining checkpoint also holds these; the bare encoder does without.
    _keys_to_ignore_on_load_unexpected = [r"^teacher\.", r"^head\."]  # noqa: RUF012

    def __init__(self, config: Any):
        super().__init__(config)
        self.feature_encoder = self.feature_encoder_class(config)
        self.trunk = Data2Vec2Trunk(config)
        self.post_init()

    def encode(self, inputs: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> BaseModelOutputWithPooling:
        """What a forward returns: states of all tokens, and their mean over real positions; see `encode`."""
        return encode(self.feature_encoder, self.trunk, inputs, attention_mask, **kwargs)


def is_foreign(model_class: type) -> bool:
    """Whether a class stands in a file outside of this package, and so has to be made known to the Auto classes."""
    return not model_class.__module__.startswith(f"{__package__}.")
