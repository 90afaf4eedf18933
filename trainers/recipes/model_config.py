"""A recipe's model config: what the folder has, with changes by name, for one modality or several."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from modeling_data2vec import Data2Vec2Config

from ..option_checks import check_keys

Values = Mapping[str, Any]


def build_config(config_class: Any, values: Values, changes: Values, where: str) -> Any:
    """The config of `values`, as a `config.json` has them, and changes.

    Of a joint model, `audio.num_masks` changes a field of one modality, and a name that is no field of the joint config
    itself changes that field in all modalities.

    Args:
        config_class: the model's.
        values: fields, without `model_type`; of a joint model `audio_config` and so on hold those of a modality.
        changes: by name.
        where: what to name the values by in errors.

    Raises:
        ValueError: a name is no field of the config.
        StrictDataclassError: values don't go together.
    """
    if config_class is not Data2Vec2Config:
        return config_class(**_merged(config_class, values, changes, where))
    parts = {
        key.removesuffix("_config"): value for key, value in values.items() if value and key in config_class.sub_configs
    }
    own_names = changeable(config_class) - config_class.sub_configs.keys()
    own = {name: value for name, value in changes.items() if name in own_names}
    for_parts: dict[str, dict[str, Any]] = {name: {} for name in parts}
    for name, value in changes.items():
        modality, dot, key = name.partition(".")
        if dot and modality in parts:
            for_parts[modality][key] = value
        elif name not in own:
            in_all = set.intersection(*(changeable(config_class.sub_configs[f"{part}_config"]) for part in parts))
            check_keys([name], in_all | own_names | {f"{part}.NAME" for part in parts}, config_class.__name__)
            for part in for_parts.values():
                part.setdefault(name, value)
    configs = {}
    for name, part_values in parts.items():
        part_class = config_class.sub_configs[f"{name}_config"]
        plain = {key: value for key, value in part_values.items() if key != "model_type"}
        merged = _merged(part_class, plain, for_parts[name], f"{where}, {name}_config")
        try:
            configs[f"{name}_config"] = part_class(**merged)
        except StrictDataclassError as error:
            raise ValueError(f"{name}: {error}") from error
    rest = {key: value for key, value in values.items() if key not in config_class.sub_configs}
    check_keys(rest, {entry.name for entry in fields(config_class)}, where)
    return config_class(**configs, **(rest | own))


def changeable(config_class: Any) -> set[str]:
    """Fields of a config beside those that all of transformers' have."""
    return {entry.name for entry in fields(config_class)} - {entry.name for entry in fields(PreTrainedConfig)}


def _merged(config_class: Any, values: Values, changes: Values, where: str) -> dict[str, Any]:
    known = {entry.name for entry in fields(config_class)}
    # transformers' own configs also save what they compute.
    check_keys(values, known | config_class().to_dict().keys(), where)
    check_keys(changes, changeable(config_class), config_class.__name__)
    return {**values, **changes}
