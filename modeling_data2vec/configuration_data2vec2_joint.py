"""Config of one trunk for several modalities."""

from math import inf
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .configuration_data2vec2 import Data2Vec2PreTrainingConfig
from .configuration_data2vec2_audio import Data2Vec2AudioConfig
from .configuration_data2vec2_spectrogram import Data2Vec2SpectrogramConfig
from .configuration_data2vec2_text import Data2Vec2TextConfig
from .configuration_data2vec2_vision import Data2Vec2VisionConfig
from .configuration_pretraining import MAX_LAYERS, Number

PREFIX = "data2vec2-"  # of the model types of single models, before the modality's name


def modality_configs() -> dict[str, type[Data2Vec2PreTrainingConfig]]:
    """Configs of all kinds of data by modality, sorted: the package's, and those of imported files.

    Example:
        >>> list(modality_configs())[:2]
        ['audio', 'spectrogram']
    """
    found, waiting = {}, [Data2Vec2PreTrainingConfig]
    for config_class in waiting:
        waiting += config_class.__subclasses__()
        if "model_type" in vars(config_class) and config_class.model_type.startswith(PREFIX):
            found[config_class.model_type.removeprefix(PREFIX)] = config_class
    return dict(sorted(found.items()))


class SubConfigs:
    """`sub_configs` as transformers has them, with those of files that are imported later."""

    def __get__(self, instance: Any, owner: type) -> dict[str, type[Data2Vec2PreTrainingConfig]]:
        return {f"{name}_config": config_class for name, config_class in modality_configs().items()}


# What the trunk and its average are made of, and so must be equal in all modalities.
SHARED_FIELDS = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("norm_position", "layer_norm_eps", "initializer_range"),
    *("hidden_dropout", "attention_dropout", "activation_dropout", "post_mlp_dropout", "drop_path_rate", "layerdrop"),
    *("ema_decay", "ema_end_decay", "ema_anneal_end_step"),
)


