"""Recordings for tests, written by real encoders: a voice-like sound that differs at every moment."""

from pathlib import Path

import av
import numpy as np
import soundfile

ENCODERS = {  # by suffix: codec, sample format, sampling rate
    ".mp3": ("libmp3lame", "fltp", 44_100),
    ".m4a": ("aac", "fltp", 22_050),
    ".webm": ("libopus", "flt", 48_000),
    ".opus": ("libopus", "flt", 48_000),
    ".g722": ("g722", "s16", 16_000),
}


def voice(seconds: float, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """A gliding tone with overtones in syllables, over a little noise: fp32 [samples]."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 20 * seed + 15 * time + 20 * np.sin(5 * time)) / rate
    tone = sum(np.sin(k * phase) / k for k in range(1, 6))
    syllables = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * time)
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return (0.15 * syllables * tone + 0.002 * noise).astype(np.float32)


def tone(frequency: float, seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    """Write [samples] or [samples, channels] in the format of the suffix; ENCODERS says what some formats need."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix not in ENCODERS:
        soundfile.write(path, samples, rate)
        return path
    codec, sample_format, needed = ENCODERS[path.suffix]
    assert rate == needed and samples.ndim == 1
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, format=sample_format, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        for piece in av.AudioResampler(sample_format, "mono", rate).resample(frame):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path
