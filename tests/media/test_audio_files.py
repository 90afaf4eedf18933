"""Recordings as the world writes them: unusual, unfinished and damaged files give their sound, or say what is wrong."""

import gc
import io
import struct
import time
import wave
from contextlib import suppress

import av
import numpy as np
import pytest
import soundfile
from recordings import ENCODERS, tone, voice, write
from scipy.signal import correlate

from modeling_data2vec.trainers.data.samples import UnreadableError
from modeling_data2vec.trainers.media import audio_decoding
from modeling_data2vec.trainers.media.audio_decoding import audio_duration, decode_audio, stream_audio
from modeling_data2vec.trainers.media.ffmpeg_audio import FfmpegReader

RATE = 16_000


def similarity(x: np.ndarray, y: np.ndarray) -> float:
    length = min(len(x), len(y))
    return float(np.corrcoef(x[:length], y[:length])[0, 1])


def best_shift(part: np.ndarray, whole: np.ndarray) -> tuple[int, float]:
    """Where a part lies in the whole, and how similar it is there."""
    products = correlate(whole, part, mode="valid", method="fft")
    shift = int(products.argmax())
    return shift, similarity(part, whole[shift:])


def encoded(samples: np.ndarray, kind: str, subtype: str | None = None, endian: str = "FILE") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=kind, subtype=subtype, endian=endian)
    return file.getvalue()


def wav(samples: np.ndarray, rate: int = RATE, channels: int = 1, size: int | None = None) -> bytes:
    """16 bits, with whatever the header is told to say."""
    data = np.round(samples * 32767).astype("<i2").tobytes()
    fields = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * 2 & 0xFFFFFFFF, channels * 2 & 0xFFFF, 16)
    end = b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", 28 + len(end)) + b"WAVEfmt " + fields + end


def decoded_everywhere(data: bytes) -> np.ndarray:
    """A file as a whole, which a stream of it must equal."""
    waveform = decode_audio(data)
    np.testing.assert_allclose(np.concatenate(list(stream_audio(data))), waveform, atol=2e-4)
    return waveform


# ---- formats ----

SUBTYPES = [
    ("WAV", "PCM_U8", 0.999),
    ("WAV", "PCM_16", 0.9999),
    ("WAV", "PCM_24", 0.9999),
    ("WAV", "PCM_32", 0.9999),
    ("WAV", "FLOAT", 0.9999),
    ("WAV", "DOUBLE", 0.9999),
    ("WAV", "ULAW", 0.999),
    ("WAV", "ALAW", 0.999),
    ("WAV", "IMA_ADPCM", 0.99),
    ("WAV", "MS_ADPCM", 0.99),
    ("WAV", "GSM610", 0.9),
    ("WAVEX", "PCM_16", 0.9999),
    ("RF64", "PCM_16", 0.9999),
    ("W64", "PCM_16", 0.9999),
    ("AIFF", "PCM_16", 0.9999),
    ("AIFF", "PCM_S8", 0.999),
    ("AIFF", "FLOAT", 0.9999),
    ("AU", "PCM_16", 0.9999),
    ("AU", "ULAW", 0.999),
    ("CAF", "PCM_16", 0.9999),
    ("CAF", "ALAC_16", 0.9999),
    ("NIST", "PCM_16", 0.9999),
    ("FLAC", "PCM_24", 0.9999),
    ("OGG", "VORBIS", 0.98),
    ("OGG", "OPUS", 0.98),
    ("MP3", "MPEG_LAYER_III", 0.98),
]


@pytest.mark.parametrize(("kind", "subtype", "least"), SUBTYPES, ids=lambda value: str(value))
def test_every_coding_gives_the_sound(kind, subtype, least):
    data = encoded(voice(2), kind, subtype)
    waveform = decoded_everywhere(data)
    assert len(waveform) == pytest.approx(32_000, abs=600) and similarity(waveform, voice(2)) > least
    assert np.std(waveform) == pytest.approx(np.std(voice(2)), rel=0.1)
    assert audio_duration(data) == pytest.approx(len(waveform) / RATE, abs=0.05)
    part = decode_audio(data, start=0.5, end=1.25)
    assert len(part) == 12_000 and similarity(part, waveform[8_000:]) > 0.98  # Opus has two decoders


