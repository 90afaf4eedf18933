"""One modality's part of a joint checkpoint, as weights of its single model."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from .configuration_data2vec2_joint import Data2Vec2Config
from .model_files import names_in_index, reading_weights
from .modeling_data2vec2 import HUB_OPTIONS
from .specialisation import TrunkDifferences, specialised
from .trunk import Data2Vec2Trunk


def slice_options(single: Any, name: str, **options: Any) -> dict[str, Any]:
    """Options for `from_pretrained` of a single model's class, with which it loads its modality's part of a checkpoint.

    Of the checkpoint only the modality's weights are read, and its differences are added to the trunk's.

    Args:
        single: the class, which says its modality.
        name: folder or Hub id of a checkpoint with several modalities.
        options: those that the class was called with.

    Returns:
        `config` and `state_dict`, and what else there is in `options`.

    Raises:
        ValueError: the checkpoint does not have the modality.
        OSError: it has no safetensors.
    """
    hub = {option: options.pop(option) for option in HUB_OPTIONS if option in options}
    joint = Data2Vec2Config.from_pretrained(name, **hub)
    joint.of(single.modality)  # says which modalities there are
    config = options.pop("config", None)
    if config is None:
        about_loading = {key: options.pop(key) for key in ("output_loading_info",) if key in options}
        config, rest = single.config_class.from_pretrained(name, return_unused_kwargs=True, **hub, **options)
        options = {key: value for key, value in options.items() if key in rest} | about_loading
    weights = read_slice(name, joint, single.modality, single.base_model_prefix, hub)
    return options | {"config": config, "state_dict": weights}


def read_slice(name: str, config: Data2Vec2Config, modality: str, base: str, hub: dict[str, Any]) -> dict[str, Tensor]:
    """A modality's weights of a joint checkpoint, under the names of its single model; nothing else is read.

    Args:
        name: folder or Hub id.
        config: the checkpoint's.
        modality: "audio", "spectrogram", "text" or "vision".
        base: the single model's `base_model_prefix`.
        hub: how to reach the Hub: `revision`, `token` and so on.
    """

    def stored() -> Iterator[tuple[str, Callable[[], Tensor]]]:
        for file in checkpoint_files(name, hub):
            with reading_weights(file), safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 (it is no dict)
                    yield key, partial(tensors.get_tensor, key)

    return take_slice(stored(), config, modality, base)


def take_slice(
    tensors: Iterable[tuple[str, Callable[[], Tensor]]], config: Data2Vec2Config, modality: str, base: str
) -> dict[str, Tensor]:
    """A modality's weights out of those of a joint model, under the names of its single model.

    Args:
        tensors: names in the joint model, and what gives the weight.
        config: the joint model's.
        modality, base: as in `read_slice`.
    """
    weights: dict[str, Tensor] = {}
    differences: dict[str, dict[str, Tensor]] = {}
    for key, get in tensors:
        part, target = sliced_name(key, modality, base)
        if part == "differences":
            owner, _, own = target.partition(" ")
            differences.setdefault(owner, {})[own] = get()
        elif target:
            weights[target] = get()
    for owner, values in differences.items():
        add_differences(config, values, weights, f"{owner}.trunk.")
    return weights


def sliced_name(key: str, modality: str, base: str) -> tuple[str, str]:
    """Find a joint model's weight in the modality's single model: (kind, name), or ("", "") if it is not there.

    Differences go to no weight of their own: their name is the trunk's owner and what they are called in
    `TrunkDifferences`, with a space between.

    Example:
        >>> sliced_name("data2vec2.feature_encoders.text.embed_norm.bias", "text", "data2vec2_text")
        ('weight', 'data2vec2_text.feature_encoder.embed_norm.bias')
        >>> sliced_name("teacher.differences.text.full.norm_bias", "text", "data2vec2_text")
        ('differences', 'teacher full.norm_bias')
        >>> sliced_name("head.vision.proj.bias", "text", "data2vec2_text")
        ('', '')
    """
    if key.startswith(f"head.{modality}."):
        return "weight", "head." + key.removeprefix(f"head.{modality}.")
    owner, _, rest = key.partition(".")
    owner = {Data2Vec2Config.model_type: base, "teacher": "teacher"}.get(owner, "")
    if owner and rest.startswith("trunk."):
        return "weight", f"{owner}.{rest}"
    if owner and rest.startswith(f"feature_encoders.{modality}."):
        return "weight", f"{owner}.feature_encoder.{rest.removeprefix(f'feature_encoders.{modality}.')}"
    if owner and rest.startswith(f"differences.{modality}."):
        return "differences", f"{owner} {rest.removeprefix(f'differences.{modality}.')}"
    return "", ""


def add_differences(config: Data2Vec2Config, own: dict[str, Tensor], weights: dict[str, Tensor], trunk: str) -> None:
    """Replace the trunk's weights, whose names begin with `trunk`, by the modality's."""
    assert specialised(config)
    differences = TrunkDifferences(config, Data2Vec2Trunk(config.trunk_config))
    differences.load_state_dict(own)
    shared = {key.removeprefix(trunk): value for key, value in weights.items() if key.startswith(trunk)}
    for key, difference in differences.differences_to(shared).items():
        weights[trunk + key] = (shared[key] + difference).detach()


def checkpoint_files(name: str, hub: dict[str, Any]) -> list[str]:
    """The safetensors of a checkpoint, in one or several files.

    Raises:
        OSError: it has none.
    """
    quiet: dict[str, Any] = {"_raise_exceptions_for_missing_entries": False}
    whole = cached_file(name, SAFE_WEIGHTS_NAME, **hub, **quiet)
    if whole is not None:
        return [whole]
    index = cached_file(name, SAFE_WEIGHTS_INDEX_NAME, **hub, **quiet)
    if index is None:
        raise OSError(f"{name} has no {SAFE_WEIGHTS_NAME}: its weights are missing, or are pickles, which can run code")
    return [str(cached_file(name, shard, **hub)) for shard in names_in_index(Path(index))]
