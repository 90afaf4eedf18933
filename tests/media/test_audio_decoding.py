"""Recordings of any kind become one channel at one rate, whole or in part; broken ones say what is wrong."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from recordings import ENCODERS, tone, voice, write

from modeling_data2vec.trainers.data.samples import UnreadableError
from modeling_data2vec.trainers.media.audio_decoding import audio_duration, decode_audio, stream_audio

FORMATS = [".wav", ".flac", ".ogg", *ENCODERS]
# Voices of telephone prompts; a package of Debian has them.
PROMPTS = sorted(Path("/usr/share/asterisk/sounds/en_US_f_Allison").glob("*.g722"))


def rate_of(suffix: str) -> int:
    return ENCODERS[suffix][2] if suffix in ENCODERS else 16_000


def similarity(x: np.ndarray, y: np.ndarray) -> float:
    """Correlation over what both have; a shift by a few samples shows in it."""
    length = min(len(x), len(y))
    return float(np.corrcoef(x[:length], y[:length])[0, 1])


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_sound_at_its_place(tmp_path, suffix):
    rate = rate_of(suffix)
    path = write(tmp_path / f"clip{suffix}", voice(4, rate), rate)
    waveform = decode_audio(path)
    assert waveform.dtype == np.float32 and waveform.ndim == 1
    assert abs(len(waveform) - 64_000) < 800  # some codecs fill up their last frame
    delay = 22 if suffix == ".g722" else 0  # of its filters, which its files don't tell
    assert similarity(waveform[delay:], voice(4)) > 0.98
    assert np.array_equal(decode_audio({"bytes": path.read_bytes(), "path": path.name}), waveform)
    assert audio_duration(path) == pytest.approx(4, abs=0.05)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_bytes_need_no_name(tmp_path, suffix):
    path = write(tmp_path / f"clip{suffix}", voice(1))
    for value in (path.read_bytes(), {"bytes": path.read_bytes(), "path": None}, str(path)):
        assert np.array_equal(decode_audio(value), decode_audio(path))


def test_lossless_files_are_not_changed(tmp_path):
    samples = np.round(voice(1) * 2**15) / 2**15
    for suffix in (".wav", ".flac"):
        assert np.array_equal(decode_audio(write(tmp_path / f"clip{suffix}", samples)), samples.astype(np.float32))


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("wanted", [8_000, 16_000])
def test_a_tone_keeps_its_pitch_and_loudness(tmp_path, rate, wanted):
    waveform = decode_audio(write(tmp_path / "tone.wav", tone(1_000, 2, rate), rate), wanted)
    assert len(waveform) == pytest.approx(2 * wanted, abs=2)
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    assert np.argmax(spectrum) * wanted / len(waveform) == pytest.approx(1_000, abs=1)
    assert np.std(waveform[1000:-1000]) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)


def test_what_a_lower_rate_cannot_hold_is_filtered_not_folded(tmp_path):
    waveform = decode_audio(write(tmp_path / "high.wav", tone(11_000, 1, 44_100), 44_100))
    assert np.std(waveform[1000:-1000]) < 1e-3


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_channels_are_averaged(tmp_path, rate):
    left, right = voice(1, rate), tone(300, 1, rate)
    stereo = decode_audio(write(tmp_path / "stereo.flac", np.stack([left, right], axis=1), rate))
    mono = decode_audio({"array": (left + right) / 2, "sampling_rate": rate})
    np.testing.assert_allclose(stereo, mono, atol=1e-4)


@pytest.mark.parametrize("suffix", FORMATS)
def test_segments_equal_slices_of_the_whole(tmp_path, suffix):
    rate = rate_of(suffix)
    path = write(tmp_path / f"long{suffix}", voice(6, rate), rate)
    whole = decode_audio(path, rate)
    for start, end in ((0.0, 1.0), (2.21, 3.5), (4.345, None), (None, 1.5), (5.5, 6.4)):
        part = decode_audio(path, rate, start=start, end=end)
        expected = whole[round((start or 0) * rate) : None if end is None else round(end * rate)]
        if suffix == ".webm":  # knows times to a millisecond only
            assert abs(len(part) - len(expected)) <= rate // 500
            shifts = range(0, rate // 500, 4)
            assert max(max(similarity(part[s:], expected), similarity(part, expected[s:])) for s in shifts) > 0.99
        else:
            np.testing.assert_allclose(part, expected, atol=1e-6)
        resampled = decode_audio(path, start=start, end=end)
        assert len(resampled) == pytest.approx(len(part) * 16_000 / rate, abs=2)


def test_a_segment_of_a_long_file_is_read_alone(tmp_path):
    """What stands after it may be broken."""
    data = write(tmp_path / "long.flac", voice(30)).read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) // 2])
    part = decode_audio(tmp_path / "cut.flac", start=2.0, end=3.0)
    np.testing.assert_allclose(part, voice(3)[32_000:], atol=1e-4)
    with pytest.raises(UnreadableError):
        decode_audio(tmp_path / "cut.flac")


def test_arrays_with_a_sampling_rate():
    samples = voice(1, 8_000)
    expected = decode_audio({"array": samples, "sampling_rate": 8_000})
    assert len(expected) == 16_000
    for array in (samples.tolist(), samples.astype(np.float64), samples[None], np.stack([samples] * 2, axis=1)):
        np.testing.assert_allclose(decode_audio({"array": array, "sampling_rate": 8_000}), expected, atol=1e-6)
    whole = (samples * 2**15).astype(np.int16)
    np.testing.assert_allclose(decode_audio({"array": whole, "sampling_rate": 8_000}), expected, atol=1e-4)
    part = decode_audio({"array": samples, "sampling_rate": 8_000}, 8_000, start=0.25, end=0.5)
    assert np.array_equal(part, samples[2_000:4_000])


@pytest.mark.parametrize("rate", [None, 0, -16_000, "16k"])
def test_arrays_with_no_true_sampling_rate_are_errors(rate):
    with pytest.raises(ValueError, match="sampling_rate .*, but must have one in Hz") as error:
        decode_audio({"array": [0.0, 1.0], "sampling_rate": rate})
    assert not isinstance(error.value, UnreadableError)  # a fault of the whole source, not of one clip


@pytest.mark.parametrize("values", [[1j, 0j], ["a", "b"], [True, False]])
def test_arrays_of_other_things_than_numbers_are_errors(values):
    """The imaginary part was dropped without a word."""
    with pytest.raises(ValueError, match="an array holds .*, but must hold floats or whole numbers"):
        decode_audio({"array": np.array(values), "sampling_rate": 16_000})


def test_tensors_of_any_kind_are_read():
    wave = torch.sin(torch.arange(1_600) / 5)
    for value in (wave.requires_grad_(), wave.bfloat16()):
        read = decode_audio({"array": value, "sampling_rate": 16_000})
        np.testing.assert_allclose(read, wave.detach().numpy(), atol=0.005)


def test_bare_arrays_are_errors():
    with pytest.raises(ValueError, match='list, but must be .* an array with its sampling rate: {"array"'):
        decode_audio([0.0, 1.0])


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.wav", b"", "the file is empty: get it again"),
        ("text.mp3", b"this is not a recording" * 20, "cannot be decoded: Invalid data found"),
        ("header.wav", b"RIFF", "cannot be decoded"),
        ("page.ogg", b"OggS" + bytes(100), "cannot be decoded"),
    ],
)
def test_what_is_no_recording_is_unreadable(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    for value in (tmp_path / name, {"bytes": data, "path": name}):
        with pytest.raises(UnreadableError, match=message):
            decode_audio(value)
        with pytest.raises(UnreadableError, match=message):
            audio_duration(value)


@pytest.mark.parametrize("value", [None, {"bytes": None, "path": None}, {"bytes": None, "path": ""}])
def test_nothing_is_unreadable(value):
    with pytest.raises(UnreadableError, match="the dataset holds no audio here"):
        decode_audio(value)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UnreadableError, match="cannot be opened: No such file"):
        decode_audio(tmp_path / "missing.wav")
    with pytest.raises(UnreadableError, match="cannot be opened: Is a directory"):
        decode_audio(tmp_path)
    with pytest.raises(UnreadableError, match="addresses are not read; download the files"):
        decode_audio("https://example.org/clip.wav")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_recording_without_samples_is_unreadable(tmp_path, suffix):
    path = write(tmp_path / f"none{suffix}", np.zeros(0, np.float32), rate_of(suffix))
    with pytest.raises(UnreadableError):
        decode_audio(path)


@pytest.mark.parametrize("suffix", [".flac", ".m4a"])
def test_truncated_files_are_unreadable(tmp_path, suffix):
    data = write(tmp_path / f"whole{suffix}", voice(5, rate_of(suffix)), rate_of(suffix)).read_bytes()
    with pytest.raises(UnreadableError):
        decode_audio({"bytes": data[: len(data) // 2], "path": f"half{suffix}"})


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".ogg", ".webm"])
def test_of_others_the_beginning_is_used(tmp_path, suffix):
    """These formats don't say reliably how long they should be."""
    rate = rate_of(suffix)
    data = write(tmp_path / f"whole{suffix}", voice(5, rate), rate).read_bytes()
    waveform = decode_audio({"bytes": data[: len(data) // 2], "path": f"half{suffix}"})
    assert 0.5 < len(waveform) / 16_000 < 3.5
    assert similarity(waveform, voice(5)) > 0.98


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_values_that_are_no_sound_are_unreadable(value):
    samples = voice(1)
    samples[100] = value
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    with pytest.raises(UnreadableError, match="NaN, infinite or absurdly large"):
        decode_audio(file.getvalue())


@pytest.mark.parametrize("suffix", [".wav", ".m4a"])
def test_segments_that_are_none(tmp_path, suffix):
    path = write(tmp_path / f"clip{suffix}", voice(2, rate_of(suffix)), rate_of(suffix))
    with pytest.raises(UnreadableError, match="ends before 5.0 seconds, where the segment starts"):
        decode_audio(path, start=5.0, end=6.0)
    for start, end in ((1.0, 0.5), (1.0, 1.0), (-1.0, 1.0), (0.0, -1.0)):
        with pytest.raises(UnreadableError, match=f"from {start} to {end} seconds is none"):
            decode_audio(path, start=start, end=end)


def test_a_film_without_sound(tmp_path):
    import av

    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(32, 32, "rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(UnreadableError, match="holds no sound"):
        decode_audio(tmp_path / "film.mp4")


@pytest.mark.skipif(not PROMPTS, reason="asterisk-core-sounds-en-g722 is not installed")
def test_recorded_speech():
    for path in PROMPTS[:20]:
        waveform = decode_audio(path)
        assert len(waveform) == pytest.approx(audio_duration(path) * 16_000, abs=2)
        assert len(waveform) == pytest.approx(path.stat().st_size * 2, abs=2)  # 4 bits a sample
        assert 0.001 < np.std(waveform) < 0.5 and np.abs(waveform).max() <= 1


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_stream_is_the_whole_in_pieces(tmp_path, suffix):
    rate = rate_of(suffix)
    path = write(tmp_path / f"clip{suffix}", voice(4.3, rate), rate)
    for value in (path, {"bytes": path.read_bytes(), "path": path.name}):
        pieces = list(stream_audio(value))
        assert len(pieces) >= 4 and max(map(len, pieces)) <= 2 * 16_000 and min(map(len, pieces)) > 0
        np.testing.assert_allclose(np.concatenate(pieces), decode_audio(path), atol=2e-4)


def test_a_stream_of_channels_and_of_an_array(tmp_path):
    stereo = np.stack([voice(2), voice(2, seed=1)], axis=1)
    whole = np.concatenate(list(stream_audio(write(tmp_path / "stereo.flac", stereo))))
    np.testing.assert_allclose(whole, stereo.mean(1), atol=1e-4)
    (piece,) = stream_audio({"array": voice(1, 8_000), "sampling_rate": 8_000})
    assert np.array_equal(piece, decode_audio({"array": voice(1, 8_000), "sampling_rate": 8_000}))


def test_faults_of_streams_are_those_of_files(tmp_path):
    empty = write(tmp_path / "empty.wav", np.zeros(0, np.float32))
    broken = tmp_path / "broken.mp3"
    broken.write_bytes(b"no sound at all")
    nan = tmp_path / "nan.wav"
    soundfile.write(nan, np.array([0.0, np.nan, 0.0]), 16_000, subtype="FLOAT")
    for path in (empty, broken, nan, tmp_path / "absent.wav"):
        with pytest.raises(UnreadableError) as of_file:
            decode_audio(path)
        with pytest.raises(UnreadableError) as of_stream:
            list(stream_audio(path))
        assert str(of_stream.value) == str(of_file.value)


@pytest.mark.skipif(not PROMPTS, reason="real prompts: apt-get install -y asterisk-core-sounds-en-g722")
def test_real_prompts_as_streams():
    for path in PROMPTS[:20]:
        np.testing.assert_allclose(np.concatenate(list(stream_audio(path))), decode_audio(path), atol=1e-6)