@pytest.mark.parametrize(
    ("kind", "subtype", "endian"),
    [
        *(("WAV", "PCM_16", "BIG"), ("WAV", "FLOAT", "BIG"), ("AIFF", "PCM_16", "LITTLE"), ("AIFF", "PCM_16", "BIG")),
        *(("CAF", "PCM_16", "LITTLE"), ("CAF", "FLOAT", "BIG"), ("AU", "PCM_16", "LITTLE")),
    ],
)
def test_both_byte_orders(kind, subtype, endian):
    data = encoded(voice(1), kind, subtype, endian)
    assert kind != "WAV" or data.startswith(b"RIFX")
    np.testing.assert_allclose(decoded_everywhere(data), voice(1), atol=1e-4)


def test_the_standard_librarys_wav():
    file = io.BytesIO()
    with wave.open(file, "wb") as opened:
        opened.setnchannels(1)
        opened.setsampwidth(2)
        opened.setframerate(RATE)
        opened.writeframes(np.round(voice(1) * 32767).astype("<i2").tobytes())
    np.testing.assert_allclose(decode_audio(file.getvalue()), voice(1), atol=1e-4)


def test_floats_beyond_one_are_kept():
    np.testing.assert_allclose(decode_audio(encoded(voice(1) * 5, "WAV", "FLOAT")), voice(1) * 5, atol=1e-6)


def test_tags_in_any_encoding_do_not_matter(tmp_path):
    data = write(tmp_path / "clip.mp3", voice(2, 44_100), 44_100).read_bytes()
    text = b"\x03caf\xe9\xff"  # says UTF-8, and is not
    frame = b"TIT2" + len(text).to_bytes(4, "big") + b"\0\0" + text
    tagged = b"ID3\x03\0\0" + bytes([0, 0, 0, len(frame)]) + frame + data
    assert np.array_equal(decode_audio(tagged), decode_audio(data))
    assert audio_duration(tagged) == pytest.approx(2, abs=0.1)
    assert len(list(stream_audio(tagged))) >= 2


def test_no_list_of_addresses_is_followed(tmp_path):
    """A playlist is no recording, whatever it is called."""
    for text in ("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.mp3\n#EXT-X-ENDLIST\n",):
        for value in (text.encode(), tmp_path / "list.mp3"):
            (tmp_path / "list.mp3").write_text(text)
            with pytest.raises(UnreadableError):
                decode_audio(value)


