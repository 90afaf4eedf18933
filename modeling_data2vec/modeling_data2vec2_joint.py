"""One trunk for several modalities: the joint model of data2vec 2.0, and its pretraining class."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.output_capturing import capture_outputs

from .configuration_data2vec2_joint import Data2Vec2Config
from .core import Data2VecCore, Data2VecPreTrainingOutput, StudentTeacher
from .cross_attention import CrossAttentionPredictors
from .cross_modal import CrossModalHeads, CrossModalNorms, pair_terms, pretrain_on_pairs
from .ema import Teacher
from .length_groups import RECORDS, encode_by_length
from .masked_pairs import pretrain_on_masked_pairs
from .modeling_data2vec2 import Data2Vec2PreTrainedModel

# Imported to be known: `modality_models` finds them.
from .modeling_data2vec2_audio_pretraining import Data2Vec2AudioForPreTraining as Data2Vec2AudioForPreTraining
from .modeling_data2vec2_pretraining import modality_models, teacher_encoder
from .modeling_data2vec2_spectrogram_pretraining import (
    Data2Vec2SpectrogramForPreTraining as Data2Vec2SpectrogramForPreTraining,
)
from .modeling_data2vec2_text_pretraining import Data2Vec2TextForPreTraining as Data2Vec2TextForPreTraining
from .modeling_data2vec2_vision_pretraining import Data2Vec2VisionForPreTraining as Data2Vec2VisionForPreTraining
from .objective import Term
from .slices import slice_options, take_slice
from .specialisation import TrunkDifferences, specialised
from .student_teacher import Data2Vec2StudentTeacher
from .trunk import Data2Vec2Trunk, Differences


def only_input(**inputs: Tensor | None) -> tuple[str, Tensor]:
    """(modality, raw input) of the one input that is given.

    Raises:
        ValueError: none or several are given.
    """
    given = [name for name, value in inputs.items() if value is not None]
    if len(given) != 1:
        raise ValueError(
            f"{' and '.join(given) or 'nothing'} is given, but one call takes one of {', '.join(inputs)}: call the "
            "model once for each modality"
        )
    name, value = given[0], inputs[given[0]]
    assert value is not None
    for modality, single in modality_models().items():
        if single.main_input_name == name:
            return modality, value
    raise ValueError(f"{name} is given, but no kind of data is read from it: import the file with its model")


def other_inputs(kwargs: dict[str, Any]) -> dict[str, Tensor]:
    """Take the inputs of kinds of data from files of one's own out of further arguments."""
    names = {single.main_input_name for single in modality_models().values()}
    return {name: kwargs.pop(name) for name in [*kwargs] if name in names}


def add_parts(module: Any, config: Data2Vec2Config, feature_encoders: dict[str, nn.Module]) -> None:
    """Give student or teacher its feature encoders, the trunk, and what modalities have of their own in it."""
    module.feature_encoders = nn.ModuleDict(feature_encoders)
    module.trunk = Data2Vec2Trunk(config.trunk_config)
    names = config.modalities if specialised(config) else ()
    module.differences = nn.ModuleDict({name: TrunkDifferences(config, module.trunk) for name in names})


def own_differences(module: Any, modality: str) -> Differences | None:
    """A modality's differences to the trunk of student or teacher; None where it has none."""
    if modality not in module.differences:
        return None
    return module.differences[modality].differences_to(dict(module.trunk.named_parameters()))


class Data2Vec2JointPreTrainedModel(Data2Vec2PreTrainedModel):
    """Loading, saving and initial weights of the models with several modalities."""

    config: Data2Vec2Config
    config_class = Data2Vec2Config
    base_model_prefix = "data2vec2"
    main_input_name = "input_values"
    input_modalities = ("audio", "text", "image")
    _supports_flex_attn = False  # ALiBi is a dense bias here
    _supports_flash_attn = False

    def __init__(self, config: Data2Vec2Config):
        super().__init__(config)
        self._share_attention()

    def set_attn_implementation(self, *args: Any, **kwargs: Any) -> None:
        """Set the attention implementation of all modalities."""
        super().set_attn_implementation(*args, **kwargs)
        self._share_attention()

    def _share_attention(self) -> None:
        """transformers sets it in the configs of sub-models that are `PreTrainedModel`s; ours are plain modules."""
        self.config._attn_implementation = self.config._attn_implementation


