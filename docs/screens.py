"""Takes pictures of the built site with Chromium, wide and narrow, light and dark, and says what is wrong in a page.

    make docs-screens

A page is wrong if its console has an error, if something in it is not loaded, if it is wider than the window, if a
person who reads with difficulty or without a mouse can't use it (`WRONG_FOR_PEOPLE`, and links that the Tab key does
not reach).
"""

import shutil
import sys
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser, Page, TimeoutError, sync_playwright

BUILD = Path(__file__).parents[1] / "build"
SITE, SCREENS = BUILD / "site", BUILD / "screens"
WINDOWS = {"wide": (1280, 900), "narrow": (400, 800)}

# Contrast as WCAG 2 computes it, level AA; hidden text, and text whose ground is a picture, is left out.
WRONG_FOR_PEOPLE = """() => {
    const wrong = new Set();
    const luminance = color => color.slice(0, 3).map(value => value / 255)
        .map(value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, channel) => sum + value * [0.2126, 0.7152, 0.0722][channel], 0);
    const context = Object.assign(document.createElement("canvas"), {width: 1, height: 1})
        .getContext("2d", {willReadFrequently: true});
    const rgba = text => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = text;
        context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data];
    };
    const over = (top, below) => top.slice(0, 3)
        .map((value, channel) => value * top[3] / 255 + below[channel] * (1 - top[3] / 255));
    const ground = element => element === null ? [255, 255, 255]
        : over(rgba(getComputedStyle(element).backgroundColor), ground(element.parentElement));
    const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (words.nextNode()) {
        const element = words.currentNode.parentElement, style = getComputedStyle(element);
        const said = words.currentNode.textContent.trim();
        const seen = element.checkVisibility({opacityProperty: true, visibilityProperty: true});
        if (!said || !seen || element.offsetWidth < 2 || element.closest("svg, math")) continue;
        const below = ground(element);
        const [dark, light] = [luminance(over(rgba(style.color), below)), luminance(below)].sort((a, b) => a - b);
        const size = parseFloat(style.fontSize), ratio = (light + 0.05) / (dark + 0.05);
        const needed = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
        if (ratio < needed) wrong.add(`contrast ${ratio.toFixed(1)}: "${said.slice(0, 30)}"`);
        if (size < 11) wrong.add(`letters of ${size} pixels: "${said.slice(0, 30)}"`);
    }
    for (const image of document.images) if (!image.alt) wrong.add(`no alternative text: ${image.src}`);
    for (const link of document.querySelectorAll("a[href], button, input")) {
        const name = link.innerText || link.ariaLabel || link.title || link.placeholder || link.textContent.trim()
            || link.querySelector("img[alt], svg title");
        const seen = link.checkVisibility({visibilityProperty: true});
        if (!name && seen) wrong.add(`no name: ${link.outerHTML.slice(0, 80)}`);
    }
    if (!document.documentElement.lang) wrong.add("no language");
    if (!document.title) wrong.add("no title");
    if (document.querySelectorAll("h1").length !== 1) wrong.add("not one h1");
    return [...wrong];
}"""


def look(browser: Browser, name: str, window: str, scheme: str) -> list[str]:
    """Take the picture of a page, from top to bottom; returns what is wrong with it."""
    width, height = WINDOWS[window]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(f"not loaded: {request.url}"))
    page.on("request", lambda one: None if one.url.startswith(("file:", "data:")) else wrong.append(f"asks {one.url}"))
    page.goto(f"file://{SITE / name}.html")
    needed = page.evaluate("document.documentElement.scrollWidth")
    if needed > width:
        wrong.append(f"is {needed} pixels wide in a window of {width}")
    wrong += page.evaluate(WRONG_FOR_PEOPLE)
    page.screenshot(path=SCREENS / f"{name.replace('/', '_')}_{window}_{scheme}.png", full_page=True)
    context.close()
    return wrong


