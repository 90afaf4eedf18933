"""How long it takes to learn the lengths of 2,000 short clips: one after the other, and by `datasets.map`.

python benchmarks/clip_lengths.py
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from transformers import Wav2Vec2FeatureExtractor

from modeling_data2vec.trainers import AudioReader, clip_lengths, load_audio
from modeling_data2vec.trainers.media.audio_decoding import audio_duration


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0).standard_normal(3_600)
        for index in range(2_000):
            soundfile.write(Path(folder) / f"{index:04}.wav", 0.1 * noise[: 1_600 + index], 16_000)
        dataset, column = load_audio(folder)
        reader = AudioReader(Wav2Vec2FeatureExtractor(), column)

        def seconds(example: dict) -> dict:
            return {"seconds": audio_duration(example[column])}

        def mapped(processes: int | None) -> list[int]:
            table = dataset.map(seconds, num_proc=processes, remove_columns=dataset.column_names)
            return [reader.num_samples(value) for value in table["seconds"]]

        expected = clip_lengths(dataset, reader)
        ways = {
            "one after the other": lambda: clip_lengths(dataset, reader),
            "datasets.map": lambda: mapped(None),
            "datasets.map, 2 processes": lambda: mapped(2),
            "datasets.map, 2 processes, again": lambda: mapped(2),
        }
        for name, way in ways.items():
            start = time.perf_counter()
            assert way() == expected
            print(f"{name}: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
