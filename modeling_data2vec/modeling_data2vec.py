"""The base of the data2vec 1.0 pretraining models: a student and a teacher around transformers' own encoders.

Hidden positions stay in the sequence, with a mask embedding or token in their place (arXiv 2202.03555 §3.1). Nothing
of the encoders is copied: `modeling_data2vec_{audio,text,vision}.py` say how their parts are put together.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .core import Data2VecCore, StudentOutput
from .ema import Teacher
from .embedding import Embedding
from .heads import RegressionHead, at_positions
from .native_dropout import run_own_dropout


class OutputRecorder:
    """A list to which modules append their output while it records, in the order in which they run.

    Its hooks stay on the modules: a compiler can't follow hooks that come and go.
    """

    def __init__(self) -> None:
        self.outputs: list[Tensor] | None = None

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """The hook."""
        if self.outputs is not None:
            self.outputs.append(output[0] if isinstance(output, tuple) else output)

    def watch(self, modules: Sequence[nn.Module]) -> None:
        """Hook onto modules that are not watched yet."""
        for module in modules:
            if self not in module._forward_hooks.values():
                module.register_forward_hook(self)

    @contextmanager
    def recording(self) -> Iterator[list[Tensor]]:
        """Record inside the block."""
        outputs: list[Tensor] = []
        self.outputs = outputs
        try:
            yield outputs
        finally:
            self.outputs = None


@contextmanager
def in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode inside the block, so that it has no dropout, and back afterwards."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


class Data2VecEncoderForPreTraining(Data2VecCore):
    """The base of `Data2Vec{Audio,Text,Vision}ForPreTraining`, beside transformers' `Data2Vec...PreTrainedModel`.

    In the methods below, `parts` is whatever has the encoder's modules by their native names: the student's model, or
    the teacher.
    """

    teacher: Any  # the encoder's modules by their native names, as far as the teacher owns them
    teacher_modules: tuple[str, ...] = ("encoder",)  # those that a teacher has which is not a whole model

    def _build(self, encoder: nn.Module, head: nn.Module) -> None:
        """Finish the constructor after the native one: student, head, and the teacher that the config asks for."""
        run_own_dropout(encoder)
        setattr(self, self.base_model_prefix, encoder)  # type: ignore[attr-defined]
        self.head = head
        self.teacher = Teacher()
        self._feed_forward_outputs, self._layer_outputs = OutputRecorder(), OutputRecorder()  # the teacher's
        whole = tuple(name for name, _ in encoder.named_children())
        for name in whole if self.config.teacher_scope == "model" else self.teacher_modules:
            # The config stays shared, so that another attention implementation is for both.
            part = copy.deepcopy(getattr(encoder, name), {id(self.config): self.config})
            self.teacher.add_module(name, part)
        self.post_init()  # type: ignore[attr-defined]
        # Layers are the units that FSDP shards. transformers names none for speech, and embeddings as well for text,
        # inside of which accelerate shards the table of words once more.
        layers = self.target_modules(encoder.encoder, end_of_block=True)
        self._no_split_modules = {type(layer).__name__ for layer in layers}
        self.sync_teacher()

    def freeze_teacher(self) -> None:
        """Freeze the teacher, and watch its layers."""
        super().freeze_teacher()
        self._feed_forward_outputs.watch(self.target_modules(self.teacher.encoder, end_of_block=False))
        self._layer_outputs.watch(self.target_modules(self.teacher.encoder, end_of_block=True))

    def side(self, modality: str | None = None) -> Any:
        """The model itself: a native encoder has one modality."""
        return self

    # ---- what a modality adds ----

    def embed(self, inputs: Tensor, attention_mask: Tensor | None) -> Embedding:
        """Raw input before any position is hidden."""
        raise NotImplementedError

    def tokens(self, parts: Any, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Embed raw input for `encode`: tokens [B, E + T, D], E being the encoder's own extra tokens.

        `mask`, bool [B, T], says what the student may not see, where raw input and not its tokens hide it.
        """
        raise NotImplementedError

    def student_tokens(self, inputs: Tensor, embedding: Embedding, mask: Tensor) -> Tensor:
        """[B, M, T] masks to tokens [R, E + T, D] with something else at hidden positions."""
        rows = inputs.repeat_interleave(mask.shape[1], dim=0)
        return self.tokens(self.base_model, rows, mask.flatten(0, 1))

    def encode(self, parts: Any, tokens: Tensor, grid: tuple[int, ...], valid: Tensor | None) -> Tensor:
        """Tokens [R, E + T, D] to states [R, T, D]; `valid` is bool [R, T] or None."""
        raise NotImplementedError

    def target_modules(self, encoder: Any, end_of_block: bool) -> list[nn.Module]:
        """One module a layer, whose output is a target: the layer itself, or its feed-forward part."""
        raise NotImplementedError

    def teacher_tokens(
        self, inputs: Tensor, embedding: Embedding, attention_mask: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The tokens that the teacher reads, and bool [B, T], which positions of them are real."""
        if self.config.teacher_scope == "model":
            return self.tokens(self.teacher, inputs), embedding.valid
        return embedding.tokens.detach(), embedding.valid

    # ---- one step ----

    def student(
        self, inputs: Tensor, embedding: Embedding, mask: Tensor, valid: Tensor | None, **view: Any
    ) -> StudentOutput:
        batch, num_masks, _ = mask.shape
        asks = mask.device.type == "cpu" and not torch.compiler.is_compiling()  # else it would cost a synchronisation
        if asks and not mask.any():
            raise ValueError("mask hides nothing, so there is nothing to predict: raise mask_prob")
        rows_valid = None
        if embedding.valid is not None:
            rows_valid = embedding.valid.repeat_interleave(num_masks, dim=0)  # [R, T]
        tokens = self.student_tokens(inputs, embedding, mask)
        states = self.encode(self.base_model, tokens, embedding.grid, rows_valid)  # [R, T, D]
        hidden = mask.flatten(0, 1)  # [R, T]
        seen = ~hidden
        # Terms of one's own may look at other positions, too.
        some = asks and self.training and type(self.head) is RegressionHead
        some = some and type(self).build_terms is Data2VecCore.build_terms
        predictions = at_positions(self.head, states, hidden) if some else self.head(states)  # [R, T, D]
        return StudentOutput(
            predictions=predictions.unflatten(0, (batch, num_masks)),  # [B, M, T, D]
            states=states,
            visible_valid=seen if rows_valid is None else seen & rows_valid,
        )

    def run_teacher(
        self,
        inputs: Tensor,
        embedding: Embedding,
        attention_mask: Tensor | None,
        mask: Tensor | None,
        *,
        end_of_block: bool,
    ) -> list[Tensor]:
        tokens, valid = self.teacher_tokens(inputs, embedding, attention_mask, mask)
        recorder = self._layer_outputs if end_of_block else self._feed_forward_outputs
        with recorder.recording() as layers:
            # In the precision of its weights: not every norm takes half-precision input with them.
            precise = next(self.teacher.parameters()).dtype
            self.encode(self.teacher, tokens.to(precise), embedding.grid, valid)
        num_extra = layers[0].shape[1] - embedding.local_features.shape[1]
        return [layer[:, num_extra:] for layer in layers]
