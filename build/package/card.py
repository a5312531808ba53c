"""The model card, written from the manifest: no figure in it is typed."""

from collections.abc import Mapping
from typing import Any

from newsdesk.build.compile.metrics import TargetMetrics, VariantFigures
from newsdesk.build.figures import ModelFigures, StageEntry, entries
from newsdesk.build.recipe import Card
from newsdesk.build.training.figures import FitFigures, PretrainFigures, TeachFigures
from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime.manifest import Manifest


def render(manifest: Manifest, about: Card) -> str:
    """Return MODEL_CARD.md of a manifest whose first stage entry is the recipe's, with the command."""
    built, figures = entries(manifest), ModelFigures.of(manifest)
    sections = [
        f"# {about.title or manifest.name}",
        f"Says of a text which of {len(manifest.labels)} labels fits: {', '.join(manifest.labels)}. "
        "Written by the build from the manifest beside the weights.",
        _data(built, about),
        _training(built),
        _accuracy(manifest, figures),
        _precisions(figures),
        _targets(figures),
        _limits(manifest),
    ]
    return "\n\n".join(sections) + "\n"


def _data(built: list[StageEntry], about: Card) -> str:
    split = _entry(built, "split").metrics(dict[str, int])
    rows = ", ".join(f"{count:,} {part}" for part, count in split.items())
    files = [f"`{name}` (sha256 `{digest[:12]}…`)" for name, digest in _entry(built, "read").read.items()]
    read = f" Read from {', '.join(files)}." if files else ""
    lines = [about.data, f"Rows after cleaning: {rows}.{read}", about.terms]
    return "## Data and terms\n\n" + "\n\n".join(line for line in lines if line)


def _training(built: list[StageEntry]) -> str:
    recipe = built[0]
    fitted = {entry.name: entry for entry in built if entry.stage == "train"}
    taught = {
        entry.name: dict.fromkeys(name.partition(" without fold ")[0] for name in entry.metrics(TeachFigures).teachers)
        for entry in built
        if entry.stage == "teach"
    }
    pretrainings = {entry.name: entry.metrics(PretrainFigures) for entry in built if entry.stage == "pretrain"}
    pretrained = {name: f"{of.texts:,} texts, {len(of.validation)} times" for name, of in pretrainings.items()}
    packages = ", ".join(f"{name} {version}" for name, version in next(iter(fitted.values())).packages.items())
    rows = []
    for member in recipe.settings["members"]:
        fit = fitted[member["name"]].metrics(FitFigures)
        rows.append(
            [
                f"`{member['name']}`",
                _base(member, fit),
                pretrained.get(member["name"], ""),
                f"{fit.rows:,}",
                ", ".join(taught.get(member["name"], ())),
                f"{fit.validation.accuracy:.2%}",
            ]
        )
    heads = ["member", "base", "pretrained further on", "rows", "taught by", "best epoch, validation"]
    return f"## Training\n\n    {recipe.command}\n\n{_table(heads, rows)}\n\n{packages}."


def _base(member: Mapping[str, Any], fit: FitFigures) -> str:
    """Return what a member of a recipe of any version was fitted from."""
    if member.get("base"):
        return f"`{member['base']}`{', frozen' if member.get('frozen') is not None else ''}"
    return f"{fit.ngrams:,} hashed n-grams" if fit.terms is None else f"{fit.terms:,} terms, linear"


def _accuracy(manifest: Manifest, figures: ModelFigures) -> str:
    intro = (
        f'Served: `{manifest.target}`. A quality decides how sure the cascade must be before it answers: "best" asks '
        "every member. Only validation rows, and training rows that a fit had left out, decided anything."
    )
    rows = [
        [
            part,
            f"{of_part.rows:,}",
            quality,
            f"{point.accuracy:.2%}",
            f"{point.macro_f1:.2%}",
            f"{point.calibration_error:.2%}",
            ", ".join(f"{name} {share:.1%}" for name, share in point.answered_by.items() if share),
        ]
        for part, of_part in figures.accuracy.items()
        for quality, point in ((quality, of_part.at(quality)) for quality in QUALITIES)
    ]
    heads = ["split", "rows", "quality", "accuracy", "macro F1", "ECE", "answered by"]
    return f"## Accuracy\n\n{intro}\n\n{_table(heads, rows)}\n\n{_members(figures)}"


def _members(figures: ModelFigures) -> str:
    rows = [
        [
            name,
            part,
            f"{of_part.original.accuracy:.2%}",
            f"{of_part.served.accuracy:.2%}",
            f"{of_part.agreement:.2%}",
        ]
        for name, of_member in figures.members.items()
        for part, of_part in of_member.accuracy.items()
    ]
    return f"Members alone:\n\n{_table(['member', 'split', 'float', 'served', 'same label'], rows)}"


def _precisions(figures: ModelFigures) -> str:
    rows = [
        [name, variant, "", "", "", made.error]
        if made.error
        else [name, variant, f"{made.mib}", f"{made.accuracy:.2%}", f"{made.agreement:.2%}", _passed(made)]
        for name, of_member in figures.members.items()
        for variant, made in of_member.variants.items()
    ]
    table = _table(["member", "graph", "MiB", "accuracy", "same label as fp32", "passed"], rows)
    return f"## Precisions\n\nOn the validation rows, through ONNX Runtime.\n\n{table}"


def _targets(figures: ModelFigures) -> str:
    rows = [
        [name, target, "", "", "", measured.error]
        if measured.error
        else [
            name,
            target,
            f"{measured.articles_per_second}",
            f"{measured.accuracy:.2%}",
            f"{measured.agreement:.2%}",
            _passed(measured),
        ]
        for name, of_member in figures.members.items()
        for target, measured in of_member.targets.items()
    ]
    table = _table(["member", "target", "articles/s", "accuracy", "same label as fp32", "passed"], rows)
    return f"## Targets\n\nOne thread, real text lengths, on {figures.machine}.\n\n{table}"


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


def _entry(built: list[StageEntry], stage: str) -> StageEntry:
    return next(entry for entry in built if entry.stage == stage)


def _passed(measured: VariantFigures | TargetMetrics) -> str:
    return "yes" if measured.passed else "no"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, ["---"] * len(heads), *rows])
