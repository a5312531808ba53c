"""README and docs: links lead somewhere, commands exist, messages are the code's, and words are plain."""

import ast
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from benchmarks import plot
from newsdesk.clients.cli.app import app
from newsdesk.server.serving import command_line
from tests.test_style import american

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *GUIDES]
WALKS = sorted((ROOT / "docs").glob("walk-*.md"))
CODE = "build", "clients", "server"
NOT_RUN = "# not run here: "
# These are read for their form alone: a test elsewhere runs them, or nothing here can.
OTHERS = {"curl", "kill", "pip", "make", "git", "cd", "pipx", "python"}
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")
ids = {"ids": lambda path: path.name}


class Block(NamedTuple):
    """A fenced block of a page, or one that is indented by four spaces."""

    page: Path
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the page's blocks; indented ones count as shell."""
    text = page.read_text(encoding="utf-8")
    fenced = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for fence in fenced.finditer(text):
        yield Block(page, fence[1], fence[2])
    for fence in re.finditer(r"(?:^    \S.*\n)+", fenced.sub("", text), re.MULTILINE):
        yield Block(page, "sh", re.sub(r"^    ", "", fence[0], flags=re.MULTILINE))


def commands() -> list[tuple[str, list[str]]]:
    """Return the page and the words of each command that is not marked as one that is not run here."""
    lines = [
        (block.page.name, re.sub(r"\s+#.*$", "", line))
        for page in PAGES
        for block in blocks(page)
        if block.language == "sh" and NOT_RUN not in block.text
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return [(page, shlex.split(part)) for page, line in lines for part in line.split(" && ")]


# Links


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")


@cache
def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "model_repository" / "LICENSE.md"], **ids)
def test_links_lead_to_what_is_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    astray = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            astray.append(link)
    assert astray == []


def test_every_guide_is_linked_from_the_readme_or_a_guide() -> None:
    linked = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [guide.name for guide in GUIDES if f"{guide.name})" not in linked] == []


@pytest.mark.parametrize("page", [ROOT / "README.md", *GUIDES], **ids)
def test_paths_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:build|clients|server|tests|benchmarks|docker)/[\w./-]*)`", page.read_text(encoding="utf-8")
    )
    assert [path for path in named if not (ROOT / path).exists()] == []


# Commands


@cache
def newsdesk(name: str) -> Any:
    """Return a command of newsdesk as the command line makes it. Raises UsageError where there is none."""
    group: Any = typer.main.get_command(app)
    return group.resolve_command(group.make_context("newsdesk", [name], resilient_parsing=True), [name])[1]


@pytest.mark.parametrize("words", [words for _, words in commands()], ids=" ".join)
def test_commands_exist_with_their_options(words: list[str]) -> None:
    while ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    program, arguments = words[0], words[1:]
    if program == "newsdesk":
        _check_newsdesk(arguments)
    elif program.endswith("python") or program.endswith("/pytest"):
        _check_python(arguments)
    elif program == "make":
        _check_make(arguments)
    elif program == "pip":
        _check_pip(arguments)
    else:
        assert program in OTHERS, f"{program}: say in its block `{NOT_RUN}…`, or check it here"


def _check_newsdesk(arguments: list[str]) -> None:
    if arguments[0].startswith("--"):
        assert arguments[0] in ("--install-completion", "--version", "--help")
        return
    command = newsdesk(arguments[0])
    if "--help" not in arguments:
        command.make_context(arguments[0], arguments[1:])  # raises UsageError for what it does not take


def _check_python(arguments: list[str]) -> None:
    assert arguments[0] == "-m", arguments
    module = arguments[1]
    if module == "pytest":
        missing = [path for path in arguments[2:] if "/" in path and not (ROOT / path).exists()]
        assert missing == []
        return
    spec = find_spec(module)
    assert spec is not None, module
    assert spec.origin is not None
    # A package is run by its __main__.
    source = Path(spec.origin)
    source = source.with_name("__main__.py") if source.name == "__init__.py" else source
    text = source.read_text(encoding="utf-8") + (ROOT / "benchmarks" / "texts.py").read_text(encoding="utf-8")
    missing = [word for word in arguments[2:] if word.startswith("--") and f'"{word}"' not in text]
    assert missing == [], module


def _check_make(arguments: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in arguments:
        name, assigned, _ = word.partition("=")
        assert re.search(rf"\$\({name}\)|\$\(if \$\({name}\)" if assigned else rf"^{name}:", makefile, re.MULTILINE), (
            word
        )


def _check_pip(arguments: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {extra for word in arguments for group in re.findall(r"\[([\w,-]+)\]", word) for extra in group.split(",")}
    assert named <= extras.keys()


def test_the_settings_file_of_serve_is_read(tmp_path: Path) -> None:
    (block,) = (block for block in blocks(ROOT / "docs" / "serve.md") if block.language == "toml")
    file = tmp_path / command_line.FILE
    file.write_text(block.text, encoding="utf-8")
    assert command_line.read(file)["http_port"] == 8000


@pytest.mark.parametrize("command", ["serve", "build", "classify", "keys"])
def test_most_options_are_on_some_page(command: str) -> None:
    """`--help` has all of them; a page says what most are for."""
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    options = [param.opts[0] for param in newsdesk(command).params if param.opts[0].startswith("--")]
    assert len([option for option in options if option in text]) > 0.6 * len(options)


@pytest.mark.parametrize("block", [b for page in PAGES for b in blocks(page) if b.language == "python"], ids=str)
def test_python_compiles_and_its_imports_resolve(block: Block) -> None:
    """The README's and the clients' page's are run by tests/clients/test_docs.py."""
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        elif isinstance(node, ast.Import):
            assert [alias.name for alias in node.names if find_spec(alias.name) is None] == []


# Words


def prose(page: Path) -> str:
    """Return the page's sentences: without code, tables, headings and links' targets."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    kept = [line for line in text.splitlines() if not re.match(r"\||#|    |!\[|<", line)]
    text = re.sub(r"^\s*(?:[-*]|\d+\.) ", "\n\n", "\n".join(kept), flags=re.MULTILINE)
    return re.sub(r"\]\([^)]*\)|[`*\[\]]", "", text)


