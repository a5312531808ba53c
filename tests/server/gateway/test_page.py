"""The page at / in a real browser, by keyboard and by mouse."""

import re
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.server.gateway.browsers import Watched, classify, classify_rows
from tests.server.gateway.conftest import Served

SCRIPT = "<img src=x onerror=alert(1)><script>alert(2)</script>"
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def shares(page: Page, bars: str) -> dict[str, float]:
    """Return the percentages in a list of bars."""
    rows = page.locator(f"{bars} li").all()
    shown = {row.locator(".name").inner_text(): row.locator(".value").inner_text() for row in rows}
    return {name: float(value.split("(")[-1].split(" ")[0]) for name, value in shown.items()}


def test_by_keyboard_alone(page: Page) -> None:
    def tab_to(selector: str) -> None:
        for _ in range(8):
            page.keyboard.press("Tab")
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        pytest.fail(f"{selector} is not reached; {page.evaluate('document.activeElement.outerHTML')} is")

    tab_to("#article-text")
    page.keyboard.type("The shares of 5000 firms")
    tab_to("#article [value=balanced]")
    page.keyboard.press("ArrowRight")
    tab_to("#article-explain")
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    tab_to("#article [type=submit]")
    with page.expect_request("**/v1/classify") as asked:
        page.keyboard.press("Enter")
    assert asked.value.post_data_json["quality"] == "best"
    expect(page.locator("#article-label")).to_have_text("Business")
    expect(page.locator("#article-words-most li").first).to_contain_text("shares")
    tab_to("#article-members .scroll")
    tab_to("#article-marked")
    tab_to("#live-pause")
    page.keyboard.press("Enter")
    expect(page.locator("#live-pause")).to_have_text("Resume")
    tab_to("#file-input")
    tab_to("#file-paste")
    page.keyboard.type("id,headline\n1,a treaty\n2,a match\n")
    expect(page.locator("#file-columns label")).to_have_text([" id", " headline"])  # all that was typed is read
    tab_to("[name=column][value=id]")
    page.keyboard.press("Space")
    tab_to("[name=column][value=headline]")
    tab_to("#file [value=balanced]")
    page.keyboard.press("ArrowLeft")
    tab_to("#file [type=submit]")
    with page.expect_request("**/v1/classify/file*") as sent:
        page.keyboard.press("Enter")
    assert "column=id&column=headline&quality=fast" in sent.value.url
    expect(page.locator("#file-rows tbody tr")).to_have_count(2)
    tab_to("#file-download")
    with page.expect_download() as waiting:
        page.keyboard.press("Enter")
    assert waiting.value.suggested_filename == "pasted-newsdesk.csv"
    tab_to("#file .scroll")
    tab_to("footer a")


def test_one_article(page: Page, open_gateway: httpx.Client) -> None:
    text = "The 😀 chip 5000 of nobody"
    classify(page, text)
    expect(page.locator("#article-label")).to_have_text("Sci/Tech")
    bars = shares(page, "#article-bars")
    assert list(bars) == sorted(bars, key=lambda name: -bars[name])
    assert sum(bars.values()) == pytest.approx(100, abs=0.2)
    assert bars["Sci/Tech"] == 75.0
    request = {"text": text, "members": True}
    (item,) = open_gateway.post("/v1/classify", json=request).json()["items"]
    expect(page.locator("#article-how")).to_contain_text(f"answered by {item['answered_by']} in ")
    assert page.locator("#article-members tbody th").all_inner_texts() == list(item["members"])
    expect(page.locator("#article-said")).to_contain_text("Sci/Tech, 75.0 %, answered by")
    expect(page.locator("#article-marked mark")).to_have_text(["5000"])  # a stand-in's Sci/Tech needs no word
    expect(page.locator("#article-marked")).to_have_text(text)


def test_what_is_not_sure_is_said(page: Page) -> None:
    classify(page, "a match lol")
    expect(page.locator("#article-unsure")).to_be_visible()
    expect(page.locator("#article-unsure")).to_contain_text("Not sure.")
    expect(page.locator("#article-said")).to_contain_text("Sports, not sure, ")
    classify(page, "a match")
    expect(page.locator("#article-unsure")).to_be_hidden()


def test_a_wrong_label_is_corrected(page: Page, open_gateway: httpx.Client) -> None:
    text = "a match that nobody corrected before"
    classify(page, text)
    expect(page.locator("#article-label")).to_have_text("Sports")
    right = page.get_by_label("Not right? It is")
    expect(right.locator("option")).to_have_text(["Business", "Sci/Tech", "World"])  # likeliest first
    right.select_option("World")
    with page.expect_request("**/v1/feedback") as sent:
        page.get_by_role("button", name="Send").click()
    assert sent.value.post_data_json == {"text": text, "predicted": "Sports", "label": "World"}
    expect(page.locator("#correction-said")).to_have_text("Kept: it is World. Thank you.")
    classify(page, "shares")
    expect(page.locator("#article-label")).to_have_text("Business")
    expect(page.locator("#correction-said")).to_be_empty()


def test_without_feedback_nothing_is_corrected(watched: Watched, served: Served) -> None:
    page = watched.open(served.url)
    assert page.evaluate("document.body.dataset.feedback") == "no"
    expect(page.locator("#correction")).to_be_hidden()


