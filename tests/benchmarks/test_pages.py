"""Pages of results keep what was not measured anew."""

from pathlib import Path

from benchmarks import pages


def test_a_section_replaces_the_one_of_its_title(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    pages.put(page, "# Load tests\n", "## steady: 200 users\n\nold\n")
    pages.put(page, "# Load tests\n", "## open: 50 requests a second\n\nkept\n")
    pages.put(page, "# Load tests\n", "## steady: 100 users\n\nnew\n")
    assert page.read_text() == (
        "# Load tests\n\n## open: 50 requests a second\n\nkept\n\n## steady: 100 users\n\nnew\n"
    )