class Data2Vec2Model(Data2Vec2JointPreTrainedModel):
    """Several modalities' feature encoders and the trunk that they share, without any head.

    Example:
        >>> import torch
        >>> from modeling_data2vec import Data2Vec2TextConfig
        >>> text = Data2Vec2TextConfig(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64)
        >>> model = Data2Vec2Model(Data2Vec2Config(text_config=text))
        >>> model(input_ids=torch.tensor([[0, 17, 42, 2]])).last_hidden_state.shape
        torch.Size([1, 4, 64])
    """

    # A pretraining checkpoint also holds these; the bare encoder does without.
    _keys_to_ignore_on_load_unexpected = [r"^teacher\.", r"^head\.", r"^cross_"]  # noqa: RUF012

    def __init__(self, config: Data2Vec2Config):
        super().__init__(config)
        singles = modality_models()
        encoders: dict[str, nn.Module] = {
            name: singles[name].feature_encoder_class(config.of(name)) for name in config.modalities
        }
        add_parts(self, config, encoders)
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, modality: str | None = None, **kwargs: Any) -> Any:
        """Load the model, or with `modality` only that part of it: a `Data2Vec2AudioModel`, `...SpectrogramModel`,
        `...TextModel` or `...VisionModel`, whose trunk holds what is the modality's own.

        Raises:
            ValueError: the model does not have the modality.
        """
        if modality is None:
            return super().from_pretrained(*args, **kwargs)
        singles = modality_models()
        if modality not in singles:
            raise ValueError(f"modality is {modality!r}, but must be one of {', '.join(singles)}")
        return singles[modality].encoder_class.from_pretrained(*args, **kwargs)

    @classmethod
    def part_options(cls, single: Any, name: str, **options: Any) -> dict[str, Any]:
        """Options with which the class of a single model loads its part of a checkpoint of this one."""
        return slice_options(single, name, **options)

    def slice(self, modality: str) -> Any:
        """A copy of one modality's part, as `from_pretrained` with `modality` gives it, in eval mode.

        Raises:
            ValueError: the model does not have the modality.
        """
        config = deepcopy(self.config.of(modality))  # says which modalities there are
        single = modality_models()[modality].encoder_class(config)
        owner, base = self.base_model_prefix, single.base_model_prefix
        tensors = ((f"{owner}.{key}", value.detach().float().cpu) for key, value in self.state_dict().items())
        weights = take_slice(tensors, self.config, modality, base)
        single.load_state_dict({key.removeprefix(f"{base}."): value for key, value in weights.items()})
        return single.to(self.device, self.dtype).eval()

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Encode clips, texts, images or spectrograms; exactly one of the four is given.

        Args:
            input_values: [B, samples] at 16 kHz, as `Data2Vec2AudioModel`'s.
            input_ids: int64 [B, T], as `Data2Vec2TextModel`'s.
            pixel_values: [B, channels, height, width], as `Data2Vec2VisionModel`'s.
            input_features: [B, frames, mel bins], as `Data2Vec2SpectrogramModel`'s.
            attention_mask: [B, samples], [B, T] or [B, frames], 1 at real, 0 at padded input; None where nothing is
                padded.
            output_hidden_states, output_attentions: also return those of every layer, the prenet's first. The input of
                a kind of data from a file of one's own is given by its name.

        Returns:
            `last_hidden_state` [B, E + T, D]; `pooler_output` [B, D], the mean of the real positions.
        """
        name, inputs = only_input(
            input_values=input_values,
            input_ids=input_ids,
            pixel_values=pixel_values,
            input_features=input_features,
            **other_inputs(kwargs),
        )
        self.config.of(name)  # says which modalities there are
        differences = own_differences(self, name)
        for record in RECORDS:  # the modality's config does not say it
            kwargs.setdefault(record, getattr(self.config, record))
        return encode_by_length(
            self.feature_encoders[name], self.trunk, inputs, attention_mask, differences=differences, **kwargs
        )


class JointTeacher(Teacher):
    """The averaged copy: trunk and differences, and those feature encoders that the modalities' scopes ask for."""

    def __init__(self, config: Data2Vec2Config):
        super().__init__()
        encoders: dict[str, nn.Module] = {}
        for name in config.modalities:
            own = teacher_encoder(config.of(name), modality_models()[name].feature_encoder_class)
            if own is not None:
                encoders[name] = own
        add_parts(self, config, encoders)


