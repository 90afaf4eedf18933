"""Options of `data2vec export`."""

from dataclasses import dataclass, field

from ..option_checks import require_choice

FILES = {"onnx": "model.onnx", "torch": "model.pt2"}


@dataclass
class ExportOptions:
    """Options of `data2vec export`, beside model and destination."""

    format: str = field(
        default="onnx", metadata={"help": "'onnx': model.onnx for onnxruntime; 'torch': model.pt2 for torch.export."}
    )
    quantize: str | None = field(
        default=None,
        metadata={"help": "'int8': also write model.int8.onnx, with weights of linear layers in 8 bits."},
    )
    modality: str | None = field(
        default=None, metadata={"help": "Of a model of several modalities, the one to export: audio, text or vision."}
    )

    def __post_init__(self) -> None:
        require_choice(self, "format", list(FILES))
        require_choice(self, "quantize", ["int8"])
