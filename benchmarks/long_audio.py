"""What a long recording loses in windows, and what a language model wins: a recogniser of spoken digits.

    python benchmarks/long_audio.py

Trains a small data2vec 2.0 model with a CTC head on rows of one to four digits, one woman's telephone prompts, then
reads 120 digits in a row, 100 seconds: whole, and in windows of 10 seconds with more and less overlap. Beside each,
the difference of the letters' probabilities from the whole's and the error rates; then beam search with a language
model of single digits, made by kaldingram. One thread; the recordings come with Debian:
apt-get install -y asterisk-core-sounds-en-g722
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import soundfile
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
import spoken_digits
from torch import Tensor

from modeling_data2vec.trainers.data.samples import UnreadableError
from modeling_data2vec.trainers.finetuning.metrics import transcript_metrics
from modeling_data2vec.trainers.transcription.ctc_decoding import greedy_transcript
from modeling_data2vec.trainers.transcription.lm_decoding import BeamDecoder
from modeling_data2vec.trainers.transcription.run import SpeechRecognizer


def error_rates(text: str, wanted: str) -> str:
    """Word and character error rate in %."""
    rates = transcript_metrics([text], [wanted])
    return f"{100 * rates['wer']:.1f} | {100 * rates['cer']:.1f}"


def logits_of(recogniser: SpeechRecognizer, file: Path, **windows: Any) -> Tensor:
    (found,) = recogniser.logits([file], **windows)
    if isinstance(found, UnreadableError):
        raise found
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=900, help="of training")
    parser.add_argument("--overlaps", type=float, nargs="+", default=[0, 0.1, 0.25, 0.5, 1, 2, 4], help="seconds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    model = spoken_digits.recogniser("2.0")
    spoken_digits.train(model, options.steps, longest=4)
    print(f"{options.steps} updates in {time.process_time() - started:.0f} CPU-seconds\n")

    folder = Path(tempfile.mkdtemp())
    processor = spoken_digits.processor(folder)
    recogniser = SpeechRecognizer(model, processor.feature_extractor, processor.tokenizer)
    sound, wanted = spoken_digits.digits(random.Random(7), 120)
    soundfile.write(folder / "digits.flac", sound, 16_000)
    whole = logits_of(recogniser, folder / "digits.flac", chunk_seconds=1000)
    expected = whole.softmax(-1)
    text = greedy_transcript(whole, recogniser.letters, recogniser.frame_seconds).text
    print("| windows | overlap, s | frames with another letter, % | mean, largest difference | WER | CER |")
    print("|---|---:|---:|---:|---:|---:|")
    print(f"| the whole, {len(sound) / 16_000:.0f} s | | | | {error_rates(text, wanted)} |")
    for overlap in options.overlaps:
        logits = logits_of(recogniser, folder / "digits.flac", chunk_seconds=10, overlap_seconds=overlap)
        found = logits.softmax(-1)
        other = 100 * (found.argmax(-1) != expected.argmax(-1)).float().mean()
        change = (found - expected).abs().sum(-1) / 2  # total variation
        text = greedy_transcript(logits, recogniser.letters, recogniser.frame_seconds).text
        figures = f"{other:.2f} | {change.mean():.5f}, {change.max():.2f} | {error_rates(text, wanted)}"
        print(f"| 10 s | {overlap:g} | {figures} |")

    lines, arpa = folder / "lines.txt", folder / "digits.arpa"
    rng = random.Random(8)
    lines.write_text("".join(" ".join(rng.choices(spoken_digits.WORDS, k=20)) + "\n" for _ in range(500)))
    command = [sys.executable, "-m", "kaldingram.cli", "train", "--ngram-order", "2"]
    subprocess.run([*command, "--text", str(lines), "--lm", str(arpa)], check=True, capture_output=True)
    print("\n| decoding of the whole | WER | CER | seconds |\n|---|---:|---:|---:|")
    for name, lm in (("beam search, no language model", None), ("beam search, bigrams of digits", arpa)):
        beam = BeamDecoder(recogniser.letters, lm)
        started = time.perf_counter()
        text = beam(whole, recogniser.frame_seconds).text
        print(f"| {name} | {error_rates(text, wanted)} | {time.perf_counter() - started:.2f} |")


if __name__ == "__main__":
    main()