class Data2Vec2ForPreTraining(Data2VecCore, Data2Vec2JointPreTrainedModel):
    """data2vec 2.0 pretraining of one trunk on several modalities: one student and teacher, a decoder for each.

    A call takes a batch of one modality; `Data2VecTrainer` mixes them within an optimizer step.

    Example:
        >>> import torch
        >>> from modeling_data2vec import Data2Vec2TextConfig
        >>> from modeling_data2vec.masking import random_mask
        >>> text = Data2Vec2TextConfig(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64)
        >>> model = Data2Vec2ForPreTraining(Data2Vec2Config(text_config=text))
        >>> masks = random_mask(2 * 4, 32, 0.48, generator=torch.Generator().manual_seed(0))
        >>> model(input_ids=torch.randint(4, 100, (2, 32)), mask=masks.view(2, 4, -1)).loss.shape
        torch.Size([])
    """

    teacher: JointTeacher
    _keep_in_fp32_modules_strict = {"teacher", "cross_norms"}  # both are averages  # noqa: RUF012
    # A checkpoint from before there were such statistics: heads get what they got then.
    _keys_to_ignore_on_load_missing = [r"^cross_norms\."]  # noqa: RUF012

    def __init__(self, config: Data2Vec2Config):
        super().__init__(config)
        self.data2vec2 = Data2Vec2Model(config)
        singles = {name: modality_models()[name] for name in config.modalities}
        self.head = nn.ModuleDict(
            {name: single.decoder_class(config.of(name), single.num_axes) for name, single in singles.items()}
        )
        self.teacher = JointTeacher(config)
        if config.cross_modal_layers:
            self.cross_modal = CrossModalHeads(config)
            self.cross_norms = CrossModalNorms(config)
        if config.cross_attention_layers:
            self.cross_attention = CrossAttentionPredictors(config)
        self.post_init()
        self.sync_teacher()

    def side(self, modality: str | None = None) -> StudentTeacher:
        """Student and teacher of a modality."""
        assert modality is not None
        self.config.of(modality)  # says which modalities there are
        student: Any = self.data2vec2
        teacher: Any = self.teacher
        return Data2Vec2StudentTeacher(
            student.feature_encoders[modality],
            student.trunk,
            self.head[modality],
            dict(teacher.feature_encoders.items()).get(modality),
            teacher.trunk,
            own_differences(student, modality),
            own_differences(teacher, modality),
        )

    def build_pair_terms(self) -> list[Term]:
        """List the terms of the loss of paired samples; override it to add, drop or weight terms."""
        return pair_terms(self.config)

    def forward(
        self,
        input_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        input_features: Tensor | None = None,
        mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        ids_keep: Tensor | None = None,
        noise_keys: Tensor | None = None,
        mask_noise: Tensor | None = None,
        pairs: Mapping[str, Mapping[str, Tensor | None]] | None = None,
        return_loss: bool = True,
        **others: Tensor,
    ) -> Data2VecPreTrainingOutput:
        """Compute the loss of one batch of one kind of input; exactly one of the four is given, or `pairs`.

        The arguments are those of the modality's single model, e.g. `Data2Vec2AudioForPreTraining`; `mask` is required.
        Instead of all of them, `pairs` has samples of several modalities each (`cross_modal.pretrain_on_pairs`; with
        `cross_attention_layers`, `masked_pairs.pretrain_on_masked_pairs`).
        `others` is the input of a kind of data from a file of one's own, by its name.
        """
        if pairs is not None:
            pretrain = pretrain_on_masked_pairs if self.config.cross_attention_layers else pretrain_on_pairs
            return pretrain(self, pairs, return_loss)
        name, inputs = only_input(
            input_values=input_values,
            input_ids=input_ids,
            pixel_values=pixel_values,
            input_features=input_features,
            **others,
        )
        view: dict[str, Any] = {"ids_keep": ids_keep, "noise_keys": noise_keys, "mask_noise": mask_noise}
        return self.pretrain(inputs, mask, attention_mask, return_loss, name, **view)
