"""The page itself, clicked through in headless Chromium: wide and narrow, light and dark. Screens go to build/screens.

make explore-screens
"""

import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny_tasks

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: apt-get install -y chromium"),
]
pytest.importorskip("gradio", reason="gradio is missing: make explore-screens brings it")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: make explore-screens brings it")

SCREENS = Path(__file__).parents[2] / "build" / "screens"
WINDOWS = {"wide": (1280, 900), "narrow": (400, 800)}
SECONDS = 120  # for a page to be there, on a busy machine
DATA = {"images 2.0": tiny_tasks.few_digits, "spectrograms 2.0": tiny_tasks.sounds, "text 2.0": tiny_tasks.texts}


@contextmanager
def served(command, folder):
    """The address of a page that a command serves; Ctrl-C must end it with exit code 0."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background, shells ignore it
    )
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            address = re.search(r"http://127\.0\.0\.1:\d+", line)
            if address:
                yield address[0]
                break
        else:
            pytest.fail("".join(said))
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=SECONDS)[0]
        assert process.returncode == 0 and "Traceback" not in rest, rest
    finally:
        process.kill()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@contextmanager
def looking(browser, address, window="wide", scheme="light"):
    """An opened page whose first sample is drawn; nothing may come from elsewhere, and the console stays empty."""
    width, height = WINDOWS[window]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page, wrong = context.new_page(), []
    page.set_default_timeout(1_000 * SECONDS)
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda one: wrong.append(one.url) if not one.url.startswith((address, "data:", "blob:")) else None
    )
    page.goto(address)
    page.wait_for_selector(".d2v-beside .d2v-cards")
    yield page
    assert not wrong
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def screen(page, name):
    SCREENS.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(500)
    page.screenshot(path=SCREENS / f"explore_{name}.png", full_page=True)


def html(page, heading):
    """What is drawn between a heading and the next one."""
    return page.evaluate(
        """heading => {
            const found = [...document.querySelectorAll("h2, .d2v-card")];
            const start = found.findIndex(one => one.tagName === "H2" && one.innerText.trim() === heading) + 1;
            const length = [...found.slice(start), document.createElement("h2")].findIndex(one => one.tagName === "H2");
            return found.slice(start, start + length).map(one => one.outerHTML).join();
        }""",
        heading,
    )


def changes(page, heading, action):
    """Require that an action changes what is drawn below a heading."""
    before = html(page, heading)
    action()
    for _ in range(10 * SECONDS):
        if html(page, heading) != before:
            return
        page.wait_for_timeout(100)
    pytest.fail(f"{heading} stayed as it was")


@pytest.fixture(scope="module", params=DATA)
def place(request, tmp_path_factory):
    kind, folder = request.param, tmp_path_factory.mktemp("explored")
    tokenizer = None
    if kind.startswith("text"):
        import data2vec_cli

        tokenizer = folder / "tokenizer"
        argv = ["tokenizer", "--dataset", "python-docs", "--vocab_size", "300", "--output_dir", str(tokenizer)]
        assert data2vec_cli.main(argv) == 0
    tiny_tasks.body(kind, folder / "model", tokenizer)
    DATA[kind](folder / "data")
    return kind.split()[0], folder


def explore(*words):
    return [sys.executable, "-m", "data2vec_cli", "explore", "model", "data", "--limit", "16", "--no_browser", *words]


def test_click_through(place, browser):
    kind, folder = place
    with served(explore(), folder) as address:
        for window, scheme in (("wide", "light"), ("wide", "dark"), ("narrow", "dark")):
            with looking(browser, address, window, scheme) as page:
                screen(page, f"{kind}_{window}_{scheme}")
        with looking(browser, address, "narrow", "light") as page:
            changes(page, "Masks", page.get_by_role("button", name="Draw other masks").click)
            layer = page.get_by_role("slider", name=re.compile("Layer"))
            changes(page, "Features", lambda: (layer.focus(), page.keyboard.press("ArrowLeft")))
            sample = page.get_by_role("slider").first
            changes(page, "Masks", lambda: (sample.focus(), page.keyboard.press("ArrowRight")))
            changes(page, "Masks", page.get_by_role("button", name="Another one").click)
            if kind == "text":
                own = page.get_by_label("Or your own text")
                changes(page, "Masks", lambda: own.fill("A method of strings returns a copy of the string."))
            else:
                file = next(path for path in sorted(folder.rglob("*.wav")) or [digit(folder)])
                changes(page, "Masks", lambda: page.locator("input[type=file]").first.set_input_files(file))
            page.get_by_text(re.compile("^your ")).first.wait_for()
            screen(page, f"{kind}_own")


def digit(folder):
    from modeling_data2vec.trainers.modalities.image import digits

    path = folder / "own.png"
    digits("test")[7]["image"].resize((32, 32)).save(path)
    return path


def test_a_space_starts_from_its_folder(tmp_path, browser):
    folder = tmp_path
    tiny_tasks.body("images 2.0", folder / "model")
    tiny_tasks.few_digits(folder / "data")
    assert subprocess.run(explore("--export", "space"), cwd=folder).returncode == 0
    shutil.move(folder / "model", folder / "elsewhere")
    command = ["env", "-u", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED=1", sys.executable, "app.py"]
    with served(command, folder / "space") as address, looking(browser, address) as page:
        assert page.locator("h1").inner_text() == "model"
    assert (folder / "space" / "modeling_data2vec" / "__pycache__").is_dir(), "the package's copy is what was imported"
