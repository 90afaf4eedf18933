"""Callbacks of the training loop: the teacher's average, health, probes and the progress bar."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_utils import SaveStrategy
from transformers.utils import logging

from modeling_data2vec import Data2VecPreTrainingConfig

from ..data.finiteness import REMEDIES
from ..modalities.names import config_of, modalities_of
from ..monitoring.health import diagnose, undefined_figures
from ..monitoring.joint_health import rising_losses
from ..monitoring.modality_logs import by_modality
from ..monitoring.trackers import alert
from .arguments import BaseTrainingArguments, Data2VecTrainingArguments
from .schedules import has_stages, stages_of

logger = logging.get_logger(__name__)


class EMATeacherCallback(TrainerCallback):
    """Moves the teacher once after each optimizer step, whatever the number of accumulated micro-batches.

    `teacher = τ(u) teacher + (1 - τ(u)) student`, u = finished optimizer steps (arXiv 2202.03555 eq. 1). τ depends on u
    alone, so nothing has to be saved. It runs on `on_optimizer_step`, so that a checkpoint holds student and teacher of
    the same step, and skips steps that the optimizer skipped (fp16 overflow).

    With `warmup_stable_decay`, τ is a function of the stage: it rises with the learning rate, from `ema_decay` to
    `ema_end_decay`, and stays for as long as the run goes on. Else, of a config that was given no decay, it follows a
    run that is too short for the default one.
    """

    def __init__(self) -> None:
        self.decay: float | None = None

    def on_train_begin(
        self, args: Data2VecTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        config = kwargs["model"].config
        if has_stages(args):
            warmup = args.get_warmup_steps(state.max_steps)
            for name in modalities_of(config):
                config_of(config, name).ema_anneal_end_step = warmup
            logger.info(f"The teacher's decay rises with the learning rate, for {warmup:,} steps, and then stays.")
        elif isinstance(config, Data2VecPreTrainingConfig) and config.follow_run(state.max_steps):
            logger.warning(
                f"The teacher's decay follows the run of {state.max_steps:,} steps, since the config was given none: "
                f"ema_decay {config.ema_decay:.4g}, ema_end_decay {config.ema_end_decay:.4g}, ema_anneal_end_step "
                f"{config.ema_anneal_end_step:,}."
            )

    def on_optimizer_step(
        self, args: Data2VecTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not getattr(kwargs.get("optimizer"), "step_was_skipped", False):
            self.decay = kwargs["model"].update_teacher(state.global_step + 1)


class StableStageCallback(TrainerCallback):
    """Saves a checkpoint where the stable stage of `warmup_stable_decay` ends: a longer run can go on from there."""

    def on_step_end(
        self, args: BaseTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        stages = stages_of(args, state.max_steps)
        if stages and state.global_step == stages.stable_end and args.save_strategy != SaveStrategy.NO:
            control.should_save = True


class EpochCallback(TrainerCallback):
    """Tells data sets and batch samplers which epoch begins, so that crops, masks and order are new in each.

    Args:
        listeners: those without `set_epoch` are not told.
    """

    def __init__(self, *listeners: Any) -> None:
        self.listeners = [one for one in listeners if hasattr(one, "set_epoch")]

    def on_epoch_begin(
        self, args: Data2VecTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for listener in self.listeners:
            listener.set_epoch(int(round(state.epoch or 0.0, 6)))


class HealthCallback(TrainerCallback):
    """Judges the run at each log; a collapsed one is saved and stopped, and `diagnosis` says why.

    Of a figure that is NaN it says once what that means, and of a modality whose own loss rises while what is predicted
    across modalities improves, that it does; neither stops the run.
    """

    def __init__(self) -> None:
        self.diagnosis: str | None = None
        self.explained: set[str] = set()

    def on_log(
        self, args: Data2VecTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        start = args.health_start_step
        if start is None:
            start = max(50, args.get_warmup_steps(state.max_steps))
        histories = by_modality(state.log_history)
        diagnoses = (
            diagnose(history, start_step=start, patience=args.health_patience, modality=name)
            for name, history in histories.items()
        )
        was_well = self.diagnosis is None
        self.diagnosis = " ".join(filter(None, diagnoses)) or None
        if self.diagnosis and was_well:
            alert(args, self.diagnosis)
        if self.diagnosis and args.stop_on_collapse:
            control.should_save = True
            control.should_training_stop = True
        elif self.diagnosis:
            logger.warning(self.diagnosis)
        for modality, finding in rising_losses(histories).items():
            self._say_once(
                f"{modality} pays",
                f"The run's {modality} part pays for what is learned across modalities: "
                f"{finding}. Try a smaller cross_modal_weight, fewer pairs in the mix, or norms and layers of its own "
                "(modality_norms, modality_ffn_layers); the run goes on.",
            )
        if not self.diagnosis:  # of a diverged run many figures are NaN, and the diagnosis says why
            self._explain(histories)

    def _explain(self, histories: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
        for modality, history in histories.items():
            for figure, why in undefined_figures(history[-1] if history else {}).items():
                name = f"{modality}/{figure}" if modality else figure
                self._say_once(
                    name, f"{name} is NaN at step {history[-1]['step']}: {why}. It is not judged where it is."
                )

    def _say_once(self, name: str, text: str) -> None:
        if name not in self.explained:
            logger.warning(text)
            self.explained.add(name)


class DivergenceCallback(TrainerCallback):
    """Stops a run whose logged loss is no number; `diagnosis` says so. Such weights are not saved."""

    def __init__(self) -> None:
        self.diagnosis: str | None = None

    def on_log(self, args: BaseTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        loss = (kwargs.get("logs") or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            self.diagnosis = f"The run diverged: the loss is {loss} at step {state.global_step}. {REMEDIES}"
            alert(args, self.diagnosis)
            control.should_training_stop = True
            control.should_save = control.should_evaluate = False


class ProbeCallback(TrainerCallback):
    """Runs a probe of the frozen features every `every` optimizer steps and logs what it returns.

    Args:
        probe: takes the model, returns figures to log, e.g. `{"probe_linear": 0.81}`; none are not logged.
        log: where they go, usually `trainer.log`.
        every: optimizer steps between two probes; it also runs at the last step.
    """

    def __init__(
        self, probe: Callable[[Any], dict[str, float]], log: Callable[[dict[str, float]], None], every: int
    ) -> None:
        self.probe, self.log, self.every = probe, log, every

    def on_step_end(
        self, args: Data2VecTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        due = state.global_step % self.every == 0 or state.global_step == state.max_steps
        if due and (figures := self.probe(kwargs["model"])):
            due_log = control.should_log
            self.log(figures)
            control.should_log = due_log  # transformers takes any log for that of the step, which is still to come


class HealthProgressCallback(ProgressCallback):
    """A progress bar that carries the figures that matter, instead of printing every log."""

    SHOWN = (
        ("loss", "loss", "{:.3g}"),
        ("loss_below_constant", "below constant", "{:.0%}"),
        ("teacher_student_cosine", "cosine", "{:.2f}"),
        ("student_rank", "rank", "{:.1f}"),
        ("feature_encoder_rank", "encoder rank", "{:.1f}"),
        ("probe_linear", "linear probe", "{:.1%}"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.shown: dict[str, str] = {}

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        if not (state.is_world_process_zero and isinstance(self.training_bar, tqdm) and logs):
            return
        self.shown |= {label: form.format(logs[name]) for name, label, form in self.SHOWN if name in logs}
        self.training_bar.set_postfix(self.shown)