def sentences(page: Path) -> list[str]:
    paragraphs = re.split(r"\n\s*\n", prose(page))
    joined = (" ".join(paragraph.split()) for paragraph in paragraphs)
    return [part for text in joined for part in re.split(r"(?<=[.!?:;])\s+(?=[A-Z0-9])", text) if len(part.split()) > 2]


@pytest.mark.parametrize("page", [ROOT / "README.md", *(guide for guide in GUIDES if guide not in WALKS)], **ids)
def test_sentences_are_plain(page: Path) -> None:
    plain = sentences(page)
    assert [sentence for sentence in plain if re.match(r"(What|Who|Of)\b", sentence)] == []
    assert sum(len(sentence.split()) for sentence in plain) / len(plain) < 18
    assert [sentence for sentence in plain if len(sentence.split()) > 45] == []


@pytest.mark.parametrize("page", PAGES, **ids)
def test_the_spelling_is_british(page: Path) -> None:
    assert american(prose(page)) == []


def test_the_readme_fits_on_three_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_plot_is_of_the_page(tmp_path: Path) -> None:
    """`python -m benchmarks.plot` draws it anew where the page has changed."""
    assert plot.draw(*plot.read(plot.PAGE.read_text(encoding="utf-8"))) == plot.OUTPUT.read_text(encoding="utf-8")


# Messages


@cache
def strings() -> str:
    """Return all string constants of the code, a line each, the parts of an f-string on their own."""
    constants = []
    for path in (path for part in CODE for path in (ROOT / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                constants.append(" ".join(node.value.split()))
    return "\n".join(constants)


def test_the_messages_of_troubleshooting_are_the_codes() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \|", (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    assert len(messages) > 40
    assert [message for message in messages if message not in strings()] == []


# Walks


@cache
def functions(path: Path) -> set[str]:
    """Return a module's functions and classes, and `Class.method`."""
    names: set[str] = set()

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    collect(node.body, f"{prefix}{node.name}.")
                else:
                    collect(node.body, f"{prefix}{node.name}.")

    collect(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return names


@pytest.mark.parametrize("page", WALKS, **ids)
def test_every_function_of_a_walk_is_where_it_says(page: Path) -> None:
    """A step reads "1. `name` in `file.py` does …"."""
    steps = re.findall(r"^\d+\. `([\w.]+)` in `([\w/]+\.py)`", page.read_text(encoding="utf-8"), re.MULTILINE)
    numbers = re.findall(r"^(\d+)\. ", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(number) for number in numbers] == [*range(1, len(steps) + 1)]
    assert len(steps) > 15
    assert [f"{name} in {file}" for name, file in steps if not (ROOT / file).exists()] == []
    assert [f"{name} in {file}" for name, file in steps if name not in functions(ROOT / file)] == []


def test_the_tests_that_security_names_exist() -> None:
    """As `path::name`, as `file.py::name`, and as `::name` of the file before it."""
    tests = {path.relative_to(ROOT): path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    places = re.findall(r"`([\w/]*test_\w+\.py)?(?:::(test_\w+))?`", (ROOT / "SECURITY.md").read_text())
    named, texts = 0, [""]
    for file, name in places:
        if file:
            texts = [text for path, text in tests.items() if file in (str(path), path.name)]
            assert texts, file
        if name:
            named += 1
            assert any(f"def {name}(" in text for text in texts), f"{file}::{name}"
    assert named > 40
