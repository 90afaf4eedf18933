"""What the page shows, as HTML without files: a sample, its masks, the colours of its positions, its neighbors."""

from collections.abc import Iterable
from html import escape

from .across import AcrossModalities
from .explorer import Explorer, Shown

# Colors are gradio's own, which follow its light and dark mode.
STYLE = """
.d2v-beside { display: grid; gap: 1rem 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 16rem), 1fr)); }
.d2v-cards { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
.d2v-cards:has(.wide), .d2v-cards:has(p) { grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); }
.d2v-card { margin: 0; padding: .5rem; border: 1px solid var(--border-color-primary); border-radius: 8px;
  background: var(--background-fill-primary); overflow-wrap: anywhere; }
.d2v-card img { width: 100%; border-radius: 4px; margin: 0; }
.d2v-card audio { width: 100%; height: 2.25rem; margin-top: .4rem; }
.d2v-card figcaption, .d2v-note { font-size: .85rem; color: var(--body-text-color-subdued); margin-top: .35rem; }
.d2v-card p { margin: 0; }
.d2v-large .d2v-card { width: fit-content; max-width: 100%; }
.d2v-large img { width: auto; max-width: 100%; max-height: 17rem; }
.d2v-beside h3 { font-size: 1rem; margin: 0 0 .5rem; }
.d2v-run, .d2v-table { overflow-x: auto; }
.d2v-run img { width: 100%; min-width: 44rem; background: white; border-radius: 8px; }
.d2v-table :is(th, td) { white-space: nowrap; word-break: normal; }
"""


def sample_html(explorer: Explorer, sample: Shown) -> str:
    """A sample, a player of its sound, and its name."""
    caption = " · ".join([sample.name, *explorer.kind.captions([sample.inputs])])
    return f'<div class="d2v-large">{_card(_shown_and_heard(explorer, sample), caption)}</div>'


def mask_html(explorer: Explorer, sample: Shown, seed: int) -> str:
    """A sample under each of its masks, which are drawn by a seed: what the student sees."""
    try:
        masks = explorer.masks(sample, seed)
    except ValueError as error:  # too short
        return _note(f"No mask can be drawn: {error}")
    if masks is None:
        return _note("This model was not trained by hiding parts of its input: its config holds no masks.")
    canvas = explorer.kind.canvas([sample.inputs])
    return _cards(_card(canvas.mask_html(mask), f"{mask.mean():.0%} hidden") for mask in masks)


def colour_html(explorer: Explorer, sample: Shown, layer: int) -> str:
    """A sample, the colors of its positions by the model, and those by random weights."""
    canvas = explorer.kind.canvas([sample.inputs])
    colours = explorer.colours_of(sample, layer)
    cards = {name: _card(canvas.colour_html(one)) for name, one in colours.items()}
    return f'<div class="d2v-large">{_beside({explorer.kind.sample: _card(canvas.html())} | cards)}</div>'


def neighbour_html(explorer: Explorer, sample: Shown, layer: int) -> str:
    """The nearest samples of the data with their similarity, by the model beside those by random weights."""
    found = explorer.neighbours(sample, layer)
    return _beside({name: samples_html(explorer, near) for name, near in found.items()})


def across_html(across: AcrossModalities, explorer: Explorer, sample: Shown) -> str:
    """The nearest samples of the other modalities with their similarity."""
    found = across.nearest(explorer.kind.name, sample)
    return _beside(
        {across.explorers[name].kind.title: samples_html(across.explorers[name], near) for name, near in found.items()}
    )


def samples_html(explorer: Explorer, near: Iterable[tuple[int, float]]) -> str:
    """Samples of the data with a similarity each."""
    cards = []
    for number, similarity in near:
        sample = explorer.sample(number)
        cards.append(_card(_shown_and_heard(explorer, sample), f"{similarity:.2f} · {sample.name}"))
    return _cards(cards)


def _shown_and_heard(explorer: Explorer, sample: Shown) -> str:
    player = explorer.kind.player(sample.example, explorer.stream.column, sample.inputs)
    return explorer.kind.canvas([sample.inputs]).html() + player


def _beside(parts: dict[str, str]) -> str:
    columns = [f"<section><h3>{escape(title)}</h3>{html}</section>" for title, html in parts.items()]
    return f'<div class="d2v-beside">{"".join(columns)}</div>'


def _cards(cards: Iterable[str]) -> str:
    return f'<div class="d2v-cards">{"".join(cards)}</div>'


def _card(content: str, caption: str = "") -> str:
    shown = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="d2v-card">{content}{shown}</figure>'


def _note(text: str) -> str:
    return f'<p class="d2v-note">{escape(text)}</p>'
