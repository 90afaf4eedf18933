"""The log-mel front-end of speech: Kaldi's numbers, any precision and rate, files, long recordings, and training."""

import pytest
import torch
from joint_models import CONFIGS
from recordings import voice, write
from tiny_runs import DECODER, NO_DROPOUT_2, SIZES, WAVE, tiny_samples
from torch import Tensor
from transformers import Wav2Vec2FeatureExtractor

from modeling_data2vec import (
    Data2Vec2AudioConfig,
    Data2Vec2AudioForCTC,
    Data2Vec2AudioForPreTraining,
    Data2Vec2AudioModel,
    Data2Vec2SpectrogramFeatureExtractor,
)
from modeling_data2vec.auto import TASKS
from modeling_data2vec.fairseq.data2vec2_config import config_to_fairseq
from modeling_data2vec.log_mel import LogMel
from modeling_data2vec.merging import merge_models
from modeling_data2vec.modeling_data2vec2_audio_tasks import Data2Vec2AudioForTask
from modeling_data2vec.modeling_data2vec2_pretraining import modality_models
from modeling_data2vec.trainers import Data2VecTrainer, Data2VecTrainingArguments
from modeling_data2vec.trainers.export.exportable import exportable
from modeling_data2vec.trainers.export.run import FILES, largest_difference
from modeling_data2vec.trainers.export.run import write as write_file
from modeling_data2vec.trainers.modalities.speech import AudioModality
from modeling_data2vec.trainers.transcription.long_audio import FrameGrid, LongAudio

POSITIONS = {name: WAVE[name] for name in WAVE if "pos" in name}
FIELDS = SIZES | DECODER | NO_DROPOUT_2 | POSITIONS | {"front_end": "log_mel", "num_mel_bins": 20, "mask_length": 3}


def tiny(model_class=Data2Vec2AudioForPreTraining, **changes):
    torch.manual_seed(0)
    return model_class(Data2Vec2AudioConfig(**(FIELDS | changes)))


def clips(count: int = 2, seconds: float = 0.5, rate: int = 16_000) -> Tensor:
    waves = torch.stack([torch.from_numpy(voice(seconds, rate, seed)) for seed in range(count)])
    return (waves - waves.mean(1, keepdim=True)) / waves.std(1, keepdim=True)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
def test_it_is_kaldis_filter_bank(rate):
    waves = clips(1, rate=rate)
    waves[:, 1_000:3_000] = 0  # digital silence is at the floor in both
    extractor = Data2Vec2SpectrogramFeatureExtractor(feature_size=40, sampling_rate=rate, do_normalize=False)
    expected = torch.as_tensor(extractor.log_mel(waves[0]))  # [frames, mel bins]
    found = LogMel(40, rate)(waves)[0].reshape(-1, 40)
    assert len(expected) - 2 < len(found) <= len(expected) and len(found) % 2 == 0
    torch.testing.assert_close(found, expected[: len(found)], rtol=0, atol=5e-4)
    standardized = LogMel(40, rate, mean=0.5, std=4.0)(waves)[0].reshape(-1, 40)
    torch.testing.assert_close(standardized, (found - 0.5) / 4)


def test_frames_are_those_that_the_config_counts():
    config = Data2Vec2AudioConfig(front_end="log_mel")
    front_end = LogMel(config.num_mel_bins, config.sampling_rate)
    for samples in (560, 879, 880, 16_000, 16_001):
        assert front_end(torch.randn(1, samples)).shape[1] == config.num_frames(samples)
    assert AudioModality(config).frame_window() == (320, 560) and config.inputs_to_logits_ratio == 320
    assert config.receptive_field == 560 and config.num_frames(559) == 0


def test_it_stays_in_fp32_in_any_model(tmp_path):
    model = tiny().eval()
    model.save_pretrained(tmp_path)
    assert not any("log_mel" in name for name in model.state_dict())
    waves, expected = clips(), model.base_model.feature_encoder.log_mel(clips())
    for half in (Data2Vec2AudioModel.from_pretrained(tmp_path, dtype=torch.bfloat16), model.base_model.half()):
        front_end = half.feature_encoder.log_mel
        assert front_end.transform.dtype == torch.float32 and torch.equal(front_end(waves), expected)
        assert half.dtype != torch.float32
        states = half.eval()(waves.to(half.dtype)).last_hidden_state
        assert states.dtype == half.dtype and states.isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(front_end(waves), expected)
    in_double = LogMel(40, 16_000).double()(clips().double())
    torch.testing.assert_close(in_double.float(), LogMel(40, 16_000)(clips()), rtol=0, atol=1e-3)


def test_loaded_it_gives_the_same(tmp_path):
    model = tiny().eval()
    model.save_pretrained(tmp_path)
    again = Data2Vec2AudioForPreTraining.from_pretrained(tmp_path).eval()
    assert torch.equal(again(clips()).loss, model(clips()).loss)
    assert again.config.to_dict() == model.config.to_dict() | {"_name_or_path": str(tmp_path)}


