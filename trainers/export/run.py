"""`data2vec export`: a model as a file that onnxruntime, or torch alone, can run."""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModel, AutoProcessor, PreTrainedConfig
from transformers.utils import logging

import modeling_data2vec
from modeling_data2vec import Data2Vec2Config, Data2Vec2Model
from modeling_data2vec.auto import pretraining_models
from modeling_data2vec.weight_files import check_finite

from ..files.model_folders import loading
from ..files.output_checks import check_output_file
from ..files.writing import new_folder
from ..modalities.names import modalities
from ..option_checks import require_choice
from .exportable import TRACED, Exportable, exportable
from .options import FILES, ExportOptions

logger = logging.get_logger(__name__)

NEEDED = ("onnx", "onnxscript", "onnxruntime")
OPSET = 20  # the first with a GELU of its own
TOLERANCE = 1e-4  # of a file in fp32, as a share of the largest output, or absolute where that is below 1
CHECKED_SHAPES = ((1, 16), (3, 21), (2, 24))  # samples and positions that a file is checked with
UNSUPPORTED = {  # transformers' own classes that can't be traced, and why
    "Data2VecAudioForXVector": "its code loops over the clips of a batch, and so is another program for each batch size"
}
LARGEST_FILE = 2**31 - 2**24  # bytes of weights; a protocol buffer holds no more, the rest goes to a file beside it

Run = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def export(source: str | Path, destination: str | Path, options: ExportOptions) -> dict[str, float]:
    """Write a model folder's model as one file, with config and processor beside it, and check it.

    Args:
        source: model folder or Hub id: any data2vec model, 1.0 or 2.0. Of a pretraining model, the encoder is taken.
        destination: a folder that does not exist yet.
        options: see `data2vec export --help`.

    Returns:
        By file name, the largest difference to PyTorch over `CHECKED_SHAPES`, as a share of the largest output (for
        outputs below 1, absolute).

    Raises:
        ValueError: an option, the source or the destination can't be used, a package is missing, or the file gives
            something else than the model.
    """
    destination = Path(destination)
    _check_options(options, destination)
    source = str(source)
    one = exportable(load(source, options.modality))
    with new_folder(destination) as unfinished:
        path = unfinished / FILES[options.format]
        differences = {path.name: check(one, write(one, path), path.name)}
        if options.quantize is not None:
            small = path.with_suffix(".int8.onnx")
            quantize(path, small)
            differences[small.name] = largest_difference(one, onnx_run(small))
        one.model.config.save_pretrained(unfinished)
        _save_processor(source, unfinished)
    return differences


def _check_options(options: ExportOptions, destination: Path) -> None:
    require_choice(options, "modality", list(modalities()))
    if options.quantize and options.format != "onnx":
        raise ValueError("--quantize int8 is done by onnxruntime: use it with --format onnx")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if options.format == "onnx" and missing:
        raise ValueError(f"--format onnx needs {', '.join(missing)}: pip install {' '.join(missing)}")
    if destination.exists():
        raise ValueError(f"{destination} exists already: choose another destination, or remove it")
    check_output_file(destination, "destination")


def load(source: str, modality: str | None = None) -> Any:
    """The model of a folder or Hub id in fp32, of the class that its config names; of pretraining, the encoder.

    Args:
        source: folder or Hub id.
        modality: which part of a model with several modalities.

    Raises:
        ValueError: there is no model, it is no data2vec model, or the modality is missing or wrong.
    """
    with loading(source):
        model = _load(source, modality)
    check_finite(model.state_dict(), source)
    return model


