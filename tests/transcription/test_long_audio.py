"""Long recordings in windows: every frame once, with context; equal to the whole where that is one window."""

import random

import numpy as np
import pytest
import soundfile
import spoken_digits
import torch
from hypothesis import given
from hypothesis import strategies as st
from recordings import voice, write

from modeling_data2vec.trainers.data.samples import UnreadableError
from modeling_data2vec.trainers.media.audio_decoding import decode_audio
from modeling_data2vec.trainers.modalities.speech import AudioModality
from modeling_data2vec.trainers.transcription.long_audio import FrameGrid, LongAudio, Loudness, cut, plan_windows
from modeling_data2vec.trainers.transcription.run import SpeechRecognizer

FAMILIES = ["2.0", "1.0"]


@pytest.fixture(scope="module", params=FAMILIES)
def recogniser(request, tmp_path_factory):
    processor = spoken_digits.processor(tmp_path_factory.mktemp("processor"))
    return SpeechRecognizer(spoken_digits.recogniser(request.param), processor.feature_extractor, processor.tokenizer)


def whole(recogniser: SpeechRecognizer, path) -> torch.Tensor:
    """Logits of the whole recording, as anyone gets them from transformers."""
    inputs = recogniser.feature_extractor(decode_audio(path), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        return recogniser.model(inputs["input_values"]).logits[0]


@given(st.integers(1, 400), st.integers(1, 60), st.integers(0, 29))
def test_windows_cover_every_frame_once_with_context_on_both_sides(num_frames, length, overlap):
    if 2 * overlap >= length:
        with pytest.raises(ValueError, match=f"overlap of {overlap} frames .* window of {length}"):
            plan_windows(num_frames, length, overlap)
        return
    windows = plan_windows(num_frames, length, overlap)
    kept = [frame for window in windows for frame in range(window.keep_start, window.keep_stop)]
    assert kept == list(range(num_frames))
    for window in windows:
        assert window.stop - window.start == min(length, num_frames)
        assert window.keep_start - window.start >= overlap or window.start == window.keep_start == 0
        assert window.stop - window.keep_stop >= overlap or window.stop == window.keep_stop == num_frames


def test_the_grid_is_that_of_the_models_own_count():
    for model in (spoken_digits.recogniser("2.0"), spoken_digits.recogniser("1.0")):
        grid = FrameGrid(*AudioModality(model.config).frame_window())
        assert grid.hop == model.config.inputs_to_logits_ratio
        for samples in (grid.field, 1000, 16_000, 16_001, 12_345):
            frames = model(torch.randn(1, samples)).logits.shape[1]
            assert grid.num_frames(samples) == frames
            first, last = grid.span(0, frames)
            assert first == 0 and last <= samples < last + grid.hop
        assert grid.num_frames(grid.field - 1) == 0
    assert model.config.num_conv_pos_embeddings  # transformers' config, which has no num_frames


@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=20), st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)))
)
def test_parts_of_a_stream_are_slices_of_the_whole(sizes, spans):
    total = sum(sizes)
    stream = np.arange(total, dtype=np.float32)
    spans = [(first, first + size) for first, size in sorted(spans) if first + size <= total]
    parts = cut(np.split(stream, np.cumsum(sizes)[:-1]), spans)
    assert [part.tolist() for part in parts] == [stream[first:last].tolist() for first, last in spans]


def test_a_stream_that_ends_early_says_so():
    with pytest.raises(UnreadableError, match="became shorter"):
        list(cut([np.zeros(5, np.float32)], [(0, 6)]))


def test_loudness_is_that_of_the_whole():
    sound = 1000 + np.random.default_rng(0).standard_normal(10_000)
    loudness = Loudness.of(np.split(sound, [1, 10, 5000]))
    assert (loudness.num_samples, loudness.mean) == (10_000, pytest.approx(sound.mean(), abs=1e-9))
    assert loudness.std == pytest.approx(sound.std(), rel=1e-6)


@pytest.mark.parametrize("seconds", [0.1, 1.0, 3.999])
def test_one_window_is_the_whole(recogniser, tmp_path, seconds):
    path = write(tmp_path / "clip.wav", voice(seconds))
    (logits,) = recogniser.logits([path], chunk_seconds=4, overlap_seconds=1)
    torch.testing.assert_close(logits, whole(recogniser, path), rtol=0, atol=1e-4)


def test_long_recordings_differ_from_the_whole_by_their_lack_of_context_alone(recogniser, tmp_path):
    """Random weights attend everywhere, so this is the worst case; docs/transcription.md has a trained model."""
    path = write(tmp_path / "long.flac", voice(21.3))
    expected = whole(recogniser, path)
    errors = []
    for overlap in (0.0, 0.5, 2.0):
        (logits,) = recogniser.logits([path], chunk_seconds=8, overlap_seconds=overlap)
        assert logits.shape == expected.shape
        errors.append(float((logits - expected).abs().mean() / expected.std()))
    assert errors[2] < errors[0] < 0.1


