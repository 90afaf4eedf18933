"""What a file for serving is worth: PyTorch, ONNX, ONNX in int8 and torch.export side by side on one CPU thread.

    make demo                                                   # pretrains on scikit-learn's digits
    OMP_NUM_THREADS=1 python benchmarks/export.py --model demo  # accuracy
    OMP_NUM_THREADS=1 python benchmarks/export.py --speed text  # of the base size, random weights; also audio, vision

Accuracy: the encoder is frozen, a linear layer on its normed mean patch is fitted to the 1,297 training images by
logistic regression and put into a `Data2Vec2VisionForImageClassification`, which is exported and tested on the other
500. Speed: all variants are run in turns, in CPU time (user + system); medians over rounds, and the median of each
round's ratio to PyTorch, so that what else the machine does falls on all alike.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from transformers import AutoImageProcessor

from modeling_data2vec import (
    Data2Vec2AudioModel,
    Data2Vec2TextModel,
    Data2Vec2VisionForImageClassification,
    Data2Vec2VisionModel,
)
from modeling_data2vec.trainers import ImageTransform
from modeling_data2vec.trainers.export.exportable import Exportable, exportable
from modeling_data2vec.trainers.export.run import Run, onnx_run, quantize, write
from modeling_data2vec.trainers.modalities.image import load_labelled_images

BASE = {"vision": Data2Vec2VisionModel, "audio": Data2Vec2AudioModel, "text": Data2Vec2TextModel}
# Samples, and positions of each: one image of 224 x 224, ten seconds, 128 tokens; then a batch.
SPEED_SHAPES = {"vision": ((1, 14), (8, 14)), "audio": ((1, 499), (4, 499)), "text": ((1, 128), (8, 128))}
MIB = 2**20


def variants(one: Exportable, folder: Path) -> dict[str, tuple[Run, int]]:
    """What runs a model in each form, and its weights' or file's size in bytes."""

    def pytorch(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.inference_mode():
            return one(**inputs)

    weights = sum(weight.numel() * weight.element_size() for weight in one.parameters())
    found: dict[str, tuple[Run, int]] = {"PyTorch": (pytorch, weights)}
    for name, file in (("torch.export", "model.pt2"), ("ONNX", "model.onnx")):
        run = write(one, folder / file)
        found[name] = (run, (folder / file).stat().st_size)
    quantize(folder / "model.onnx", folder / "int8.onnx")
    found["ONNX, int8"] = (onnx_run(folder / "int8.onnx"), (folder / "int8.onnx").stat().st_size)
    return found


def cpu_seconds(run: Run, inputs: dict[str, Tensor]) -> float:
    start = time.process_time()
    with torch.inference_mode():
        run(inputs)
    return time.process_time() - start


def speed_table(runs: dict[str, Run], inputs: dict[str, Tensor], rounds: int) -> list[str]:
    """Medians of interleaved rounds, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            times[name].append(cpu_seconds(run, inputs))
    rows = ["| | CPU ms | times PyTorch's |", "|---|---:|---:|"]
    for name, seconds in times.items():
        ratios = [own / pytorch for own, pytorch in zip(seconds[1:], times["PyTorch"][1:], strict=True)]
        rows.append(f"| {name} | {1000 * statistics.median(seconds[1:]):.1f} | {statistics.median(ratios):.2f} |")
    return rows


def speed(modality: str, rounds: int) -> None:
    torch.manual_seed(0)
    model_class = BASE[modality]
    one = exportable(model_class(model_class.config_class()))
    with tempfile.TemporaryDirectory() as folder:
        found = variants(one, Path(folder))
        print(f"{model_class.__name__}, {sum(p.numel() for p in one.parameters()) / 1e6:.1f}M parameters")
        for name, (_, size) in found.items():
            print(f"{name}: {size / MIB:.1f} MiB")
        for batch, size in SPEED_SHAPES[modality]:
            inputs = one.examples(batch, size)
            if modality == "vision":  # squares
                inputs = {"pixel_values": torch.randn(batch, 3, 224, 224)}
            if "attention_mask" in inputs:  # all of one length
                inputs["attention_mask"].fill_(1)
            print(f"\n{' and '.join(f'{key} {list(value.shape)}' for key, value in inputs.items())}\n")
            print("\n".join(speed_table({key: run for key, (run, _) in found.items()}, inputs, rounds)), flush=True)


# ---- accuracy ----


def digits_classifier(folder: str) -> tuple[Exportable, Tensor, Tensor]:
    """A classifier on the frozen encoder of a folder, and the test images and labels."""
    transform = ImageTransform.from_processor(AutoImageProcessor.from_pretrained(folder))
    train, test = (load_labelled_images("digits", transform, split=split) for split in ("train", "test"))
    model = Data2Vec2VisionForImageClassification.from_pretrained(folder, num_labels=10).eval()
    with torch.inference_mode():
        features = model.fc_norm(model.data2vec2_vision(train[0]).pooler_output)
    fitted = LogisticRegression(max_iter=3000).fit(features.numpy(), train[1])
    model.classifier.weight.data.copy_(torch.from_numpy(fitted.coef_))
    model.classifier.bias.data.copy_(torch.from_numpy(fitted.intercept_))
    return exportable(model), test[0], torch.as_tensor(test[1])


def accuracy(folder: str, rounds: int) -> None:
    one, images, labels = digits_classifier(folder)
    with tempfile.TemporaryDirectory() as place:
        found = variants(one, Path(place))
        expected = found["PyTorch"][0]({"pixel_values": images})["logits"]
        print("| | accuracy | same class as PyTorch | largest difference of logits | size, KiB |")
        print("|---|---:|---:|---:|---:|")
        for name, (run, size) in found.items():
            logits = run({"pixel_values": images})["logits"]
            right = (logits.argmax(1) == labels).float().mean()
            same = (logits.argmax(1) == expected.argmax(1)).float().mean()
            difference = (logits - expected).abs().max()
            print(f"| {name} | {right:.1%} | {same:.1%} | {difference:.1e} | {size / 1024:.0f} |")
        print(f"\nLogits reach {expected.abs().max():.1f}. One image, and 64:")
        for batch in (1, 64):
            table = speed_table({key: run for key, (run, _) in found.items()}, {"pixel_values": images[:batch]}, rounds)
            print("\n" + "\n".join(table))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="an image model that was pretrained on the digits, with its processor")
    parser.add_argument("--speed", choices=BASE)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.model:
        accuracy(options.model, options.rounds)
    if options.speed:
        speed(options.speed, options.rounds)


if __name__ == "__main__":
    main()
