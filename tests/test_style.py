"""The style that ruff does not know: how docstrings begin, names that say what they hold, and British spelling."""

import ast
import io
import re
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = "build", "server", "clients"
ROUTES = "server", "gateway", "routes"
PARTS = *CODE, "benchmarks", "tests"
AMERICAN = re.compile(
    r"\b(?:\w+[a-z]{2}(?:iz(?:e[drs]?|ing|ations?)|yz(?:e[ds]?|ing))|\w*(?:colors?|behaviors?|favor\w*|neighbors?|centers?"
    r"|canceled|canceling|\w*labeled|\w*labeling|modeled|modeling|artefacts?|gray))\b",
    re.IGNORECASE,
)
"""Words that are spelled so in America alone. `artefact` is British, but `artifact` is the field's word."""
TERMS = {
    *("authorization", "kustomize", "kustomization", "kustomizations", "size", "sized", "sizes", "standardized"),
    *("tokenizer", "visualizing"),
}
"""Words that are spelled so everywhere, and names: of programs, a header and papers."""


@cache
def trees() -> dict[Path, ast.Module]:
    """Return the code by its files."""
    files = (file for part in PARTS for file in sorted((ROOT / part).rglob("*.py")))
    return {file.relative_to(ROOT): ast.parse(file.read_text(encoding="utf-8")) for file in files}


def documentation(tree: ast.Module) -> Iterator[str]:
    """Yield the docstrings of modules, classes, functions and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def american(text: str) -> list[str]:
    """Return the words of a text in American spelling. What stands between backticks, or LikeThis, is a name."""
    words = AMERICAN.findall(re.sub(r"`[^`]*`", "", text))
    return [word for word in words if word.lower() not in TERMS and word[1:].islower()]


def test_docstrings_begin_with_what_a_thing_is_or_does() -> None:
    texts = [(file, text) for file, tree in trees().items() for text in documentation(tree)]
    assert len(texts) > 2000
    assert [text for text in texts if re.match(r"\s*(?:What|Who|Whose|Of|Where)\b", text[1])] == []


def entries(text: str) -> Iterator[tuple[str, str]]:
    """Yield the entries of a docstring's sections, each with its section's name; Returns and Yields are one each."""
    for part in text.split("\n\n"):
        section, _, body = part.partition(":\n")
        if section in ("Args", "Attributes", "Raises"):
            yield from ((section, " ".join(entry.split())) for entry in re.split(r"\n(?=    \S)", body))
        elif section in ("Returns", "Yields"):
            yield section, " ".join(body.split())


def test_sections_have_one_form() -> None:
    """`name: what it holds`, in lower case and without its type; `Error: a sentence.`; a result is a sentence."""
    argument = r"[\w*]+(?:, [\w*]+)*: (?!(?:A|[A-Z][a-z]+)\b(?!'s)).+(?<!\.)|[\w*]+: (?![A-Z][a-z]).+\. .+"
    forms = {"Args": argument, "Attributes": argument, "Raises": r"[\w.]+(?:, \w+)*: .+\."}
    written = [
        (str(file), *entry)
        for file, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for entry in entries(ast.get_docstring(node) or "")
    ]
    assert len(written) > 1500
    assert [entry for entry in written if not re.fullmatch(forms.get(entry[1], r"[A-Z].+\."), entry[2])] == []


def test_no_name_is_vague() -> None:
    """A name says what it holds. A check's `found` is a key of the JSON that `newsdesk doctor --json` writes."""
    vague = {"found", "said", "given", "one"}
    bound = []
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Name | ast.Attribute) and not isinstance(node.ctx, ast.Store):
                continue
            name = next((getattr(node, field) for field in node._fields if field in ("id", "attr", "arg", "name")), "")
            if name in vague and not isinstance(node, ast.alias | ast.keyword):
                bound.append(f"{file}: {name}")
    assert bound == ["server/serving/preflight.py: found"]


def test_a_class_name_stands_once() -> None:
    """Types of GraphQL's schema and REST's are called as in the other, and as in the SDK."""
    public = {"Answer", "Correction", "Member", "Uncertainty", "Word"}
    defined = Counter(
        node.name
        for file, tree in trees().items()
        if file.parts[0] in CODE
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not (file.parts[:3] == ROUTES and node.name in public)
    )
    assert len(defined) > 300
    assert {name for name, times in defined.items() if times > 1} == set()


@pytest.mark.parametrize("part", PARTS)
def test_the_codes_spelling_is_british(part: str) -> None:
    spelled = defaultdict(list)
    for file, tree in trees().items():
        if file.parts[0] == part:
            tokens = tokenize.generate_tokens(io.StringIO((ROOT / file).read_text(encoding="utf-8")).readline)
            comments = (token.string for token in tokens if token.type == tokenize.COMMENT)
            for text in (*documentation(tree), *comments):
                spelled[str(file)] += american(text)
    assert {file: words for file, words in spelled.items() if words} == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Tokenizer of a size is kept", []),
        ("A quantized graph, normalizing, and analyzes", ["quantized", "normalizing", "analyzes"]),
        ("Its behavior and color", ["behavior", "color"]),
        ("`initialize` is Triton's", []),
    ],
)
def test_american_words_are_known(text: str, words: list[str]) -> None:
    assert american(text) == words
