"""Any encoder with the reader of its data: a folder, a Hub id or a loaded model, whichever of its classes it is."""

from typing import Any

import torch
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging

from modeling_data2vec import Data2Vec2Model
from modeling_data2vec.native_audio import run_channels_last
from modeling_data2vec.weight_files import check_finite

from ..errors import first_line
from ..files.model_folders import loading
from ..logging import errors_only
from ..option_checks import wrong_choice
from ..wording import with_more
from .base import Modality
from .names import modalities, modality

# Weights of encoders that features are not made of.
NOT_IN_FEATURES = ("pooler.", "masked_spec_embed", "mask_token")

logger = logging.get_logger(__name__)


def load_encoder(
    model: str | PreTrainedModel, processor: Any = None, part: str | None = None
) -> tuple[PreTrainedModel, Modality]:
    """An encoder and the reader of its data.

    Args:
        model: folder or Hub id, which goes to the accelerator if there is one; or a model, which stays where it is. Of
            one with a head, such as a pretraining or a task model, the encoder is taken.
        processor: what makes its inputs (image processor, feature extractor or tokenizer), or a folder or Hub id with
            it; default: the model's.
        part: which modality of a joint model; others have only one.

    Raises:
        ValueError: there is no such model, it has no processor, or it has several modalities and no `part` is named.
    """
    if part is not None and part not in modalities():
        raise ValueError(wrong_choice("--modality", part, modalities()))
    name = model if isinstance(model, str) else model.name_or_path
    if processor is None and not name:
        raise ValueError("the model comes from no folder or Hub id: give its processor or tokenizer as well")
    try:
        with loading(name or type(model).__name__):
            encoder = _loaded(model) if isinstance(model, str) else model.base_model
            subfolder = ""
            if part is not None and isinstance(encoder, Data2Vec2Model):
                encoder, subfolder = encoder.slice(part), part
            kind = modality(encoder)
            if part is not None and kind.name != part:
                raise ValueError(f"--modality is {part!r}, but {name} takes {kind.name} alone: leave it out")
            if processor is None:
                processor = kind.load_processor(name, subfolder)
    except OSError as error:
        raise ValueError(
            f"--model {name!r} can't be loaded: name a folder with config.json, model.safetensors and "
            f"preprocessor_config.json or a tokenizer, or a Hub id ({error})"
        ) from error
    if isinstance(processor, str):
        processor = _processor(kind, processor)
    if isinstance(model, str) and torch.accelerator.is_available():
        encoder.to(torch.accelerator.current_accelerator())
    return encoder, kind(encoder.config, processor)


def _loaded(name: str) -> PreTrainedModel:
    """The encoder of a folder or Hub id; weights that only a head has are no news, those that lack are named."""
    with errors_only("transformers"):
        encoder, info = AutoModel.from_pretrained(name, output_loading_info=True)
    if lacking := sorted(key for key in info["missing_keys"] if not key.startswith(NOT_IN_FEATURES)):
        logger.warning(f"{name} lacks {with_more(lacking[:3], len(lacking))}: these weights are random.")
    check_finite(encoder.state_dict(), name)
    run_channels_last(encoder)
    return encoder


def _processor(kind: type[Modality], name: str) -> Any:
    try:
        with loading(name):
            return kind.load_processor(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"no processor for {kind.name} can be loaded from {name!r}: {first_line(error)}") from error


def move_to(model: PreTrainedModel, device: str | torch.device) -> None:
    """Move a model to a device.

    Raises:
        ValueError: there is no such device.
    """
    try:
        model.to(device)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"--device is {str(device)!r}, which can't be used here: {first_line(error)}") from error
