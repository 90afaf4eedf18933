"""`data2vec transcribe`: a fine-tuned model, recordings of any length, text."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

from modeling_data2vec.native_audio import run_channels_last
from modeling_data2vec.weight_files import check_finite

from ..data.samples import UnreadableError
from ..files.model_folders import loading
from ..logging import errors_only
from ..modalities.clips import SoundModality
from ..modalities.names import modalities
from .ctc_decoding import Letters, Transcript, greedy_transcript
from .lm_decoding import BeamDecoder
from .long_audio import FrameGrid, LongAudio
from .options import TranscribeOptions


class SpeechRecognizer:
    """A model with a CTC head, and the processors of its input and output.

    Args:
        model: `Data2Vec2AudioForCTC`, `Data2Vec2SpectrogramForCTC`, or transformers' `Data2VecAudioForCTC`,
            `Wav2Vec2ForCTC` and their like.
        feature_extractor: a `Wav2Vec2FeatureExtractor`, or that of spectrograms.
        tokenizer: a `Wav2Vec2CTCTokenizer`.

    Raises:
        ValueError: a model, feature extractor or tokenizer of another kind.

    Example:
        >>> recognizer = SpeechRecognizer.from_pretrained("runs/recogniser")  # doctest: +SKIP
        >>> for transcript in recognizer.transcribe(["call.mp3"]):  # doctest: +SKIP
        ...     print(transcript.text, transcript.words)
    """

    def __init__(self, model: Any, feature_extractor: Any, tokenizer: Any):
        sounds = {kind.input_name: kind for kind in modalities().values() if issubclass(kind, SoundModality)}
        kind = sounds.get(model.main_input_name)
        if kind is None or not kind.hears(feature_extractor):
            raise ValueError(
                f"{type(model).__name__} with {type(feature_extractor).__name__} does not hear waveforms: take a model "
                "with convolutions over the waveform and a Wav2Vec2FeatureExtractor, or one of spectrograms of this "
                "package"
            )
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.eval().to(self.device)
        self.feature_extractor = feature_extractor
        self.letters = Letters(tokenizer, model.config.vocab_size)
        self.sound = kind(model.config, feature_extractor)
        self.grid = FrameGrid(*self.sound.frame_window())

    @classmethod
    def from_pretrained(cls, name: str) -> "SpeechRecognizer":
        """From a model folder or Hub id that holds processor and tokenizer, too.

        Raises:
            ValueError: there is none, a file is missing, or it has no trained CTC head.
        """
        if (Path(name) / "adapter_config.json").is_file():
            raise ValueError(f"{name!r} holds an adapter alone: merge it into its model first")
        try:
            with loading(name), errors_only("transformers"):
                config = AutoConfig.from_pretrained(name)
                if type(config) not in AutoModelForCTC._model_mapping:
                    raise ValueError(f"{name!r} is a {config.model_type} model, which has no CTC head in transformers")
                model, info = AutoModelForCTC.from_pretrained(name, output_loading_info=True)
                check_finite(model.state_dict(), name)
                run_channels_last(model)
                fresh = [key for key in info["missing_keys"] if key.startswith("lm_head")]
                if fresh:
                    raise ValueError(
                        f"{name!r} is no recogniser: it has no trained {' and '.join(fresh)}. A pretrained model must "
                        "be fine-tuned on recordings with their text before it can transcribe"
                    )
                return cls(model, AutoFeatureExtractor.from_pretrained(name), AutoTokenizer.from_pretrained(name))
        except OSError as error:
            raise ValueError(
                f"{name!r} can't be loaded: name a folder with config.json, model.safetensors, "
                f"preprocessor_config.json, tokenizer_config.json and vocab.json, or a Hub id ({error})"
            ) from error

    @property
    def sampling_rate(self) -> int:
        return self.feature_extractor.sampling_rate

    @property
    def frame_seconds(self) -> float:
        return self.grid.hop / self.sampling_rate

    def logits(self, recordings: Iterable[Any], **windows: Any) -> Iterator[Tensor | UnreadableError]:
        """Logits [T, V] of each recording, or its error; `windows` as in `LongAudio`."""
        # Padding changes the results of transformers' encoders, and of ours where the config asks for that.
        pads = getattr(self.model.config, "padding", None) == "exact"
        normalizes = self.sound.normalizes_waveforms()
        audio = LongAudio(self._forward, self.grid, self.sampling_rate, normalizes, pads, **windows)
        return audio.logits(recordings)

    def transcribe(
        self, recordings: Iterable[Any], beam: BeamDecoder | None = None, **windows: Any
    ) -> Iterator[Transcript | UnreadableError]:
        """Transcribe recordings in order; each result is given as soon as it is there.

        Args:
            recordings: files, their bytes, or {"array", "sampling_rate"}.
            beam: decodes by beam search; None takes the best letter of each frame.
            windows: `chunk_seconds`, `overlap_seconds`, `batch_size`, as in `LongAudio`.
        """
        for logits in self.logits(recordings, **windows):
            if isinstance(logits, UnreadableError):
                yield logits
            elif beam is None:
                yield greedy_transcript(logits, self.letters, self.frame_seconds)
            else:
                yield beam(logits, self.frame_seconds)

    @torch.inference_mode()
    def _forward(self, waveforms: Tensor, real: Tensor | None) -> Tensor:
        lengths = [waveforms.shape[1]] * len(waveforms) if real is None else real.sum(1).tolist()
        clips = [waveform[:length] for waveform, length in zip(waveforms, lengths, strict=True)]
        inputs = {name: value.to(self.device) for name, value in self.sound.inputs(clips).items()}
        inputs[self.model.main_input_name] = inputs[self.model.main_input_name].to(self.model.dtype)
        return self.model(**inputs).logits.float().cpu()


def transcribe(name: str, files: list[str], options: TranscribeOptions) -> Iterator[tuple[str, Transcript]]:
    """Transcribe files, one after the other.

    Args:
        name: model folder or Hub id.
        files: recordings of any format and length.
        options: how.

    Yields:
        A file and what it says.

    Raises:
        FileNotFoundError: a file is missing; nothing is computed then.
        ValueError: the model or the language model can't be used, or needs a library that is missing; at the end, files
            that could not be read.
    """
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{missing[0]} is a folder: name its files, e.g. {missing[0].rstrip('/')}/*"
            if Path(missing[0]).is_dir()
            else f"there is no file {missing[0]!r} ({len(missing)} of {len(files)} are missing)"
        )
    if options.lm is not None and not Path(options.lm).is_file():
        raise FileNotFoundError(
            f"there is no language model {options.lm!r}: name an ARPA file or a binary one of KenLM"
        )
    recognizer = SpeechRecognizer.from_pretrained(name)
    beam = None
    if options.lm is not None:
        settings = {name: getattr(options, name) for name in ("lm_weight", "word_bonus", "beam_width")}
        try:
            beam = BeamDecoder(recognizer.letters, options.lm, **settings)
        except ImportError as error:
            raise ValueError(f"--lm: {error}") from error
    windows = {name: getattr(options, name) for name in ("chunk_seconds", "overlap_seconds", "batch_size")}
    unread = []
    for file, result in zip(files, recognizer.transcribe(files, beam, **windows), strict=True):
        if isinstance(result, UnreadableError):
            unread.append(f"{file}: {result}")
        else:
            yield file, result
    if unread:
        raise ValueError(f"{len(unread)} of {len(files)} files can't be transcribed: {'; '.join(unread)}")
