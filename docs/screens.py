"""Takes pictures of the built site with Chromium, wide and narrow, light and dark, and says what is wrong in a page.

    make docs-screens

A page is wrong if its console has an error, if it is wider than the window, or if something in it is not loaded.
"""

import shutil
import sys
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

BUILD = Path(__file__).parents[1] / "build"
SITE, SCREENS = BUILD / "site", BUILD / "screens"
PAGES = ["index", "method", "images", "troubleshooting", "training", "api/features", "api/training"]
PAGES += ["source/trainers/cli.py"]
WINDOWS = {"wide": (1280, 900), "narrow": (400, 800)}


def look(browser: Browser, page_name: str, window: str, scheme: str) -> list[str]:
    """Take the picture of a page; returns what is wrong with it."""
    width, height = WINDOWS[window]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("requestfailed", lambda request: wrong.append(f"not loaded: {request.url}"))
    page.goto(f"file://{SITE / page_name}.html")
    needed = page.evaluate("document.documentElement.scrollWidth")
    if needed > width:
        wrong.append(f"is {needed} pixels wide in a window of {width}")
    page.screenshot(path=SCREENS / f"{page_name.replace('/', '_')}_{window}_{scheme}.png")
    context.close()
    return wrong


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is missing: apt-get install -y chromium")
    SCREENS.mkdir(parents=True, exist_ok=True)
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for page_name, window, scheme in product(PAGES, WINDOWS, ("light", "dark")):
            wrong = look(browser, page_name, window, scheme)
            found += [f"{page_name}, {window}, {scheme}: {one}" for one in wrong]
        browser.close()
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