@strict
class Data2Vec2Config(PreTrainedConfig):
    """Config of data2vec 2.0 for several modalities: one trunk, and each modality's own parts around it.

    A modality's config is that of its single model, with feature encoder, prenet, decoder, masks, M, K, target norms
    and teacher scope. Only the fields that describe the trunk and the teacher's decay must be equal (`SHARED_FIELDS`);
    they can be read from this config, too. At least one modality must be there.

    Args:
        audio_config, spectrogram_config, text_config, vision_config: config or dict of a modality; None for a model
            without it. A kind of data in a file of one's own has such an argument, too: its modality and `_config`.
        loss_weights: weight of each modality's loss by its name ("audio", "spectrogram", "text", "vision", "pairs"); 1
            by default.
        modality_norms: give each modality differences of its own to all norms and biases of the trunk.
        modality_lora_rank: rank of each modality's own low-rank differences to the trunk's matrices; 0 for none.
        modality_ffn_layers: number of topmost layers whose feed-forward part is each modality's own.
        cross_modal_layers: linear layers of the heads that predict one modality's mean target from another's states,
            for paired samples; 0 for no such heads.
        cross_attention_layers: layers of the predictors that see one modality's visible positions and predict the
            other's targets at all of its positions; 0 for none. With them paired samples are masked, each modality of
            them predicts its own hidden positions as well, and the heads' source is what is visible.
        cross_modal_weight: weight of all that is predicted across modalities, beside what each predicts of its own; 0
            leaves it out, which is the control without pairs.
        cross_modal_balance: whether what predictions across modalities send back into the student is made as long as
            what the modalities' own losses do, times `cross_modal_weight`; by a factor for each batch, at most 10.

    Raises:
        huggingface_hub.errors.StrictDataclassError: no modality, or modalities that differ in a shared field.

    Example:
        >>> sizes = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        ...     average_top_k_layers=2, decoder_dim=64, ema_decay=0.999, ema_end_decay=0.9999, ema_anneal_end_step=100,
        ...     hidden_dropout=0.0, attention_dropout=0.0, post_mlp_dropout=0.0, layerdrop=0.0, layer_norm_eps=1e-5)
        >>> text = Data2Vec2TextConfig(vocab_size=100, **sizes)
        >>> config = Data2Vec2Config(text_config=text, vision_config=Data2Vec2VisionConfig(image_size=32, **sizes))
        >>> config.modalities, config.hidden_size, config.of("vision").num_masks
        (('text', 'vision'), 64, 16)
    """

    model_type = "data2vec2"
    sub_configs = SubConfigs()
    base_model_fsdp_plan = {"trunk.layers.*": "free_full_weight"}  # noqa: RUF012

    audio_config: dict | Data2Vec2AudioConfig | None = None
    spectrogram_config: dict | Data2Vec2SpectrogramConfig | None = None
    text_config: dict | Data2Vec2TextConfig | None = None
    vision_config: dict | Data2Vec2VisionConfig | None = None
    loss_weights: dict[str, Number] | None = None
    modality_norms: bool = False
    modality_lora_rank: int = 0
    modality_ffn_layers: int = 0
    cross_modal_layers: int = 0
    cross_attention_layers: int = 0
    cross_modal_weight: Number = 1.0
    cross_modal_balance: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        for key, config_class in self.sub_configs.items():
            values = kwargs.pop(key) if key in kwargs else getattr(self, key, None)
            if isinstance(values, dict):
                values = config_class(**{name: value for name, value in values.items() if name != "model_type"})
            if values is not None:
                setattr(self, key, values)
        super().__post_init__(**kwargs)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of those that the model has, sorted."""
        return tuple(name for name in modality_configs() if getattr(self, f"{name}_config", None) is not None)

    def of(self, modality: str) -> Any:
        """The config of a modality, which is that of its single model.

        Raises:
            ValueError: the model does not have it.
        """
        if modality not in self.modalities:
            raise ValueError(
                f"this model has no modality {modality!r}, only {', '.join(self.modalities)}: choose one of them, or "
                "build a model with it (`data2vec merge` adds it from a model of its own)"
            )
        return getattr(self, f"{modality}_config")

    def loss_weight(self, name: str) -> float:
        """The weight of the loss of a modality, or of "pairs"."""
        return float((self.loss_weights or {}).get(name, 1.0))

    @property
    def trunk_config(self) -> Any:
        """A config to build the trunk of: any modality's, since they agree in what matters."""
        return self.of(self.modalities[0])

    def __getattr__(self, name: str) -> Any:
        if name in SHARED_FIELDS:
            return getattr(self.trunk_config, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def validate_modalities(self) -> None:
        if not self.modalities:
            raise ValueError(f"there is no modality: give at least one of {', '.join(self.sub_configs)}")
        first, *others = self.modalities
        for other in others:
            for name in SHARED_FIELDS:
                values = getattr(self.of(first), name), getattr(self.of(other), name)
                if values[0] != values[1]:
                    raise ValueError(
                        f"{name} is {values[0]} in {first}_config, but {values[1]} in {other}_config: they share a "
                        "trunk and its teacher, so it must be equal in all"
                    )

    def validate_weights(self) -> None:
        for name, weight in (self.loss_weights or {}).items():
            if name not in (*self.modalities, "pairs") or not 0 <= weight < inf:
                raise ValueError(
                    f"loss_weights gives {name!r} the weight {weight}, but takes weights from 0 on for "
                    f"{', '.join(self.modalities)} and pairs"
                )

    def validate_own_parts(self) -> None:
        for name in ("modality_lora_rank", "modality_ffn_layers", "cross_modal_layers", "cross_attention_layers"):
            if not 0 <= getattr(self, name) <= MAX_LAYERS:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, but must not be negative, nor more than {MAX_LAYERS:,}"
                )
        depth = self.num_hidden_layers
        if self.modality_ffn_layers > depth:
            raise ValueError(f"modality_ffn_layers is {self.modality_ffn_layers}, but the trunk has {depth} layers")
        if self.cross_modal_layers and len(self.modalities) < 2:
            raise ValueError("cross_modal_layers is set, but one modality alone has no pairs: set it to 0")
        if self.cross_attention_layers and not self.cross_modal_layers:
            raise ValueError(
                f"cross_attention_layers is {self.cross_attention_layers}, but cross_modal_layers 0: predictions at "
                "positions go with those of means, so set it to 1 or more"
            )
        if not 0 <= self.cross_modal_weight < inf:
            raise ValueError(f"cross_modal_weight is {self.cross_modal_weight}, but must be a number from 0 on")
