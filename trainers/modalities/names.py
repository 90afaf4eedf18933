"""Which modality is meant: by its name, by a model, by the name of a batch's raw input.

Batches of paired samples count as a modality of their own, "pairs".
"""

from collections.abc import Iterable, Sequence
from typing import Any

from modeling_data2vec import Data2Vec2Config
from modeling_data2vec.auto import pretraining_class
from modeling_data2vec.cross_modal import PAIRS

from ..data.collators import MaskCollator
from ..named_values import named_value

# The package's own: importing them is what makes them known.
from .base import Modality
from .image import ImageModality as ImageModality
from .spectrogram import SpectrogramModality as SpectrogramModality
from .speech import AudioModality as AudioModality
from .text import TextModality as TextModality


def modalities() -> dict[str, type[Modality]]:
    """All kinds of data by name, sorted: the package's, and those of imported modules. The later one of a name counts.

    Raises:
        ValueError: two of them take the same input.

    Example:
        >>> list(modalities())[:2]
        ['audio', 'spectrogram']
    """
    found: dict[str, type[Modality]] = {}
    waiting = [Modality]
    for kind in waiting:
        waiting += kind.__subclasses__()
        if "name" in vars(kind):
            found[kind.name] = kind
    owners: dict[str, str] = {}
    for name, kind in found.items():
        other = owners.setdefault(kind.input_name, name)
        if other != name:
            raise ValueError(
                f"the modalities {other!r} and {name!r} both take {kind.input_name!r}: give one of them another "
                "input_name, which is its model's main_input_name"
            )
    return dict(sorted(found.items()))


def modality(model_class: Any) -> type[Modality]:
    """The kind of data of a model or model class for one modality, by the name of its main input.

    Raises:
        ValueError: it takes another kind of data, or several.

    Example:
        >>> from modeling_data2vec import Data2Vec2TextModel
        >>> modality(Data2Vec2TextModel).__name__
        'TextModality'
    """
    if model_class.config_class is Data2Vec2Config:
        raise ValueError("the model has several modalities: name one of them (--modality of the commands)")
    return modality_of_input(model_class.main_input_name)


def modality_of_input(name: str) -> type[Modality]:
    """The kind of data that is read for a main input.

    Raises:
        ValueError: there is none.

    Example:
        >>> modality_of_input("input_ids").__name__
        'TextModality'
    """
    known = {kind.input_name: kind for kind in modalities().values()}
    if name not in known:
        raise ValueError(
            f"the model takes {name!r}, but only {', '.join(known)} can be read here: name the file with its Modality "
            "by --plugin, or import it"
        )
    return known[name]


def modality_of(inputs: Iterable[str]) -> str:
    """The name of the modality of a sample or batch, by the names of its inputs.

    Raises:
        ValueError: there is no raw input, or that of several modalities.

    Example:
        >>> modality_of({"pixel_values": ..., "mask": ...})
        'vision'
    """
    names = list(inputs)
    known = {kind.input_name: name for name, kind in modalities().items()} | {PAIRS: PAIRS}
    found = [name for main_input, name in known.items() if main_input in names]
    if len(found) != 1:
        raise ValueError(f"a batch has {', '.join(names)}, but must have exactly one of {', '.join(known)}")
    return found[0]


def modalities_of(config: Any) -> tuple[str, ...]:
    """Names of all modalities of a model; that of one kind of input has one.

    Example:
        >>> from modeling_data2vec import Data2Vec2TextConfig
        >>> modalities_of(Data2Vec2TextConfig())
        ('text',)
    """
    if isinstance(config, Data2Vec2Config):
        return config.modalities
    return (modality(pretraining_class(config.model_type)).name,)


def members_of(config: Any) -> tuple[str, ...]:
    """What a model can be trained on: its modalities and, with heads for them, "pairs"."""
    pairs = (PAIRS,) if getattr(config, "cross_modal_layers", 0) else ()
    return (*modalities_of(config), *pairs)


def config_of(config: Any, member: str) -> Any:
    """The config of one modality of a model: its own part, or the whole of a model that has only this one.

    Of "pairs", which all modalities take part in, it is the whole, too.

    Raises:
        ValueError: the model does not have it.
    """
    if member not in members_of(config):
        hint = ": set cross_modal_layers (--config cross_modal_layers=1 of the command)" if member == PAIRS else ""
        raise ValueError(f"the model has the modalities {', '.join(members_of(config))}, but not {member!r}{hint}")
    return config.of(member) if isinstance(config, Data2Vec2Config) and member != PAIRS else config


def loss_weight_of(config: Any, modality: str) -> float:
    """How much the modality's mean loss weighs in that of an optimizer step."""
    return config.loss_weight(modality) if isinstance(config, Data2Vec2Config) else 1.0


def mask_collator(config: Any) -> MaskCollator:
    """The collator for a model's config: makes batches of its samples, with masks.

    Example:
        >>> from modeling_data2vec import Data2Vec2TextConfig
        >>> type(mask_collator(Data2Vec2TextConfig())).__name__
        'TextMaskCollator'
    """
    return modality(pretraining_class(config.model_type))(config).collator()


def by_modality_name(texts: Sequence[str], names: Sequence[str], option: str) -> dict[str, str]:
    """What an option says about each modality: `["audio=clips", "text=corpus.txt"]`, or one value for all.

    Args:
        texts: the option's values.
        names: the model's modalities.
        option: its name, for errors.

    Raises:
        ValueError: a modality that the model does not have, or is named twice, or several values without names.

    Example:
        >>> by_modality_name(["audio=clips", "text=a=b.txt"], ["audio", "text"], "--dataset")
        {'audio': 'clips', 'text': 'a=b.txt'}
        >>> by_modality_name(["train"], ["audio", "text"], "--split")
        {'audio': 'train', 'text': 'train'}
    """
    given: dict[str, str] = {}
    for text in texts:
        name, value = named_value(text)
        if name in modalities():
            if name not in names or name in given:
                wrong = "twice" if name in given else f"but the model has only {', '.join(names)}"
                raise ValueError(f"{option} has {text!r}, {wrong}: give each of the model's modalities at most once")
            given[name] = value
        elif len(texts) == 1:
            return dict.fromkeys(names, text)
        else:
            raise ValueError(f"{option} has {text!r} among several values: name modalities, as in {names[0]}=...")
    return given