def test_context_that_a_model_does_not_use_makes_no_difference(tmp_path):
    """Frames that see little, convolutions alone: windows equal the whole, bit for bit but for rounding."""
    torch.manual_seed(0)
    first = torch.nn.Conv1d(1, 8, 80, 20)
    second = torch.nn.Conv1d(8, 8, 16, 16)
    wide = torch.nn.Conv1d(8, 4, 11, padding=5)  # five frames on each side

    def forward(inputs, real):
        assert real is None
        with torch.no_grad():
            return wide(second(first(inputs[:, None]))).transpose(1, 2)

    grid = FrameGrid(hop=320, field=380)  # of kernels of 80 and 16 and strides of 20 and 16
    path = write(tmp_path / "long.wav", voice(10.01))
    settings = {"chunk_seconds": 2.0, "batch_size": 3}
    (expected,) = LongAudio(forward, grid, chunk_seconds=60).logits([path])
    (enough,) = LongAudio(forward, grid, overlap_seconds=0.1, **settings).logits([path])
    torch.testing.assert_close(enough, expected, rtol=0, atol=1e-5)
    (lacking,) = LongAudio(forward, grid, overlap_seconds=0.08, **settings).logits([path])
    differs = (lacking - expected).abs().amax(1) > 1e-4
    assert 0 < differs.sum() <= 2 * 6  # one frame on each side of the seams between six windows


def test_batches_change_nothing(recogniser, tmp_path):
    """Recordings and windows of many lengths, together and alone."""
    sounds = {"a.wav": 0.7, "b.flac": 9.4, "c.wav": 2.0, "d.ogg": 2.0, "e.mp3": 5.1}
    paths = [
        write(tmp_path / name, voice(seconds, rate, seed), rate)
        for seed, (name, seconds) in enumerate(sounds.items())
        for rate in [44_100 if name.endswith("mp3") else 16_000]
    ]
    windows = {"chunk_seconds": 3, "overlap_seconds": 0.5}
    alone = [logits for path in paths for logits in recogniser.logits([path], **windows, batch_size=1)]
    together = list(recogniser.logits(paths, **windows, batch_size=4))
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_broken_recordings_stand_in_their_place(recogniser, tmp_path):
    good = write(tmp_path / "good.wav", voice(1))
    (tmp_path / "broken.wav").write_bytes(b"RIFF no sound")
    cut_short = tmp_path / "cut.flac"
    cut_short.write_bytes(write(tmp_path / "long.flac", voice(9)).read_bytes()[:50_000])
    short = write(tmp_path / "short.wav", voice(0.01))
    paths = [tmp_path / "broken.wav", good, cut_short, short, good]
    first, one, second, third, two = recogniser.logits(paths, chunk_seconds=2, overlap_seconds=0.5)
    assert torch.equal(one, two)
    assert "cannot be decoded" in str(first) and "cut short: 2.56 of" in str(second) and "too short" in str(third)


def test_memory_does_not_grow_with_the_recording(tmp_path):
    """The longest input that the model sees, and the longest piece of the stream, are a window and a second."""
    path = write(tmp_path / "long.wav", np.tile(voice(1), 120))
    seen = []

    def forward(inputs, real):
        seen.append(inputs.shape)
        return torch.zeros(len(inputs), (inputs.shape[1] - 400) // 320 + 1, 3)

    audio = LongAudio(forward, FrameGrid(320, 400), chunk_seconds=10, overlap_seconds=1, batch_size=2)
    (logits,) = audio.logits([path])
    assert logits.shape == ((120 * 16_000 - 400) // 320 + 1, 3)
    assert max(rows * samples for rows, samples in seen) <= 2 * 160_000


def test_wrong_settings_are_named():
    grid = FrameGrid(320, 400)
    with pytest.raises(ValueError, match="overlap_seconds must be 0 or more and less than half of chunk_seconds"):
        LongAudio(len, grid, chunk_seconds=10, overlap_seconds=5)
    with pytest.raises(ValueError, match="batch_size is 0"):
        LongAudio(len, grid, batch_size=0)
    audio = LongAudio(lambda inputs, real: torch.zeros(1, 7, 3), grid)
    with pytest.raises(ValueError, match="gives 7 frames, where its convolutions make 49"):
        list(audio.logits([{"array": np.ones(16_000), "sampling_rate": 16_000}]))


def test_real_digits_in_a_row(recogniser, tmp_path):
    sound, _ = spoken_digits.digits(random.Random(0), 12)
    soundfile.write(tmp_path / "digits.wav", sound, 16_000)
    (logits,) = recogniser.logits([tmp_path / "digits.wav"], chunk_seconds=60)
    torch.testing.assert_close(logits, whole(recogniser, tmp_path / "digits.wav"), rtol=0, atol=2e-4)
