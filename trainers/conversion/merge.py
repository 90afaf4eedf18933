"""A joint model of single ones, from folder to folder: what `data2vec merge` does."""

from pathlib import Path
from typing import Any

from transformers.utils import logging

from modeling_data2vec.auto import pretraining_class_of
from modeling_data2vec.merging import AVERAGE, merge_models
from modeling_data2vec.weight_files import check_finite

from ..files.model_folders import loading
from ..files.output_checks import check_output_folder
from ..files.writing import new_folder
from ..modalities.names import modalities, modality
from ..option_checks import require_choice
from ..recipes.parts import check_keys
from .options import MergeOptions

# Of `Data2Vec2Config`, besides the modalities' configs, which are the models'.
OWN_FIELDS = ("loss_weights", "modality_norms", "modality_lora_rank", "modality_ffn_layers", "cross_modal_layers")

logger = logging.get_logger(__name__)


def merge(sources: dict[str, str], options: MergeOptions, config: dict[str, Any]) -> Any:
    """Build a joint pretraining model and save it, each modality's processor in a sub-folder of its name.

    Args:
        sources: folder or Hub id of a pretraining model by modality.
        options: where to, and whose trunk.
        config: fields of `Data2Vec2Config`.

    Returns:
        The joint model.

    Raises:
        ValueError: a source can't be loaded, the models don't go together, or the folder exists already.
    """
    require_choice(options, "trunk", [AVERAGE, *modalities()])
    output = Path(options.output_dir)
    if output.exists():
        raise ValueError(f"--output_dir {output} exists already: choose another, or remove it")
    check_output_folder(output)
    check_keys(config, OWN_FIELDS, "--config of a joint model")
    models, processors = {}, {}
    for name, source in sources.items():
        try:
            with loading(source):
                models[name] = pretraining_class_of(source).from_pretrained(source)
                check_finite(models[name].state_dict(), source)
        except OSError as error:
            raise ValueError(f"{name}={source} can't be loaded: {str(error).splitlines()[0]}") from error
        try:
            processors[name] = modality(models[name]).load_processor(source)
        except (OSError, ValueError):
            logger.warning(f"{source} has no processor or tokenizer: {output / name} will have none either.")
    joint = merge_models(models, options.trunk, **config)
    with new_folder(output) as unfinished:
        joint.save_pretrained(unfinished)
        for name, processor in processors.items():
            processor.save_pretrained(unfinished / name)
    return joint
