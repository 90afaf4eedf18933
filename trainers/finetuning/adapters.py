"""Adapters of peft (LoRA and others) on an encoder, with a head that is trained and saved whole."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import peft
import transformers
from torch import nn
from transformers import AutoConfig

import modeling_data2vec

from ..files.model_folders import loading
from ..logging import errors_only
from ..option_checks import check_keys, wrong_choice
from .freezing import in_encoder
from .layer_decay import LAYER, POSITIONS

# Configs that say which layers they act on; prompts and the like, which don't, change the input's length.
KINDS = {
    str(kind.value).lower(): config
    for kind, config in peft.PEFT_TYPE_TO_CONFIG_MAPPING.items()
    if "target_modules" in config.__dataclass_fields__
}


def with_adapter(
    model: Any, kind: str, changes: dict[str, Any] | None = None, *, fresh: Iterable[str] = ()
) -> peft.PeftModel:
    """Freeze a model's encoder and put an adapter on its layers; the head stays trainable and is saved with it.

    Args:
        model: with a head on an encoder.
        kind: of the adapter, as peft calls it: "lora", "ia3", "loha", ...
        changes: fields of its config, e.g. {"r": 8}. By default it acts on every linear layer within the transformer's
            layers.
        fresh: names of the weights that are new, beside the head's: they are trained, too.

    Raises:
        ValueError: there is no such kind, or no such field.
        RuntimeError: the head is not trained; a mistake of this function.

    Example:
        >>> from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionForImageClassification
        >>> config = Data2Vec2VisionConfig(hidden_size=32, num_hidden_layers=2, num_prenet_layers=0, num_labels=10,
        ...     num_attention_heads=4, intermediate_size=64, average_top_k_layers=2, decoder_dim=32, image_size=32)
        >>> model = with_adapter(Data2Vec2VisionForImageClassification(config), "lora", {"r": 4})
        >>> sorted({name.split(".")[2] for name, weight in model.named_parameters() if weight.requires_grad})
        ['classifier', 'data2vec2_vision', 'fc_norm']
    """
    if kind not in KINDS:
        raise ValueError(wrong_choice("--peft", kind, sorted(KINDS)))
    config_class: Any = KINDS[kind]
    values = {"target_modules": _within_layers(linear_layers(model)), "modules_to_save": head_modules(model, fresh)}
    known = set(config_class.__dataclass_fields__)
    if "feedforward_modules" in known:  # (IA)^3 scales the input of these, not their output
        values["feedforward_modules"] = []
    check_keys(changes or {}, known, f"--peft_config of {kind}")
    try:
        adapted = peft.get_peft_model(model, config_class(**(values | (changes or {}))))
    except (TypeError, ValueError) as error:
        raise ValueError(f"peft refuses --peft {kind} with {changes}: {error}") from error
    # peft would otherwise save embeddings, which speech doesn't have, wherever the size of a vocabulary changes.
    adapted.save_pretrained = partial(adapted.save_pretrained, save_embedding_layers=False)
    untrained = [name for name in values["modules_to_save"] if not _trained(adapted, name)]
    if untrained:
        raise RuntimeError(f"{', '.join(untrained)} would not be trained: please report this")
    return adapted


def load_adapter(folder: str, *, merge: bool = False) -> Any:
    """The model that `data2vec finetune --peft` saved: its base, with head and adapter.

    Args:
        folder: or Hub id, with the adapter and the config of the whole model.
        merge: merge the adapter's weights into the model's, so that it is a plain model again.

    Raises:
        ValueError: there is no adapter.

    Example:
        >>> model = load_adapter("runs/lora", merge=True)  # doctest: +SKIP
        >>> pipeline("image-classification", model=model, image_processor="runs/lora")  # doctest: +SKIP
    """
    with loading(folder):
        try:
            adapter: Any = peft.PeftConfig.from_pretrained(folder)
        except ValueError as error:
            raise ValueError(f"{folder} holds no adapter (adapter_config.json): was it saved with --merge?") from error
        config = AutoConfig.from_pretrained(folder)
        name = config.architectures[0]
        base_class = getattr(transformers, name, None) or getattr(modeling_data2vec, name)
        with errors_only("transformers"):  # the head is new, until it is loaded with the adapter
            base = base_class.from_pretrained(
                adapter.base_model_name_or_path, config=config, ignore_mismatched_sizes=True
            )
        model = peft.PeftModel.from_pretrained(base, folder).eval()
    return model.merge_and_unload() if merge else model


def head_modules(model: Any, fresh: Iterable[str] = ()) -> list[str]:
    """Layers outside of the encoder that have weights, and those inside of it that hold a new weight.

    Raises:
        ValueError: a weight of the head belongs to no layer, so that an adapter would not save it.
    """
    encoder = model.base_model_prefix
    trained = {name for name, _ in model.named_parameters() if not in_encoder(name, encoder)} | set(fresh)
    if loose := sorted(name for name in trained if "." not in name):
        raise ValueError(
            f"{', '.join(loose)} can't be trained beside an adapter: train the whole model, without --peft"
        )
    return sorted({name.rpartition(".")[0] for name in trained})


def linear_layers(model: nn.Module) -> list[str]:
    """Last names of the linear layers within the transformer's layers, e.g. ["fc1", "fc2", "proj", "qkv"]."""
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and LAYER.search(f"{name}.") and POSITIONS not in name
        }
    )


def _within_layers(names: list[str]) -> str:
    """A pattern of peft's for modules of these names in numbered layers, not in the head."""
    return rf".*\.(prenet|layers|layer|blocks|block|h)\.\d+\.(.*\.)?({'|'.join(names)})"


def _trained(model: nn.Module, module: str) -> bool:
    copies = [weight for name, weight in model.named_parameters() if f".{module}.modules_to_save." in f".{name}"]
    return bool(copies) and all(parameter.requires_grad for parameter in copies)
