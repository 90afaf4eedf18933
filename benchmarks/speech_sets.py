"""Recordings that Debian packages, decoded once: prompts to train on, syllables to probe on.

apt-get install -y asterisk-core-sounds-{en,es,fr,it,ru}-g722 gcin-voice
"""

import sys
from pathlib import Path

PROMPTS = Path("/usr/share/asterisk/sounds")
SYLLABLES = Path("/usr/share/gcin-voice/ogg")
# Each set's files; of the syllables one voice of two, since the other is synthetic.
FILES = {"prompts": (PROMPTS, "*.g722"), "syllables": (SYLLABLES, "3.ogg")}
RATE = 16_000
INSTALL = "apt-get install -y asterisk-core-sounds-{en,es,fr,it,ru}-g722 gcin-voice"


def require_recordings() -> None:
    """End the script with what to install, if a set is missing."""
    if not PROMPTS.exists() or not SYLLABLES.exists():
        sys.exit(f"{PROMPTS} or {SYLLABLES} is missing: {INSTALL}")


def decode(folder: Path) -> None:
    """Decode all clips once, into arrays that every run loads: fp16 at 16 kHz, one after another."""
    import numpy as np

    from modeling_data2vec.trainers.data.samples import UnreadableError
    from modeling_data2vec.trainers.media.audio_decoding import decode_audio

    folder.mkdir(parents=True, exist_ok=True)
    for name, (place, pattern) in FILES.items():
        clips, labels = [], []
        for file in sorted(place.rglob(pattern)):
            try:
                clip = decode_audio(str(file.resolve()), RATE)
            except UnreadableError:  # one Russian prompt is empty
                continue
            clips.append(clip.astype(np.float16))
            labels.append(file.parent.name)
        sizes = np.array([len(clip) for clip in clips])
        np.savez(folder / f"{name}.npz", waveforms=np.concatenate(clips), sizes=sizes, labels=np.array(labels))


def load(folder: Path, name: str):
    """(waveforms, folder names) that `decode` wrote."""
    import numpy as np

    data = np.load(folder / f"{name}.npz")
    return np.split(data["waveforms"].astype(np.float32), data["sizes"].cumsum()[:-1]), data["labels"].tolist()


def example(clip) -> dict:
    """A waveform as a row of a data set."""
    return {"audio": {"array": clip, "sampling_rate": RATE}}


def training_clips(folder: Path, data: dict, seed: int):
    """Random crops of the prompts as samples of a waveform model, with their lengths."""
    from transformers import Wav2Vec2FeatureExtractor

    from modeling_data2vec.trainers import SampleDataset
    from modeling_data2vec.trainers.modalities.speech import AudioReader

    reader = AudioReader(Wav2Vec2FeatureExtractor(), min_duration=data["min_seconds"], max_duration=data["max_seconds"])
    clips = [clip for clip in load(folder, "prompts")[0] if len(clip) >= RATE * data["min_seconds"]]
    lengths = [reader.num_samples(len(clip) / RATE) for clip in clips]
    return SampleDataset([example(clip) for clip in clips], reader, seed=seed, lengths=lengths)


def training_samples(folder: Path, modality, seed: int):
    """The prompts as training samples of a modality."""
    from modeling_data2vec.trainers import SampleDataset

    if modality.data.get("max_batch_seconds"):
        return training_clips(folder, modality.data, seed)
    clips = [example(clip) for clip in load(folder, "prompts")[0]]
    return SampleDataset(clips, modality.reader("audio"), seed=seed)


def syllables(folder: Path, reader):
    """(the model's inputs, folder names) of the syllables to be probed on."""
    clips, names = load(folder, "syllables")
    return [next(iter(reader(example(clip), None).values())) for clip in clips], names


def normalized_syllables(folder: Path):
    """(waveforms, folder names) of the syllables, each of mean 0 and variance 1, as waveform models take them."""
    from transformers import Wav2Vec2FeatureExtractor

    from modeling_data2vec.trainers.modalities.speech import AudioReader

    return syllables(folder, AudioReader(Wav2Vec2FeatureExtractor()))
