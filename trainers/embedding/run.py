"""`data2vec embed`: one vector for each sample, in a file, however long it takes and however often it is stopped."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from ..data.samples import SampleDataset, nothing_readable
from ..modalities.encoders import load_encoder, move_to
from ..runs.fingerprint import fingerprint
from ..runs.run_lock import only_run_in
from ..wording import counted
from .data import SampleStream, open_data
from .embed import embed_parts
from .files import PartFiles
from .options import EmbedOptions

logger = logging.get_logger(__name__)


def embed_to_file(model: str, data: str, options: EmbedOptions) -> str:
    """Write the features of data to `options.output`.

    If an earlier call was killed, it goes on behind the parts that are there; the file is the same, byte for byte.

    Args:
        model: folder or Hub id of an encoder.
        data: folder, table, saved dataset or Hub id.

    Returns:
        what was written and left out, for people.

    Raises:
        ValueError: the output is there already, model and data don't fit together, no sample can be read, or an
            unfinished output is of other settings.
    """
    files = PartFiles(options.output)
    encoder, kind = load_encoder(model, options.processor, options.modality)
    if options.device is not None:
        move_to(encoder, options.device)
    samples = open_data(
        kind,
        data,
        split=options.split,
        column=options.column,
        id_column=options.id_column,
        streaming=options.streaming,
    )
    said = {"model": model, "data": data, **asdict(options)}
    del said["output"]
    try:
        with only_run_in(files.folder):
            first = files.go_on(said | _fingerprints(encoder, samples))
            if first:
                logger.warning(f"Going on behind the {first} part(s) in {files.folder} that are finished.")
            with files.nothing_without_parts():
                parts = embed_parts(encoder, samples, options, first_part=first, progress=True)
                for number, part in enumerate(parts, first):
                    files.write(number, part)
            left_out = files.left_out()
            number, length = files.join(said | {"left_out": left_out})
            if not number:
                files.remove()
                raise nothing_readable(left_out, kind.medium.noun)
    finally:
        with suppress(OSError):  # it holds the parts of a call that failed or was killed
            files.folder.rmdir()
    return f"Wrote {options.output}: {counted(number, 'vector')} of {length:,} numbers.{said_of(left_out)}"


def said_of(left_out: Mapping[str, str]) -> str:
    """The end of a report: the samples that were left out, and why; empty where there are none."""
    if not left_out:
        return ""
    shown = "".join(f"\n  {name}: {why}" for name, why in list(left_out.items())[:20])
    more = f"\n  and {len(left_out) - 20} more" if len(left_out) > 20 else ""
    return f" Left out:{shown}{more}"


def _fingerprints(encoder: PreTrainedModel, samples: SampleStream) -> dict[str, Any]:
    """Weights, data and device, by which an extraction that goes on knows that they are still the same."""
    digest = hashlib.sha256()
    for name, weights in encoder.state_dict().items():
        digest.update(name.encode() + weights.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    length = samples.known_length()
    return {
        "weights": digest.hexdigest()[:16],
        "samples": length,
        "first and last sample": length and fingerprint(SampleDataset(samples.dataset, samples.reader, augment=False)),
        "device type": encoder.device.type,
    }