# ---- unfinished and cut ----


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 10**9, 64_001])
def test_the_size_in_a_header_may_be_wrong(size, caplog):
    data = wav(voice(2), size=size)
    np.testing.assert_allclose(decoded_everywhere(data), voice(2), atol=1e-4)
    np.testing.assert_allclose(decode_audio(data, start=0.5, end=1.0), voice(2)[8_000:16_000], atol=1e-4)
    assert audio_duration(data) == pytest.approx(2, abs=0.01)
    assert ("is cut short: 2.00 of 31250.00 seconds are left" in caplog.text) == (size == 10**9)


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU", "RF64"])
def test_of_a_cut_file_the_beginning_is_used_with_a_warning(tmp_path, kind, caplog):
    data = encoded(voice(4), kind, "PCM_16")
    path = tmp_path / f"half.{kind}"
    path.write_bytes(data[: len(data) // 2])
    for _ in range(2):
        waveform = decode_audio(path)
    assert len(waveform) == pytest.approx(32_000, abs=60)
    np.testing.assert_allclose(waveform, voice(4)[: len(waveform)], atol=1e-4)
    assert caplog.text.count(f"{path} is cut short: 2.00 of 4.00 seconds are left") == (kind != "RF64")


def test_a_segment_beyond_the_end_says_so(tmp_path, caplog):
    path = write(tmp_path / "clip.wav", voice(2))
    assert len(decode_audio(path, start=1.0, end=2.5)) == 16_000
    assert f"{path}: of the segment from 1.0 to 2.5 seconds, only 1.00 could be read" in caplog.text
    with pytest.raises(UnreadableError, match="0.0 to 2000 seconds, only 2.00 could be read: are start and end in"):
        decode_audio(path, start=0.0, end=2_000)  # milliseconds
    caplog.clear()
    decode_audio(path, start=1.0, end=2.1)  # a rounding of the table's
    assert not caplog.text


# ---- damaged ----


def damaged(data: bytes, length: int = 400) -> bytes:
    middle = len(data) // 2
    return data[:middle] + b"\xaa" * length + data[middle + length :]


@pytest.mark.parametrize(
    ("suffix", "least", "word"),
    [
        (".mp3", 3.9, "damaged"),
        (".m4a", 3.8, "damaged"),
        (".flac", 4.0, "damaged"),
        (".ogg", 2.8, "damaged"),  # a page is lost whole, which lasts about a second
        (".opus", 2.9, "damaged"),
        (".webm", 2.0, "cut short"),  # all of it is one cluster
    ],
)
def test_what_is_damaged_is_left_out_with_a_warning(tmp_path, suffix, least, word, caplog):
    rate = ENCODERS[suffix][2] if suffix in ENCODERS else RATE
    whole = write(tmp_path / f"whole{suffix}", voice(4, rate), rate)
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(damaged(whole.read_bytes()))
    waveform = decode_audio(path)
    assert least * RATE <= len(waveform) <= 4.1 * RATE and np.abs(waveform).max() <= 1
    assert best_shift(waveform[2_000:14_000], decode_audio(whole))[1] > 0.98
    shift, likeness = best_shift(waveform[-10_000:-4_000], decode_audio(whole))
    assert likeness > 0.98 and shift >= len(waveform) - 10_000  # what follows has come nearer
    np.testing.assert_allclose(np.concatenate(list(stream_audio(path))), waveform, atol=2e-3)
    assert caplog.text.count(f"{path} is {word}: ") == 1
    caplog.clear()
    decode_audio(whole)
    assert not caplog.text


def test_of_a_damaged_mp3_all_else_is_used(tmp_path, caplog):
    whole = write(tmp_path / "whole.mp3", voice(4, 44_100), 44_100)
    path = tmp_path / "damaged.mp3"
    path.write_bytes(damaged(whole.read_bytes()))
    lost = (len(decode_audio(whole)) - len(decode_audio(path))) / RATE
    assert 0 < lost < 0.15
    assert f"{path} is damaged: {lost:.2f} of 4." in caplog.text
    after = decode_audio(path, start=3.0, end=3.5)  # the place in the recording, in spite of what is missing before
    shift, likeness = best_shift(after, decode_audio(whole))
    assert likeness > 0.98 and shift == pytest.approx(48_000, abs=1_000)


def test_what_is_mostly_damaged_is_unreadable(tmp_path):
    data = bytearray(write(tmp_path / "clip.m4a", voice(4, 22_050), 22_050).read_bytes())
    begin = data.index(b"mdat") + 4
    data[begin : begin + (len(data) - begin) * 2 // 3] = np.random.default_rng(0).bytes((len(data) - begin) * 2 // 3)
    with pytest.raises(UnreadableError):
        decode_audio(bytes(data))


# ---- headers that lie ----


@pytest.mark.parametrize("rate", [0, 1, 999, 768_001, 4_000_000_000])
def test_impossible_rates_are_refused_at_once(rate):
    data = wav(voice(2), rate=rate)
    started = time.process_time()
    for read in (decode_audio, audio_duration, lambda value: list(stream_audio(value))):
        with pytest.raises(UnreadableError):
            read(data)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("channels", [0, 1025, 65_535])
def test_impossible_numbers_of_channels_are_refused(channels):
    with pytest.raises(UnreadableError):
        decode_audio(wav(voice(1), channels=channels))


def test_a_kilobyte_that_claims_ten_hours():
    data = encoded(voice(2), "FLAC")[:4_000]
    samples = 36_000 * RATE
    # 36 bits of the stream's description, after 108 others
    described = int.from_bytes(data[8:26], "big") & ~((1 << 36) - 1) | samples
    lying = data[:8] + described.to_bytes(18, "big") + data[26:]
    with pytest.raises(UnreadableError):
        decode_audio(lying)


# ---- channels ----


@pytest.mark.parametrize("offset", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["exact", "with noise", "four channels"])
def test_opposite_phase_is_refused(kind, offset):
    sound, rng = voice(3), np.random.default_rng(0)
    noise = rng.standard_normal((2, len(sound))) * 0.05 * np.std(sound) if kind == "with noise" else np.zeros((2, 1))
    channels = np.stack([sound + noise[0], -sound + noise[1]], axis=1) + offset
    data = encoded(np.tile(channels, 2) if kind == "four channels" else channels, "WAV", "PCM_16")
    for read in (decode_audio, lambda value: list(stream_audio(value))):
        with pytest.raises(UnreadableError, match="opposite phase and cancel each other out: keep one of them"):
            read(data)
    array = {"array": channels, "sampling_rate": RATE}
    with pytest.raises(UnreadableError, match="opposite phase"):
        decode_audio(array)


@pytest.mark.parametrize(
    "gains",
    [(1, 1), (1, 0), (0, 1), (1, -0.5), (1, 0.01), (1, 0, 0, 0, 0, 0, 0, 0)],
    ids=str,
)
def test_other_channels_are_averaged(gains):
    channels = voice(2)[:, None] * np.array(gains, np.float32)
    np.testing.assert_allclose(decode_audio(encoded(channels, "WAV", "FLOAT")), channels.mean(1), atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_constants_in_many_channels_are_left_to_the_reader(value):
    assert np.ptp(decode_audio(encoded(np.full((RATE, 2), value), "WAV", "FLOAT"))) == 0
    unlike = np.tile([0.25, -0.25], (RATE, 1))
    assert np.ptp(decode_audio(encoded(unlike, "WAV", "FLOAT"))) == 0


def test_a_constant_stays_one_at_another_rate():
    file = io.BytesIO()
    soundfile.write(file, np.full(44_100, 0.5), 44_100, format="WAV", subtype="FLOAT")
    assert np.ptp(decode_audio(file.getvalue())) == 0


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_a_clear_tone_in_big_endian_keeps_its_pitch(rate):
    file = io.BytesIO()
    soundfile.write(file, tone(500, 1, rate), rate, format="WAV", subtype="PCM_16", endian="BIG")
    waveform = decode_audio(file.getvalue())
    assert np.argmax(np.abs(np.fft.rfft(waveform))) == pytest.approx(500, abs=2)


def test_a_film_gives_its_sound(tmp_path):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 32
        sound = container.add_stream("aac", rate=RATE, layout="mono", format="fltp")
        for _ in range(20):
            container.mux(pictures.encode(av.VideoFrame(32, 32, "rgb24")))
        frame = av.AudioFrame.from_ndarray(voice(2)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        container.mux(sound.encode(frame))
        for stream in (pictures, sound):
            container.mux(stream.encode(None))
    waveform = decode_audio(path)
    assert len(waveform) == pytest.approx(32_000, abs=1_100) and similarity(waveform, voice(2)) > 0.98


def test_what_is_too_long_for_memory_asks_for_segments(tmp_path, monkeypatch):
    path = write(tmp_path / "long.flac", voice(31))
    monkeypatch.setattr(audio_decoding, "MAX_SAMPLES", 30 * RATE)
    with pytest.raises(UnreadableError, match="longer than 0.0 hours: give it in segments, by start and end"):
        decode_audio(path)
    assert len(decode_audio(path, start=1.0, end=2.0)) == RATE
    assert sum(map(len, stream_audio(path))) == 31 * RATE


def test_nothing_is_left_for_a_worker_process_to_free(tmp_path):
    """ffmpeg's objects wait for their threads when they are freed, and a forked worker process has no such threads."""
    data = damaged(write(tmp_path / "clip.mp3", voice(2, 44_100), 44_100).read_bytes())
    flac = encoded(voice(2), "FLAC")
    gc.collect()
    gc.disable()
    try:
        for value in (data, flac[: len(flac) // 2], b"text"):
            with suppress(UnreadableError):
                decode_audio(value)
            with suppress(UnreadableError):
                next(stream_audio(value))
        assert not [one for one in gc.get_objects() if isinstance(one, FfmpegReader)]
    finally:
        gc.enable()
