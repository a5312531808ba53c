"""Screenshots of a running gateway's page, narrow and wide, light and dark, to be looked at.

python -m tests.server.gateway.screenshots FOLDER [--url http://127.0.0.1:8080]
python -m tests.server.gateway.screenshots docs/images --readme    # the one picture of the README: page.png
"""

import argparse
import random
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.headlines import unique
from tests.server.gateway import browsers

WIDTHS = (375, 1280)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="of a gateway that asks for no key")
    parser.add_argument("--readme", action="store_true", help="the upper part of the page, in 64 colours")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with browsers.chromium() as browser:
        if browser is None:
            raise SystemExit("no Chromium on this machine: apt-get install chromium, or playwright install chromium")
        if arguments.readme:
            shoot_for_readme(browser, arguments.url, arguments.folder / "page.png")
            return
        for width in WIDTHS:
            for scheme in SCHEMES:
                path = arguments.folder / f"page-{width}-{scheme}.png"
                shoot(browser, arguments.url, width, scheme, path)
                print(path)


def shoot(browser: Browser, url: str, width: int, scheme: Literal["light", "dark"], path: Path) -> None:
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(url)
        fill(page)
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        page.wait_for_timeout(2500)  # so that the live panel has something to say
        page.screenshot(path=path, full_page=True)


def shoot_for_readme(browser: Browser, url: str, path: Path) -> None:
    """Write a small picture of an article's answer: what a reader sees first."""
    with browser.new_context(viewport={"width": 1100, "height": 1010}, color_scheme="light") as context:
        page = context.new_page()
        page.goto(url)
        fill(page)
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        page.wait_for_timeout(2500)
        page.screenshot(path=path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(64).save(path, optimize=True)
    print(path)


def fill(page: Page) -> None:
    """Classify the example, and some rows, one of them empty."""
    page.click("#article-example")
    page.click("#article button[type=submit]")
    page.wait_for_selector("#article-marked mark")
    headlines = random.Random(7).sample(unique(400), 250)
    page.fill("#file-paste", "text\n" + "".join(f'"{text}"\n' for text in headlines) + '" "\n')
    page.click("#file button[type=submit]")
    page.wait_for_selector("#file-download:visible")


if __name__ == "__main__":
    main()
