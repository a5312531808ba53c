"""The model card, written from the manifest: no figure in it is typed."""

from typing import Any

from newsdesk.build.recipe import Card
from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime.manifest import Manifest


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
    recipe = manifest.built[0]
    fitted = {entry["name"]: entry for entry in manifest.built if entry["stage"] == "train"}
    taught = {
        entry["name"]: dict.fromkeys(name.partition(" without fold ")[0] for name in entry["figures"]["teachers"])
        for entry in manifest.built
        if entry["stage"] == "teach"
    }
    pretrained = {
        entry["name"]: f"{entry['figures']['texts']:,} texts, {len(entry['figures']['validation'])} times"
        for entry in manifest.built
        if entry["stage"] == "pretrain"
    }
    packages = ", ".join(f"{name} {version}" for name, version in next(iter(fitted.values()))["packages"].items())
    rows = []
    for member in recipe["settings"]["members"]:
        figures = fitted[member["name"]]["figures"]
        rows.append(
            [
                f"`{member['name']}`",
                _base(member, figures),
                pretrained.get(member["name"], ""),
                f"{figures['rows']:,}",
                ", ".join(taught.get(member["name"], ())),
                f"{figures['validation']['accuracy']:.2%}",
            ]
        )
    heads = ["member", "base", "pretrained further on", "rows", "taught by", "best epoch, validation"]
    return f"## Training\n\n    {recipe['command']}\n\n{_table(heads, rows)}\n\n{packages}."


def _base(member: dict[str, Any], figures: dict[str, Any]) -> str:
    if member.get("base"):
        return f"`{member['base']}`{', frozen' if member.get('frozen') is not None else ''}"
    return f"{figures['terms']:,} terms, linear" if "terms" in figures else f"{figures['ngrams']:,} hashed n-grams"


def _accuracy(manifest: Manifest) -> str:
    intro = (
        f'Served: `{manifest.target}`. A quality decides how sure the cascade must be before it answers: "best" asks '
        "every member. Only validation rows, and training rows that a fit had left out, decided anything."
    )
    rows = [
        [
            part,
            f"{measured['rows']:,}",
            quality,
            f"{measured[quality]['accuracy']:.2%}",
            f"{measured[quality]['macro_f1']:.2%}",
            f"{measured[quality]['calibration_error']:.2%}",
            ", ".join(f"{name} {share:.1%}" for name, share in measured[quality]["answered_by"].items() if share),
        ]
        for part, measured in manifest.figures["accuracy"].items()
        for quality in QUALITIES
    ]
    heads = ["split", "rows", "quality", "accuracy", "macro F1", "ECE", "answered by"]
    return f"## Accuracy\n\n{intro}\n\n{_table(heads, rows)}\n\n{_members(manifest)}"


def _members(manifest: Manifest) -> str:
    rows = [
        [
            name,
            part,
            f"{measured['float']['accuracy']:.2%}",
            f"{measured['served']['accuracy']:.2%}",
            f"{measured['agreement']:.2%}",
        ]
        for name, of_member in manifest.figures["members"].items()
        for part, measured in of_member["accuracy"].items()
    ]
    return f"Members alone:\n\n{_table(['member', 'split', 'float', 'served', 'same label'], rows)}"


def _precisions(manifest: Manifest) -> str:
    rows = [
        [name, variant, "", "", "", measured["error"]]
        if "error" in measured
        else [
            name,
            variant,
            f"{measured['mib']}",
            f"{measured['accuracy']:.2%}",
            f"{measured['agreement']:.2%}",
            _passed(measured),
        ]
        for name, of_member in manifest.figures["members"].items()
        for variant, measured in of_member["variants"].items()
    ]
    table = _table(["member", "graph", "MiB", "accuracy", "same label as fp32", "passed"], rows)
    return f"## Precisions\n\nOn the validation rows, through ONNX Runtime.\n\n{table}"


def _targets(manifest: Manifest) -> str:
    rows = [
        [name, target, "", "", "", measured["error"]]
        if "error" in measured
        else [
            name,
            target,
            f"{measured['articles_per_second']}",
            f"{measured['accuracy']:.2%}",
            f"{measured['agreement']:.2%}",
            _passed(measured),
        ]
        for name, of_member in manifest.figures["members"].items()
        for target, measured in of_member["targets"].items()
    ]
    table = _table(["member", "target", "articles/s", "accuracy", "same label as fp32", "passed"], rows)
    return f"## Targets\n\nOne thread, real text lengths, on {manifest.figures['machine']}.\n\n{table}"


def _limits(manifest: Manifest) -> str:
    features = ", ".join(manifest.cpu_features) or "no int8 instructions of its own"
    lengths = ", ".join(
        f"`{member.name}` {member.max_length} tokens" for member in manifest.members if member.max_length
    )
    unsure = manifest.unsure
    marked = f" Of the validation rows, {unsure.share:.1%} are marked as not sure." if unsure else ""
    return (
        "## Limits\n\nThe model knows the labels above and nothing else: a text that fits none of them gets one all "
        "the same. int8 and bf16 answers were measured on a processor with "
        f"{features}; on another they may differ."
        + marked
        + (f" Longer texts are read in overlapping windows: {lengths} at once." if lengths else "")
    )


def _entry(manifest: Manifest, stage: str) -> dict[str, Any]:
    return next(entry for entry in manifest.built if entry["stage"] == stage)


def _passed(comparison: dict[str, Any]) -> str:
    return "yes" if comparison["passed"] else "no"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, ["---"] * len(heads), *rows])
