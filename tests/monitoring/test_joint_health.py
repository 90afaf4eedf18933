"""Whether modalities agree, and whether one pays for what is learned across them."""

import pytest
import torch
from transformers import TrainerControl, TrainerState

from modeling_data2vec.trainers import Data2VecTrainingArguments
from modeling_data2vec.trainers.monitoring.alignment import measure_alignment
from modeling_data2vec.trainers.monitoring.joint_health import rising_losses
from modeling_data2vec.trainers.monitoring.modality_logs import by_modality
from modeling_data2vec.trainers.monitoring.similarity import cka, uniformity
from modeling_data2vec.trainers.runs.callbacks import HealthCallback


def history(text_rise: float = 0.0, gain: float = 0.5, richer: float = 0.0) -> list[dict]:
    entries = []
    for step in range(10):
        late = max(0, step - 5) / 4
        own = {"audio/loss": 2.0 - 0.05 * step, "text/loss": 3.0 - 0.1 * min(step, 5) + text_rise * late}
        own |= {"audio/loss_below_constant": 0.3, "text/loss_below_constant": 0.4 - (text_rise - richer) * late / 2}
        across = {"pairs/loss": 1.0, "pairs/loss_below_constant": 0.1 + gain * late}
        entries.append({"step": 10 * step, "loss": 6.0, **own, **across})
    return entries


def test_a_modality_that_pays_is_named():
    findings = rising_losses(by_modality(history(text_rise=0.4)))
    assert list(findings) == ["text"] and "text/loss has risen from 2.5" in findings["text"]


@pytest.mark.parametrize(
    "changes", [{}, {"text_rise": 0.4, "gain": 0.0}, {"text_rise": 0.05}, {"text_rise": 0.4, "richer": 0.4}]
)
def test_a_modality_that_does_not_is_left_alone(changes):
    """Nothing rises; nothing is learned across; it rises by less than noise; or because its targets grow richer."""
    assert rising_losses(by_modality(history(**changes))) == {}


def test_it_is_said_once_and_the_run_goes_on(tmp_path):
    callback, control = HealthCallback(), TrainerControl()
    args = Data2VecTrainingArguments(str(tmp_path), use_cpu=True)
    for _ in range(2):
        callback.on_log(args, TrainerState(max_steps=100, log_history=history(text_rise=0.4)), control)
    assert callback.diagnosis is None and not control.should_training_stop
    assert len(callback.explained) == 1 and "text pays" in callback.explained


def test_alignment_is_that_of_the_evaluation():
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(12, 8, generator=generator)
    audio = text @ torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    vision = torch.randn(12, 8, generator=generator)
    figures = measure_alignment({"audio": audio, "text": text, "vision": vision})
    for name, other, expected in (("text", text, 1.0), ("vision", vision, None)):
        whole = cka(audio[None].numpy(), other[None].numpy())[0, 0]
        assert figures[f"cka_audio_{name}"] == pytest.approx(whole if expected is None else expected, abs=1e-4)
    assert figures["uniformity_text"] == pytest.approx(uniformity(text.numpy()), abs=1e-4)
    assert figures["found_by_chance"] == pytest.approx(1 / 12)
    alike = measure_alignment({"audio": text, "text": text})
    assert alike["found_audio_to_text"] == 1 and alike["cka_audio_text"] == pytest.approx(1.0)