@pytest.mark.parametrize("format", ["onnx", pytest.param("torch", marks=pytest.mark.slow)])
def test_files_for_clips_of_any_length(format, tmp_path):
    one = exportable(tiny(Data2Vec2AudioForCTC, vocab_size=11))
    run = write_file(one, tmp_path / FILES[format])
    assert largest_difference(one, run, ((1, 16), (1, 31), (3, 20))) < 1e-4


def test_it_compiles_without_a_break():
    model = tiny(Data2Vec2AudioModel).eval()
    torch.testing.assert_close(
        torch.compile(model, backend="eager", fullgraph=True)(clips()).last_hidden_state,
        model(clips()).last_hidden_state,
    )


def test_windows_of_a_long_recording_give_what_the_whole_gives(tmp_path):
    """With a front-end alone, no frame sees beyond its window: only rounding may differ."""
    front_end = LogMel(20, 16_000, std=4.0)
    path, grid = write(tmp_path / "long.wav", voice(3.3)), FrameGrid(320, 560)
    options = {"grid": grid, "pads": True, "overlap_seconds": 0.1, "batch_size": 2}
    (whole,) = LongAudio(lambda waves, _: front_end(waves), **options).logits([str(path)])
    (joined,) = LongAudio(lambda waves, _: front_end(waves), chunk_seconds=1.0, **options).logits([str(path)])
    assert len(whole) == grid.num_frames(round(3.3 * 16_000))
    torch.testing.assert_close(joined, whole, rtol=0, atol=1e-4)


def test_a_run_of_sixty_steps_learns(tmp_path):
    model = tiny(ema_decay=0.99, ema_end_decay=0.999)
    arguments = Data2VecTrainingArguments(
        output_dir=str(tmp_path), max_steps=60, learning_rate=3e-3, per_device_train_batch_size=8, use_cpu=True,
        logging_steps=10, save_strategy="no", report_to="none",
    )  # fmt: skip
    trainer = Data2VecTrainer(model, arguments, train_dataset=tiny_samples(model, 45))
    before = {name: value.clone() for name, value in model.base_model.feature_encoder.named_buffers()}
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in model.base_model.feature_encoder.named_buffers())
    assert not model.base_model.feature_encoder.log_mel.transform.requires_grad


def test_in_a_joint_model_and_as_a_slice_of_it(tmp_path):
    own = CONFIGS["audio"].to_dict() | {"front_end": "log_mel"}
    configs = CONFIGS | {"audio": Data2Vec2AudioConfig.from_dict(own)}
    torch.manual_seed(0)
    models = {name: modality_models()[name](config) for name, config in configs.items()}
    joint = merge_models(models, "audio").eval()
    joint.save_pretrained(tmp_path)
    part = Data2Vec2AudioModel.from_pretrained(tmp_path).eval()
    expected = models["audio"].eval().base_model(clips()).last_hidden_state
    torch.testing.assert_close(part(clips()).last_hidden_state, expected)


def test_the_feature_extractor_must_have_its_rate():
    config = tiny(sampling_rate=8_000).config
    assert AudioModality.default_processor(config).sampling_rate == 8_000
    other = AudioModality(config, Wav2Vec2FeatureExtractor(sampling_rate=16_000), {})
    with pytest.raises(ValueError, match="sampling_rate is 16000, but the model's log-mel front-end is made for 8000"):
        other.align(new_model=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling_rate": 500}, "sampling_rate is 500, but must be from 1,000 to 96,000"),
        ({"num_mel_bins": 300}, "num_mel_bins is 300, but must be at most 256"),
        ({"mel_std": 0.0}, "mel_std above 0"),
        ({"front_end": "mfcc"}, "front_end"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(Exception, match=message):
        tiny(**changes)


def test_it_can_not_be_written_for_fairseq():
    with pytest.raises(ValueError, match="front_end is 'log_mel', which the authors' code can't have"):
        config_to_fairseq(tiny().config)


HEADS = [model_class for _, model_class in TASKS if issubclass(model_class, Data2Vec2AudioForTask)]


@pytest.mark.parametrize("model_class", HEADS, ids=lambda one: one.__name__)
def test_every_head_gives_the_same_alone_and_padded(model_class):
    own = {"tdnn_dim": [16, 16], "tdnn_kernel": [3, 3], "tdnn_dilation": [1, 2], "xvector_output_dim": 8}
    model = tiny(model_class, num_labels=3, vocab_size=9, **own).eval()
    waves = clips(2)
    mask = torch.ones(2, waves.shape[1], dtype=torch.long)
    waves[1, 5_000:], mask[1, 5_000:] = 0, 0
    with torch.no_grad():
        together, alone = model(waves, attention_mask=mask), model(waves[1:, :5_000])
    for name in ("logits", "embeddings"):
        if name in alone:
            expected = alone[name][0]
            torch.testing.assert_close(together[name][1][: len(expected)], expected, rtol=0, atol=1e-4)


def test_without_values_it_has_shapes():
    """As where the cost of a step is counted."""
    with torch.device("meta"):
        assert LogMel(40, 16_000)(torch.empty(2, 16_000)).shape == (2, 49, 80)
