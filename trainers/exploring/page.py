"""The page itself, in gradio: what is clicked, and what is drawn anew then. All it shows is made in `views.py`."""

import random
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import datasets

from ..modalities.base import Modality
from .across import AcrossModalities
from .explorer import Explorer, Shown
from .run_log import RunLog
from .views import STYLE, across_html, colour_html, mask_html, neighbour_html, sample_html

LARGEST_SEED = 2**31 - 1


def require_gradio() -> ModuleType:
    """Import gradio, which only this page needs.

    Raises:
        ImportError: it is missing; says how to install it.
    """
    try:
        import gradio
    except ImportError as error:
        raise ImportError(f"gradio can't be imported ({error}): pip install 'gradio>=6.31,<7'") from error
    return gradio


def build_page(
    title: str, explorers: list[Explorer], run: RunLog | None = None, across: AcrossModalities | None = None
) -> Any:
    """Build the page, a `gradio.Blocks`; nothing is served yet.

    Args:
        title: of the page, e.g. the model's name.
        explorers: one for each modality; each has a tab.
        run: what to show of the run that the model is from; None for nothing.
        across: finds samples of other modalities; None for a model that can't.

    Raises:
        ImportError: gradio is missing.
    """
    gr = require_gradio()
    with gr.Blocks(title=f"{title} · data2vec", analytics_enabled=False) as page:
        gr.HTML(f"<style>{STYLE}</style>", padding=False)
        gr.Markdown(f"# {title}")
        with gr.Tabs():
            for explorer in explorers:
                with gr.Tab(explorer.kind.title.capitalize()):
                    tab = _lay_out_tab(gr, explorer, search=across is not None)
                    _connect_tab(gr, page, tab, explorer, across)
            if run is not None:
                with gr.Tab("Run"):
                    gr.Markdown(run.diagnosis)
                    gr.Markdown(run.table, elem_classes="d2v-table")
                    gr.HTML(f'<div class="d2v-run" tabindex="0">{run.curves}</div>', padding=False)
    return page


class _Tab(NamedTuple):
    """What a tab consists of, from top to bottom: what a person changes, and what is drawn then."""

    number: Any
    another: Any
    own: Any
    shown: Any
    redraw: Any
    seed: Any
    masks: Any
    layer: Any
    colours: Any
    neighbours: Any
    others: list[Any]


def _lay_out_tab(gr: Any, explorer: Explorer, search: bool) -> _Tab:
    """Lay out a modality's tab; with `search`, also what is nearest in other modalities."""
    kind = explorer.kind
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            number = gr.Slider(0, len(explorer) - 1, value=0, step=1, label=f"{kind.sample.capitalize()} of the data")
            another = gr.Button("Another one", size="sm")
            own = own_input(gr, kind)
        with gr.Column(scale=1, min_width=280):
            shown = gr.HTML(padding=False)
    with gr.Row():
        gr.Markdown(f"## Masks\nWhat the student sees of the {kind.sample}; it predicts the rest.")
        redraw, seed = gr.Button("Draw other masks", size="sm", scale=0, min_width=160), gr.State(0)
    masks = gr.HTML(padding=False)
    gr.Markdown(
        f"## Features\nThe color of each {kind.position} is what is there: equal colors, alike features. What "
        "its place alone explains is taken out. Colors of the two sides are unrelated."
    )
    layer = gr.Slider(
        0,
        explorer.num_layers,
        value=explorer.num_layers,
        step=1,
        label="Layer",
        info=f"0: input of the first layer; {explorer.num_layers}: the encoder's output",
    )
    colours = gr.HTML(padding=False)
    gr.Markdown(
        f"## Nearest {kind.sample}s\nAmong {len(explorer):,} of the data, at the same layer, by the cosine of their "
        f"features (pooling: {explorer.pooling}) after the mean is taken out."
    )
    neighbours = gr.HTML(padding=False)
    others = []
    if search:
        gr.Markdown(
            "## Other modalities\nThe samples whose latents are nearest to those that are predicted of this "
            f"{kind.sample}, by the cosine."
        )
        others = [gr.HTML(padding=False)]
    return _Tab(number, another, own, shown, redraw, seed, masks, layer, colours, neighbours, others)


def _connect_tab(gr: Any, page: Any, tab: _Tab, explorer: Explorer, across: AcrossModalities | None) -> None:
    """Say what is drawn anew when something of a tab changes."""

    def current(number: int, own: Any) -> Shown:
        if not own:
            return explorer.sample(int(number or 0))  # an emptied field is None
        try:
            return explorer.own(own)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def draw_sample(number: int, own: Any, seed: int, layer: int) -> list[str]:
        sample = current(number, own)
        drawn = [sample_html(explorer, sample), mask_html(explorer, sample, seed), *draw_layer(sample, layer)]
        return drawn if across is None else [*drawn, across_html(across, explorer, sample)]

    def draw_layer(sample: Shown, layer: int) -> list[str]:
        return [one(explorer, sample, int(layer or 0)) for one in (colour_html, neighbour_html)]

    everything = {
        "fn": draw_sample,
        "inputs": [tab.number, tab.own, tab.seed, tab.layer],
        "outputs": [tab.shown, tab.masks, tab.colours, tab.neighbours, *tab.others],
        "show_progress": "minimal",
    }
    later = partial(gr.on, trigger_mode="always_last")
    later([page.load, tab.number.change, tab.own.change], **everything)
    tab.number.input(lambda: None, outputs=tab.own, show_progress="minimal")
    tab.another.click(
        lambda: (random.randint(0, len(explorer) - 1), None), outputs=[tab.number, tab.own], show_progress="minimal"
    )
    tab.redraw.click(lambda: random.randint(0, LARGEST_SEED), outputs=tab.seed, show_progress="minimal").then(
        lambda number, own, seed: mask_html(explorer, current(number, own), seed),
        inputs=[tab.number, tab.own, tab.seed],
        outputs=tab.masks,
        show_progress="minimal",
    )
    later(
        [tab.layer.change],
        fn=lambda number, own, layer: draw_layer(current(number, own), layer),
        inputs=[tab.number, tab.own, tab.layer],
        outputs=[tab.colours, tab.neighbours],
        show_progress="minimal",
    )


def own_input(gr: Any, kind: Modality) -> Any:
    """Where a person puts a sample of one's own in: by the medium, since gradio has these four."""
    label = f"Or your own {kind.medium.noun}"
    if kind.medium.feature is datasets.Image:
        sources = ["upload", "clipboard", "webcam"]
        return gr.Image(type="filepath", label=label, height=220, sources=sources, buttons=["fullscreen"])
    if kind.medium.feature is datasets.Audio:
        return gr.Audio(type="filepath", label=label, buttons=["download"])  # and not one to share it
    if kind.medium.is_text:
        return gr.Textbox(label=label, lines=3)
    return gr.File(label=label, file_types=sorted(kind.medium.suffixes))
