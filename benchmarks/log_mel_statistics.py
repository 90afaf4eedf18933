"""Mean and deviation of log-mel values of real clips of variance 1: what `LogMel` standardises by.

    python benchmarks/log_mel_statistics.py

Each folder of recordings that is there gives rows: syllables of gcin-voice, prompts of asterisk, dialogues of
fillets-ng, words of Tux Paint's stamps.
"""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling_data2vec.log_mel import LogMel
from modeling_data2vec.trainers import decode_audio

FOLDERS = {
    "gcin-voice": ("/usr/share/gcin-voice", "3.ogg"),
    "asterisk": ("/usr/share/asterisk/sounds", "*.g722"),
    "fillets-ng": ("/usr/share/games/fillets-ng", "*.ogg"),
    "Tux Paint": ("/usr/share/tuxpaint/stamps", "*.ogg"),
}
NUM_CLIPS, SECONDS = 60, 8  # of each folder, and of each clip at most


def values(files: list[Path], num_mel_bins: int, rate: int) -> np.ndarray:
    """[frames, mel bins] of all clips together."""
    front_end: Any = LogMel(num_mel_bins, rate)
    found = []
    for file in files:
        clip = torch.from_numpy(decode_audio(str(file), rate))[: SECONDS * rate]
        if len(clip) >= front_end.transform.shape[1] and clip.std() > 1e-4:
            found.append(front_end(((clip - clip.mean()) / clip.std())[None])[0].reshape(-1, num_mel_bins))
    return torch.cat(found).numpy()


def main() -> None:
    print("| clips | rate | mel bins | mean | deviation | means of bins | deviations |")
    print("|---|---:|---:|---:|---:|---|---|")
    for name, (folder, pattern) in FOLDERS.items():
        files = sorted(Path(folder).resolve().rglob(pattern))
        chosen = random.Random(0).sample(files, min(NUM_CLIPS, len(files)))
        for rate, bins in ((16_000, 40), (16_000, 80), (8_000, 40)) if chosen else ():
            x = values(chosen, bins, rate)
            of_bins = [np.quantile(one, [0.1, 0.9]).round(1).tolist() for one in (x.mean(0), x.std(0))]
            ranges = " | ".join(f"{low} to {high}" for low, high in of_bins)
            print(f"| {name} | {rate:,} | {bins} | {x.mean():.2f} | {x.std():.2f} | {ranges} |")


if __name__ == "__main__":
    main()
