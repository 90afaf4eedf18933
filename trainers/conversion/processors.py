"""Processors of converted models: image processor, feature extractor, tokenizer."""

import json
import tempfile
from pathlib import Path
from typing import Any

from transformers import (
    AutoImageProcessor,
    RobertaTokenizer,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)
from transformers.utils import logging

from modeling_data2vec import Data2Vec2SpectrogramFeatureExtractor
from modeling_data2vec.fairseq.source import Source
from modeling_data2vec.hub_configs import recipe_folder
from modeling_data2vec.model_files import read_json, read_text

logger = logging.get_logger(__name__)

# Mean and standard deviation of log-mel values in EAT's code: of AudioSet, or by an option that names other data.
AUDIOSET = (-4.268, 4.569)
EAT_FIGURES = {"esc50_eval": (-6.627, 5.359), "spcv2_eval": (-6.846, 5.565)}
FAIRSEQ_SYMBOLS = ("<s>", "<pad>", "</s>", "<unk>")


def converted_processor(model: Any, source: Source, dictionary: str | None, bpe: list[str]) -> Any:
    """Image processor, feature extractor or tokenizer of a converted model; None for text without its files.

    Args:
        model: the model.
        source: what its file says beside its weights.
        dictionary: fairseq's dict.txt; default: what the file itself holds.
        bpe: paths of GPT-2's encoder.json and vocab.bpe, for text.

    Raises:
        ValueError: the files are not those of the model.
    """
    if model.main_input_name == "pixel_values":
        processor = AutoImageProcessor.from_pretrained(recipe_folder("data2vec2-vision-base"))
        size = model.config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        processor.size = {"height": height, "width": width}
        return processor
    if model.main_input_name == "input_features":
        return _spectrogram_extractor(source)
    symbols = read_dictionary(dictionary) if dictionary else source.dictionary
    if model.main_input_name == "input_ids":
        return _text_tokenizer(symbols, bpe, model.config.vocab_size)
    normalize = source.config.get("task", {}).get("normalize", True)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=bool(normalize), return_attention_mask=True)
    if not type(model).__name__.endswith("ForCTC"):
        return extractor
    if symbols is None:
        logger.warning("No tokenizer: the file has no dictionary. --dictionary dict.ltr.txt names its letters.")
        return extractor
    return Wav2Vec2Processor(extractor, _letters_tokenizer(symbols, model.config.vocab_size))


def _spectrogram_extractor(source: Source) -> Any:
    """EAT normalises by figures of the data set, which its file names by options of the task or of the model."""
    options = {**dict(source.config.get("task") or {}), **dict(source.config["model"])}
    mean, std = next((figures for name, figures in EAT_FIGURES.items() if options.get(name)), AUDIOSET)
    return Data2Vec2SpectrogramFeatureExtractor(mean=mean, std=std)


def read_dictionary(path: str | Path) -> list[str]:
    """Symbols of a fairseq dictionary file ("symbol count" a line), after the four that fairseq puts first.

    Raises:
        ValueError: a line has another form.
    """
    symbols = list(FAIRSEQ_SYMBOLS)
    for number, line in enumerate(read_text(path).splitlines(), 1):
        symbol, _, count = line.rpartition(" ")
        if not symbol or not count.lstrip("-").isdigit():
            raise ValueError(f"{path}, line {number}: {line!r} is not a symbol and its count, as in fairseq's dict.txt")
        symbols.append(symbol)
    return symbols


def _letters_tokenizer(symbols: list[str], vocab_size: int) -> Any:
    """fairseq's CTC takes symbol 0, <s>, for its blank; transformers calls it the padding."""
    if len(symbols) != vocab_size:
        raise ValueError(f"the dictionary has {len(symbols)} symbols, but the model names {vocab_size}: give its own")
    names = {0: "<pad>", 1: "<s>"}
    vocabulary = {names.get(index, symbol): index for index, symbol in enumerate(symbols)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.json"
        path.write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(str(path), word_delimiter_token="|", do_lower_case=False)


def _text_tokenizer(symbols: list[str] | None, bpe: list[str], vocab_size: int) -> Any:
    if not bpe:
        logger.warning("No tokenizer: --dictionary dict.txt --bpe encoder.json vocab.bpe make one.")
        return None
    if len(bpe) != 2 or symbols is None:
        raise ValueError("a text model's tokenizer needs --dictionary dict.txt and --bpe encoder.json vocab.bpe")
    token_of = {str(number): token for token, number in read_json(bpe[0]).items()}
    vocabulary = {token_of.get(symbol, symbol): index for index, symbol in enumerate(symbols)}
    vocabulary.setdefault("<mask>", len(symbols))
    if len(vocabulary) > vocab_size:
        raise ValueError(
            f"the dictionary has {len(vocabulary)} tokens with <mask>, but the model {vocab_size}: give its own"
        )
    lines = read_text(bpe[1]).splitlines()
    merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    return RobertaTokenizer(vocab=vocabulary, merges=merges)
