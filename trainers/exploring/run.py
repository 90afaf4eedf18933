"""`data2vec explore`: from names of a model and data to a page that is served until Ctrl-C."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from transformers.utils import logging

from modeling_data2vec import Data2Vec2Config

from ..embedding.data import open_data
from ..files.model_folders import loading
from ..modalities.encoders import load_encoder, move_to
from ..modalities.names import by_modality_name
from ..runs.stopping import StoppedError
from .across import across_modalities
from .explorer import Explorer
from .options import ExploreOptions
from .page import build_page, require_gradio
from .run_log import read_run
from .space import check_space_folder, write_space

logger = logging.get_logger(__name__)


def explore(model: str, data: Sequence[str], options: ExploreOptions) -> None:
    """Serve the page until Ctrl-C, or with `options.export` write it as a Space.

    Args:
        model: folder or Hub id of an encoder; of a run's folder the curves are shown, too.
        data: folder, table, saved dataset or Hub id; of a joint model MODALITY=DATA, for one modality or more.

    Raises:
        ImportError: gradio is missing.
        ValueError: model and data don't fit together, no sample can be read, or the port is taken.
    """
    gradio = require_gradio()  # before anything is loaded
    if options.export is not None:
        folder = Path(options.export)
        check_space_folder(folder)
        explorers = open_explorers(model, data, options)
        write_space(folder, model, explorers, title=page_title(model), gradio=gradio.__version__)
        logger.info(f"Wrote {folder}: `python app.py` there starts the page, and so does a Space of these files.")
        return
    page = open_page(model, data, options)
    try:
        _, address, _ = page.launch(
            server_name=options.host,
            server_port=options.port,
            inbrowser=not options.no_browser,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise ValueError(f"no page can be served at {options.host}, port {options.port}: {error}") from error
    logger.info(f"{address} shows the page. Ctrl-C ends it.")
    try:
        threading.Event().wait()
    except StoppedError as stopped:
        if stopped.number != 2:  # SIGINT is how the page is meant to end
            raise
    finally:
        page.close(verbose=False)


def open_page(model: str, data: Sequence[str], options: ExploreOptions | None = None, *, title: str = "") -> Any:
    """Build the page, a `gradio.Blocks`, with all that it shows; nothing is served yet.

    Args:
        model, data: as in `explore`.
        options: default: those of the command.
        title: of the page; default: the model's name.
    """
    explorers = open_explorers(model, data, options or ExploreOptions())
    across = across_modalities(model, explorers)
    return build_page(title or page_title(model), explorers, read_run(model), across)


def page_title(model: str) -> str:
    """What the page calls the model: the last part of its path or id."""
    return Path(model).resolve().name if Path(model).exists() else model


def open_explorers(model: str, data: Sequence[str], options: ExploreOptions) -> list[Explorer]:
    """Load the model and embed its data, one modality after the other; arguments and errors as in `explore`."""
    explorers = []
    for part, source in _sources(model, data, options.modality):
        encoder, kind = load_encoder(model, options.processor, part)
        if options.device is not None:
            move_to(encoder, options.device)
        samples = open_data(kind, source, split=options.split, column=options.column, cut=True)
        settings: dict[str, Any] = {"limit": options.limit, "pooling": options.pooling}
        explorers.append(Explorer(encoder, kind, samples, **settings, progress=True))
    return explorers


def _sources(model: str, data: Sequence[str], part: str | None) -> Sequence[tuple[str | None, str]]:
    """The data of each modality that is to be shown; of a model that has only one, it has no name."""
    with loading(model):
        config = AutoConfig.from_pretrained(model)
    if not isinstance(config, Data2Vec2Config):
        if len(data) > 1:
            raise ValueError(f"DATA has {len(data)} sources, but {model} has a single modality: give one")
        return [(part, data[0])]
    if part is not None:
        return [(part, data[0])]
    named = by_modality_name(data, config.modalities, "DATA")
    if len(named) > len(data):
        raise ValueError(
            f"{model} has the modalities {', '.join(config.modalities)}: say what the data are, as in "
            f"{config.modalities[0]}={data[0]}"
        )
    return list(named.items())