def _load(source: str, modality: str | None) -> Any:
    try:
        values, _ = PreTrainedConfig.get_config_dict(source)
    except OSError as error:
        raise ValueError(f"{source} holds no model: {str(error).splitlines()[0]}") from error
    if not values:
        raise ValueError(f"{source} holds no model: there is no config.json in it")
    kind = values.get("model_type")
    if kind not in pretraining_models():
        raise ValueError(
            f"{source} holds a model of type {kind!r}, but only {', '.join(pretraining_models())} can be exported here"
        )
    joint = kind == Data2Vec2Config.model_type
    if joint != (modality is not None):
        has, what = ("several modalities", "give --modality") if joint else ("one modality", "leave --modality out")
        raise ValueError(f"{source} holds a model of {has}: {what}")
    if joint:
        return Data2Vec2Model.from_pretrained(source, modality=modality, dtype=torch.float32)
    name = next(iter(values.get("architectures") or ["none"]))
    if name in UNSUPPORTED:
        raise ValueError(f"{source} holds a {name}, which can't be exported: {UNSUPPORTED[name]}")
    model_class = getattr(modeling_data2vec, name, None) or getattr(transformers, name, None)
    if model_class is None or name.endswith("ForPreTraining"):
        model_class = AutoModel
    return model_class.from_pretrained(source, dtype=torch.float32)


def _save_processor(source: str, folder: Path) -> None:
    try:
        AutoProcessor.from_pretrained(source).save_pretrained(folder)
    except (OSError, ValueError) as error:
        logger.warning(f"No processor or tokenizer is beside the file, since {source} has none ({error}).")


# ---- files ----


def write(one: Exportable, path: Path) -> Run:
    """Write a model to model.onnx or model.pt2, as the path ends, and read it again; returns what runs it."""
    if path.suffix == ".onnx":
        _write_onnx(one, path)
        return onnx_run(path)
    torch.export.save(one.trace(), path)
    program: Any = torch.export.load(path).module()
    return lambda inputs: program(**inputs)


def _write_onnx(one: Exportable, path: Path) -> None:
    config = one.model.config
    attention = config._attn_implementation
    config._attn_implementation = "eager"  # the exporter takes sdpa apart anyway, and fails at some of them
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's about itself, and of axes that are one and the same
            program: Any = torch.onnx.export(
                one.trace(),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=one.dynamic_axes(),
                input_names=list(one.dynamic_axes()),
                output_names=list(one(**one.examples(*TRACED))),
                verbose=False,
            )
    finally:
        config._attn_implementation = attention
    size = sum(weight.numel() * weight.element_size() for weight in one.parameters())
    program.save(path, external_data=size > LARGEST_FILE)


def onnx_run(path: str | Path, num_threads: int | None = None) -> Run:
    """A function that runs an ONNX file with onnxruntime on the CPU, tensors in and out.

    Args:
        path: of the file.
        num_threads: default: torch's.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        values = session.run(names, {name: value.numpy() for name, value in inputs.items()})
        return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}

    return run


def quantize(path: Path, destination: Path) -> None:
    """Write an ONNX file again with the weights of its linear layers in int8; activations are quantised as they come.

    7 of the 8 bits are used: where a processor has no VNNI, products of full bytes would overflow. Convolutions,
    embeddings and norms stay as they are.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        path,
        destination,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )


# ---- the check ----


@torch.no_grad()
def largest_difference(one: Exportable, run: Run, shapes: tuple[tuple[int, int], ...] = CHECKED_SHAPES) -> float:
    """Largest difference between the outputs of a file and of its model.

    Args:
        one: the model.
        run: what runs the file.
        shapes: samples and positions of the inputs to compare, as `Exportable.examples` takes them.

    Returns:
        The largest difference of any output, as a share of that output's largest number, or of 1 if it is smaller.
    """
    largest = 0.0
    for shape in shapes:
        inputs = one.examples(*shape)
        actual = run(inputs)
        for name, expected in one(**inputs).items():
            scale = max(1.0, float(expected.abs().max()))
            largest = max(largest, float((actual[name] - expected).abs().max()) / scale)
    return largest


def check(one: Exportable, run: Run, name: str) -> float:
    """`largest_difference`, for a file in fp32.

    Raises:
        ValueError: it exceeds `TOLERANCE`.
    """
    difference = largest_difference(one, run)
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{name} differs from {type(one.model).__name__} by {difference:.1e} of its largest output, but at most "
            f"{TOLERANCE:.0e} is allowed: please report the model's config and the versions of torch and onnxscript"
        )
    return difference
