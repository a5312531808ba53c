"""The model card, written from the manifest: no figure in it is typed."""

from typing import Any

from newsdesk.build.recipe import Card
from newsdesk.server.ensemble.manifest import Manifest


def render(manifest: Manifest, about: Card) -> str:
    """Return MODEL_CARD.md of a manifest whose first stage entry is the recipe's, with the command."""
    sections = [
        f"# {about.title or manifest.name}",
        f"Says of a text which of {len(manifest.labels)} labels fits: {', '.join(manifest.labels)}. "
        "Written by the build from the manifest beside the weights.",
        _data(manifest, about),
        _training(manifest),
        _accuracy(manifest),
        _precisions(manifest),
        _targets(manifest),
        _limits(manifest),
    ]
    return "\n\n".join(sections) + "\n"


def _data(manifest: Manifest, about: Card) -> str:
    split = _entry(manifest, "split")["figures"]
    rows = ", ".join(f"{count:,} {part}" for part, count in split.items())
    files = [f"`{name}` (sha256 `{digest[:12]}…`)" for name, digest in _entry(manifest, "read")["read"].items()]
    read = f" Read from {', '.join(files)}." if files else ""
    lines = [about.data, f"Rows after cleaning: {rows}.{read}", about.terms]
    return "## Data and terms\n\n" + "\n\n".join(line for line in lines if line)


def _training(manifest: Manifest) -> str:
    recipe, fitted, member = manifest.built[0], _entry(manifest, "train"), manifest.members[0]
    packages = ", ".join(f"{name} {version}" for name, version in fitted["packages"].items())
    if member.kind == "ngrams":
        about = f"a bag of {fitted['figures']['ngrams']:,} hashed n-grams", "texts are read whole", "log-loss"
    else:
        base = recipe["settings"]["members"][0]["base"]
        about = f"base `{base}`", f"at most {member.max_length} tokens a text", "accuracy"
    what, length, decided_by = about
    return (
        f"## Training\n\n    {recipe['command']}\n\nMember `{member.name}`: {what}, "
        f"{fitted['figures']['rows']:,} rows, {length}; the epoch with the best validation {decided_by} was "
        f"kept. {packages}."
    )


def _accuracy(manifest: Manifest) -> str:
    intro = (
        f"Served: `{manifest.target}`; float: the fp32 graph that it was made from. Only the validation rows decided "
        "anything."
    )
    rows = [
        [
            part,
            f"{found['rows']:,}",
            f"{found['float']['accuracy']:.2%}",
            f"{found['served']['accuracy']:.2%}",
            f"{found['served']['macro_f1']:.2%}",
            f"{found['agreement']:.2%}",
        ]
        for part, found in manifest.figures["accuracy"].items()
    ]
    heads = ["split", "rows", "float", "served", "served, macro F1", "same label"]
    return f"## Accuracy\n\n{intro}\n\n{_table(heads, rows)}"


def _precisions(manifest: Manifest) -> str:
    rows = [
        [variant, "", "", "", found["error"]]
        if "error" in found
        else [variant, f"{found['mib']}", f"{found['accuracy']:.2%}", f"{found['agreement']:.2%}", _passed(found)]
        for variant, found in manifest.figures["variants"].items()
    ]
    table = _table(["graph", "MiB", "accuracy", "same label as fp32", "passed"], rows)
    return f"## Precisions\n\nOn the validation rows, through ONNX Runtime.\n\n{table}"


def _targets(manifest: Manifest) -> str:
    rows = [
        [target, "", "", "", found["error"]]
        if "error" in found
        else [
            target,
            f"{found['articles_per_second']}",
            f"{found['accuracy']:.2%}",
            f"{found['agreement']:.2%}",
            _passed(found),
        ]
        for target, found in manifest.figures["targets"].items()
    ]
    table = _table(["target", "articles/s", "accuracy", "same label as fp32", "passed"], rows)
    return f"## Targets\n\nOne thread, real text lengths, on {manifest.figures['machine']}.\n\n{table}"


def _limits(manifest: Manifest) -> str:
    features = ", ".join(manifest.cpu_features) or "no int8 instructions of its own"
    return (
        "## Limits\n\nThe model knows the labels above and nothing else: a text that fits none of them gets one all "
        "the same. Its probabilities are not calibrated. int8 and bf16 answers were measured on a processor with "
        f"{features}; on another they may differ."
    )


def _entry(manifest: Manifest, stage: str) -> dict[str, Any]:
    return next(entry for entry in manifest.built if entry["stage"] == stage)


def _passed(found: dict[str, Any]) -> str:
    return "yes" if found["passed"] else "no"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, ["---"] * len(heads), *rows])
