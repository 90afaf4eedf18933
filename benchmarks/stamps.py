"""Pairs from Tux Paint's stamps: a picture, its English name as text, and its name spoken in another language.

    python benchmarks/stamps.py stamps --languages es fr
    python benchmarks/stamps.py stamps --languages es fr --transcripts  # the text is what is said

writes `stamps/train.jsonl` and `stamps/test.jsonl` with the columns image, audio, text, language and stamp, and beside
them the pictures (small, on black) and the speech (16 kHz): what `load_pairs` reads. Stamps are split by their English
name, so that nothing of the test split was seen by another picture of the same thing; there each name comes once.

The data come with Debian: apt-get install -y tuxpaint-stamps-default
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from modeling_data2vec.trainers.media.audio_decoding import decode_audio

STAMPS = Path("/usr/share/tuxpaint/stamps")
LANGUAGES = ("es", "fr", "ru", "ro", "bg")  # whose speech says what the text says
SIZE = 64  # pixels of an edge
NUM_TEST = 128  # names


def named_stamps(stamps: Path = STAMPS) -> dict[str, list[Path]]:
    """The pictures of each English name."""
    found: dict[str, list[Path]] = {}
    for picture in sorted(stamps.rglob("*.png")):
        description = picture.with_suffix(".txt")
        if description.exists():
            name = description.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0].strip()
            found.setdefault(name, []).append(picture)
    return found


def speech(picture: Path, language: str) -> Path:
    """Where a stamp's spoken name is, if it is."""
    return picture.with_name(f"{picture.stem}_desc_{language}.ogg")


def transcript(picture: Path, language: str) -> str | None:
    """What a stamp's speech says, if its description has it."""
    for line in picture.with_suffix(".txt").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(f"{language}.utf8="):
            return line.split("=", 1)[1].strip() or None
    return None


def thumbnail(picture: Path, size: int = SIZE) -> Image.Image:
    """A small square picture on black, as the products of Fashion-MNIST are."""
    with Image.open(picture) as image:
        cut_out = image.convert("RGBA")
    cut_out.thumbnail((size, size))
    square = Image.new("RGBA", (size, size), "black")
    square.alpha_composite(cut_out, ((size - cut_out.width) // 2, (size - cut_out.height) // 2))
    return square.convert("RGB")


def write(
    folder: Path,
    languages: list[str],
    stamps: Path = STAMPS,
    num_test: int = NUM_TEST,
    *,
    transcripts: bool = False,
) -> dict[str, int]:
    """Write pictures, speech and manifests; returns the rows of each split.

    With `transcripts` the text is what is said, and not the English name; rows without are left out.
    """
    names = {
        name: [picture for picture in pictures if all(speech(picture, one).exists() for one in languages)]
        for name, pictures in named_stamps(stamps).items()
    }
    names = {name: pictures for name, pictures in names.items() if pictures}
    order = [list(names)[i] for i in np.random.default_rng(0).permutation(len(names))]
    splits = {"test": order[:num_test], "train": order[num_test:]}
    for part in ("pictures", "speech"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    counts = {}
    for split, chosen in splits.items():
        rows = []
        for name in chosen:
            for picture in names[name][: 1 if split == "test" else None]:
                stamp = "-".join(picture.relative_to(stamps).with_suffix("").parts)
                image = f"pictures/{stamp}.png"
                thumbnail(picture).save(folder / image)
                for language in languages:
                    text = transcript(picture, language) if transcripts else name
                    if text is None:
                        continue
                    audio = f"speech/{stamp}.{language}.wav"
                    soundfile.write(folder / audio, decode_audio(str(speech(picture, language)), 16_000), 16_000)
                    rows.append({"image": image, "audio": audio, "text": text, "language": language, "stamp": stamp})
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
        counts[split] = len(rows)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=["es"])
    parser.add_argument("--transcripts", action="store_true", help="the text is what is said, not the English name")
    options = parser.parse_args()
    if not STAMPS.exists():
        sys.exit(f"{STAMPS} is missing: apt-get install -y tuxpaint-stamps-default")
    print(write(options.folder, options.languages, transcripts=options.transcripts))


if __name__ == "__main__":
    main()