def test_what_is_wrong_is_said(page: Page, watched: Watched) -> None:
    problem = page.locator("#article-problem")
    classify(page, "  ")
    expect(problem).to_have_text("This text is empty, expected at least one visible character.")
    expect(page.get_by_label("A line, a paragraph")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#article").get_by_role("alert")).to_be_visible()
    expect(page.locator("#article-answer")).to_be_hidden()
    classify(page, "a match")
    expect(page.locator("#article-label")).to_have_text("Sports")
    expect(problem).to_be_hidden()
    classify(page, "x" * 1_100_000)
    expect(problem).to_contain_text("The body is larger than 1 MiB")
    classify(page, "stand-in, fail")
    expect(problem).to_contain_text("The model failed on the request")
    page.get_by_role("button", name="Classify all").click()
    expect(page.locator("#file-problem")).to_contain_text("No rows: choose a CSV file")
    classify_rows(page, "id,text\n1,a match\n2,a treaty\n3,\n4,a bridge\n")
    expect(page.locator("#file-said")).to_contain_text("3 answered, 1 refused")
    expect(page.locator("#file-rows .refused")).to_have_text("empty, expected at least one visible character")
    page.route("**/v1/classify", lambda route: route.abort())
    classify(page, "a match")
    expect(problem).to_contain_text("the gateway cannot be reached")
    assert all(error.startswith("Failed to load resource") for error in watched.errors)  # the browser's own words
    watched.errors.clear()


def test_texts_are_shown_as_they_are(page: Page, watched: Watched) -> None:
    classify(page, f"shares {SCRIPT}")
    expect(page.locator("#article-words-most li").first).to_contain_text("shares")
    assert page.locator("#article-marked").inner_text() == f"shares {SCRIPT}"
    name = f"text{SCRIPT}"
    classify_rows(page, f"{name},<b>\n{SCRIPT},2\n")
    expect(page.locator("#file-rows tbody td").nth(1)).to_have_text(SCRIPT)
    assert page.locator("#file-columns label").all_inner_texts() == [name, "<b>"]
    assert page.locator("#article img, #file img, main script, #file b").count() == 0
    refused = page.evaluate("() => { try { document.body.innerHTML = '<p>' } catch (error) { return error.name } }")
    assert refused == "TypeError"
    assert ["TrustedHTML" in error for error in watched.errors] == [True]
    watched.errors.clear()


def test_the_live_panel(page: Page) -> None:
    expect(page.locator("#state")).to_have_text("Ready")
    classify(page, "shares")
    expect(page.locator("#live-most")).to_have_text(re.compile("[1-9]"))
    expect(page.locator("#live-p50")).to_contain_text("ms")
    expect(page.locator("#live-cache")).to_have_text("off")
    page.get_by_role("button", name="Pause").click()
    line = page.locator("#live-chart polyline")
    before = line.get_attribute("points") or ""
    page.wait_for_timeout(1500)
    expect(line).to_have_attribute("points", before)
    page.get_by_role("button", name="Resume").click()
    expect(line).not_to_have_attribute("points", before)


def test_with_keys(watched: Watched, served: Served) -> None:
    page = watched.open(served.url)
    field, use = page.get_by_label("Key or token"), page.get_by_role("button", name="Use it")
    expect(page.locator("#key-said")).to_contain_text("This gateway asks for a key")
    assert [url for url in watched.requests if "/v1/" in url] == []
    field.fill("nd_wrong")
    use.click()
    expect(page.locator("#key-said")).to_contain_text("The key is not valid: unknown, expired or revoked.")
    classify(page, "shares")
    expect(page.locator("#article-problem")).to_contain_text("A key or token is needed")
    expect(page.locator("#article-problem")).to_contain_text("Enter a valid one under “API key”.")
    watched.errors.clear()  # the browser's own words about status 401
    field.fill(f" {served.keys['reader']} ")
    page.keyboard.press("Enter")
    expect(page.locator("#key-said")).to_have_text("The key is good.")
    expect(page.locator("#state")).to_have_text("Ready")
    classify(page, "shares")
    expect(page.locator("#article-label")).to_have_text("Business")
    classify_rows(page, "text\na match\n")
    expect(page.locator("#file-said")).to_contain_text("1 answered")
    page.reload()  # the tab remembers it
    expect(page.locator("#key-said")).to_have_text("The key is good.")
    page.get_by_role("button", name="Forget it").click()
    assert page.evaluate("JSON.stringify([sessionStorage, localStorage, document.cookie])") == '[{},{},""]'
    classify(page, "shares")
    expect(page.locator("#article-problem")).to_contain_text("A key or token is needed")
    watched.errors.clear()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 375)])
def test_accessibility(watched: Watched, served: Served, open_gateway: httpx.Client, scheme: Any, width: int) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}, "reduced_motion": "reduce"}
    page = watched.open(str(open_gateway.base_url), **options)

    def check(state: str) -> None:
        report = Axe().run(page, options=RULES)
        assert report.violations_count == 0, f"{state}: {report.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth") <= width, state

    check("empty")
    classify(page, "The shares of 5000 firms")
    expect(page.locator("#article-marked mark").first).to_be_visible()
    classify_rows(page, "title,id\nA match,1\n,2\n" + "shares of a name that is long enough to be broken,3\n" * 40)
    expect(page.locator("#file-said")).to_contain_text("41 answered")
    check("filled")
    classify(page, "")
    expect(page.locator("#article-problem")).to_be_visible()
    check("with a problem")
    assert page.evaluate("document.getAnimations().length") == 0
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 22, 28)"
    assert dark == (scheme == "dark")
    page.goto(served.url)
    check("with a key field")
    page.close()


def test_what_it_may_load(open_gateway: httpx.Client) -> None:
    answer = open_gateway.get("/")
    policy = answer.headers["content-security-policy"]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert open_gateway.get("/page/app.js").headers["content-type"] == "text/javascript; charset=utf-8"
    for path in "/page/nothing.js", "/page/..%2froutes%2fpage.py", "/page/":
        assert open_gateway.get(path).status_code == 404