def without_a_mouse(page: Page) -> list[str]:
    """The Tab key reaches a link of the text and shows where it is, `/` goes to the search, which finds a page."""
    wrong = []
    page.goto(f"file://{SITE / 'index.html'}")
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('article a:not(.headerlink)')"):
            break
    else:
        wrong.append("200 times Tab reach no link of the text")
    if page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "none":
        wrong.append("the link that Tab reached is not marked")
    page.keyboard.press("Enter")
    try:
        page.wait_for_url(lambda url: not url.endswith("index.html"), timeout=10_000)
    except TimeoutError:
        wrong.append("Enter does not follow a link")
    page.locator(".sidebar-search").first.focus()
    page.keyboard.type("collapse")
    page.keyboard.press("Enter")
    try:
        page.get_by_role("link", name="Troubleshooting").and_(page.locator("#search-results a")).first.wait_for()
    except TimeoutError:
        wrong.append("a search for 'collapse' does not find Troubleshooting")
    return wrong


FOCUSED_IN_SIGHT = """selector => {
    const focused = document.activeElement, place = focused.getBoundingClientRect();
    return focused.matches(selector) && place.left >= 0 && place.right <= innerWidth;
}"""


def sidebar_without_a_mouse(page: Page) -> list[str]:
    """In a narrow window the list of pages opens and closes by keyboard, leads to pages, and is skipped when closed."""
    wrong = []
    page.goto(f"file://{SITE / 'install.html'}")

    def reached(selector: str, presses: int) -> bool:
        for _ in range(presses):
            page.keyboard.press("Tab")
            if page.evaluate(FOCUSED_IN_SIGHT, selector):
                return True
        wrong.append(f"{presses} times Tab do not reach {selector} within a narrow window")
        return False

    if not reached(".nav-overlay-icon", 3):
        return wrong
    if page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "none":
        wrong.append("the sidebar's button is not marked when it has the focus")
    for key in ("Enter", "Space"):
        page.keyboard.press(key)
        page.wait_for_timeout(400)  # it slides in
        if not page.evaluate(FOCUSED_IN_SIGHT, ".sidebar-drawer *"):
            wrong.append(f"{key} does not open the sidebar")
        page.keyboard.press("Escape")
        page.wait_for_timeout(400)
        if not page.evaluate(FOCUSED_IN_SIGHT, ".nav-overlay-icon[aria-expanded=false]"):
            wrong.append("Escape does not lead from the sidebar back to its button")
    for _ in range(10):
        page.keyboard.press("Tab")
        if not page.evaluate(FOCUSED_IN_SIGHT, "*"):
            wrong.append("Tab reaches something out of sight")
    page.locator(".nav-overlay-icon").focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(400)
    if reached(".sidebar-tree a", 5):
        page.screenshot(path=SCREENS / "sidebar_by_keyboard.png")
        page.keyboard.press("Enter")
        try:
            page.wait_for_url(lambda url: not url.endswith("install.html"), timeout=10_000)
        except TimeoutError:
            wrong.append("Enter does not follow a link of the sidebar")
    return wrong


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is missing: apt-get install -y chromium")
    SCREENS.mkdir(parents=True, exist_ok=True)
    pages = sorted(str(path.relative_to(SITE).with_suffix("")) for path in SITE.rglob("*.html"))
    # Of the pages of source files one stands for all; without its script the page of the search is empty.
    pages = [name for name in pages if not name.startswith("source/") or name == "source/trainers/cli.py"]
    pages.remove("search")
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, window, scheme in product(pages, WINDOWS, ("light", "dark")):
            found += [f"{name}, {window}, {scheme}: {one}" for one in look(browser, name, window, scheme)]
        found += without_a_mouse(browser.new_page())
        width, height = WINDOWS["narrow"]
        found += sidebar_without_a_mouse(browser.new_page(viewport={"width": width, "height": height}))
        browser.close()
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
