"""Files on the page."""

import csv
import io
import random
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.holding import Hold
from tests.launching import LABELS
from tests.server.gateway.browsers import classify_rows


def downloaded(page: Page) -> list[dict[str, str]]:
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download as CSV").click()
    text = Path(waiting.value.path()).read_text(encoding="utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_dropped_file_comes_back_whole(page: Page, open_gateway: httpx.Client) -> None:
    rows = [[f'He said "shares {i}",\nand left', f"mätch {i}", str(i)] for i in range(400)]
    rows[7][:2] = ["", ""]
    out = io.StringIO(newline="")
    csv.writer(out).writerows([["title", "description", "id"], *rows])
    held = page.evaluate_handle(
        """text => { const held = new DataTransfer(); held.items.add(new File([text], "news.csv")); return held }""",
        out.getvalue(),
    )
    page.dispatch_event("#file-drop", "dragover", {"dataTransfer": held})
    page.dispatch_event("#file-drop", "drop", {"dataTransfer": held})
    expect(page.locator("#file-chosen")).to_contain_text("news.csv")
    page.get_by_role("button", name="Classify all").click()
    expect(page.locator("#file-said")).to_contain_text("399 answered, 1 refused")
    downloads = downloaded(page)
    assert [[row["title"], row["description"], row["id"]] for row in downloads] == rows
    texts = [f"{title} {description}" for title, description, _ in rows]
    items = open_gateway.post("/v1/classify", json={"text": texts}).json()["items"]
    for row, item in zip(downloads, items, strict=True):
        assert (row["newsdesk_label"], row["newsdesk_error"]) == (item.get("label", ""), item.get("error", ""))
        assert row["newsdesk_unsure"] == str(item.get("unsure", "")).lower()
        probabilities = {name: float(row[f"newsdesk_{name}"] or 0) for name in LABELS}
        assert probabilities == pytest.approx(item.get("probabilities") or dict.fromkeys(LABELS, 0))
    distribution = page.locator("#file-bars .value").all_inner_texts()
    assert distribution == ["399 (100.0 %)"]


def test_no_cell_of_a_download_is_a_formula(page: Page) -> None:
    """A stranger's texts and column names are meant, whatever stands before them; plain numbers stay numbers."""
    formulas = ["=HYPERLINK(A1)", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1,2)", " =1", "\t=1", "＝1", "-", '="a", "b"']
    harmless = ["a=b", "-12.5", "+3", "-1e-7", "'quoted", "5 - 3"]
    out = io.StringIO(newline="")
    csv.writer(out).writerows([["text", "=name"], *(["shares", cell] for cell in formulas + harmless)])
    classify_rows(page, out.getvalue())
    expect(page.locator("#file-said")).to_contain_text(f"{len(formulas + harmless)} answered")
    downloads = downloaded(page)
    assert [row["'=name"] for row in downloads] == [f"'{cell}" for cell in formulas] + harmless


@pytest.mark.parametrize("first", ["", "sep=;\n"])
def test_answers_stand_beside_their_own_rows_whatever_is_wrong_with_others(page: Page, first: str) -> None:
    """In another dialect; and where a quote is missing, which makes one record here of what the gateway takes apart."""
    rows = ["shares, up;1", '"match;2', '"match, late";3', "treaty;4;more", "", "shares;5", "match;6"]
    classify_rows(page, first + "text;id\n" + "\n".join(rows))
    expect(page.locator("#file-said")).to_contain_text("4 answered, 2 refused")
    labelled = [(row["id"], row["newsdesk_label"]) for row in downloaded(page)]
    assert [labelled[place] for place in (0, 4, 5)] == [("1", "Business"), ("5", "Business"), ("6", "Sports")]
    assert labelled[1][1] == labelled[3][1] == ""
    assert labelled[2] == ("", "Sports")


def test_a_large_file_does_not_freeze_the_page(page: Page, tmp_path: Path) -> None:
    """The table stays short, keys are answered meanwhile, and the download has every row."""
    count = 20_000
    (tmp_path / "large.csv").write_text("text\n" + "".join(f"shares {i}\n" for i in range(count)))
    page.evaluate(
        """() => { window.longest = 0; const began = performance.now(); let before = began; setInterval(() => {
            const now = performance.now(); longest = Math.max(longest, now - before); before = now;
            window.share = longest / (now - began) }, 10) }"""
    )
    page.get_by_label("Choose a CSV file").set_input_files(tmp_path / "large.csv")
    page.get_by_role("button", name="Classify all").click()
    expect(page.locator("#file-progress")).to_be_visible()
    expect(page.locator("#file-said")).to_contain_text("20,000 answered", timeout=60_000)
    longest, share = page.evaluate("[longest, share]")
    assert longest < 1000 or share < 0.5, (longest, share)  # a machine full of other work is slow all the time
    expect(page.locator("#file-rows tbody tr")).to_have_count(200)
    answered = downloaded(page)
    assert [row["text"] for row in answered] == [f"shares {i}" for i in range(count)]
    assert {row["newsdesk_label"] for row in answered} == {"Business"}


def test_a_file_can_be_stopped(page: Page, hold: Hold) -> None:
    classify_rows(page, "text\n" + "shares\n" * 64 + f'"{hold.text}"\n' * 200)
    expect(page.locator("#file-rows tbody tr").first).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#file-said")).to_contain_text("Stopped.")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    hold.release()
    assert 64 <= len(downloaded(page)) < 264  # what had been answered until then


def test_csv_is_read_as_the_gateway_reads_it(page: Page) -> None:
    """Whatever the quotes, the line ends and the blocks in which a file comes."""
    some = random.Random(3)
    files = ["".join(some.choices(["a", "é", "😀", ",", '"', '"', " ", "\n", "\r\n"], k=12)) for _ in range(400)]
    expected = [[row for row in csv.reader(io.StringIO(file, newline="")) if row] for file in files]
    read = """async files => {
        const { Records } = await import("/page/records.js");
        const all = [];
        for (const file of files) {
            const bytes = new TextEncoder().encode(file);
            const blocks = { size: bytes.length, stream: () => new ReadableStream({ start(out) {
                for (let at = 0; at < bytes.length; at += 3) out.enqueue(bytes.slice(at, at + 3));
                out.close();
            } }) };
            const records = new Records(blocks), found = [];
            for (let one; (one = await records.next()) !== null;) found.push([...one]);
            all.push(found);
        }
        return all;
    }"""
    assert page.evaluate(read, files) == expected
