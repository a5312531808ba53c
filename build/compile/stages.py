"""The stages from a fitted member to the target that serves it, each run once (see `Workshop`)."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from newsdesk.build.compile import planning
from newsdesk.build.compile.answers import Answers
from newsdesk.build.compile.gate import Gate
from newsdesk.build.compile.predict import RUNS_ANY, Examples, of_windows, on_all_cores, probabilities
from newsdesk.build.data import tables, views
from newsdesk.build.data.rows import Row
from newsdesk.build.ensemble import ensemble as fitting
from newsdesk.build.ensemble import judge as judging
from newsdesk.build.ensemble import stage as combining
from newsdesk.build.evaluation import metrics
from newsdesk.build.recipe import EncoderMember, Member, Recipe
from newsdesk.build.repository import Fitted
from newsdesk.build.stage import Artefact, Workshop, machine
from newsdesk.server.runtime import engines
from newsdesk.server.runtime.calibrate import Calibrator

TARGET = "target.json"
VALIDATION = "validation.npz"
"""What the target that serves says of the validation rows: `Answers`."""
TEST = "test.npz"
OUT_OF_FOLD = "out_of_fold.npz"
"""What a member says of the training rows out of fold: `Answers`, NaN for rows that were not asked about."""
_PARITY_ROWS = 100
REFERENCE = "reference.npy"
"""Probabilities of the fp32 graph on the whole validation rows, FP64 [rows, labels]."""


@dataclass(frozen=True)
class Job:
    """What every stage here works on: one member, and the artefacts made so far, by stage."""

    shop: Workshop
    recipe: Recipe
    member: Member
    made: dict[str, Artefact]
    snapshot: int = 0
    """Of the member's training run, counted from 1; 0 where the run leaves one model."""
    fold: tuple[int, int] | None = None
    """Number, from 0, and count: the member is fitted without that part of the training rows. None: on all."""

    @property
    def name(self) -> str:
        if self.fold:
            return f"{self.member.name} without fold {self.fold[0] + 1} of {self.fold[1]}"
        return f"{self.member.name}-{self.snapshot}" if self.snapshot else self.member.name

    @property
    def seed(self) -> int:
        return self.recipe.seed if self.member.seed is None else self.member.seed

    @property
    def checkpoint(self) -> Path:
        """The fitted encoder's `from_pretrained` folder."""
        return self.made["train"] / (f"snapshot-{self.snapshot}" if self.snapshot else "checkpoint")

    @property
    def cost(self) -> float:
        """Seconds a text, on one thread, of the target that serves."""
        figures = self.made["compile"].figures
        return 1 / figures["targets"][figures["target"]]["articles_per_second"]

    def fitted(self, wanted: Sequence[str], calibrator: Calibrator) -> Fitted:
        """Return what of the member the repository holds: the `wanted` variants that passed, and the target's."""
        variants = self.made["quantise"].figures["variants"]
        passed = [name for name in wanted if variants.get(name, {}).get("passed")]
        plans = planning.read(self.made["engines"])[1] if "engines" in self.made else {}
        kept = dict.fromkeys([*passed, engines.TARGETS[self.choice["target"]], *plans])
        return Fitted(
            name=self.name,
            kind=self.member.kind,
            reader=self.reader,
            graphs={name: self.graphs[name] for name in kept},
            max_length=self.max_length,
            pad_id=self.facts["pad_id"],
            calibrator=calibrator,
            plans=plans,
        )

    @property
    def evidence(self) -> tuple[str, str]:
        """The stage and the file of what decides how members are combined: of validation rows, or out of fold."""
        return ("out-of-fold", OUT_OF_FOLD) if self.recipe.split.folds else ("compile", VALIDATION)

    @property
    def facts(self) -> dict[str, Any]:
        """What the export found out of the member: family, pad_id, heads, hidden_size, positions."""
        return json.loads((self.made["export"] / "member.json").read_text())

    @property
    def graphs(self) -> dict[str, Path]:
        """The graph of every variant that could be made."""
        quantised = self.made["quantise"]
        variants = quantised.figures["variants"]
        made = {name: quantised / f"model.{name}.onnx" for name, found in variants.items() if "error" not in found}
        return made | (planning.read(self.made["engines"])[0] if "engines" in self.made else {})

    @property
    def choice(self) -> dict[str, Any]:
        """The target that serves, and all that passed."""
        return json.loads((self.made["compile"] / TARGET).read_text())

    @property
    def reader(self) -> Path:
        """What makes ids of a text: the tokenizer, the features of n-grams, or a linear member's terms."""
        names = {"encoder": "tokenizer.json", "ngrams": "features.json", "linear": "terms.json"}
        return self.made["export"] / names[self.member.kind]

    @property
    def serving_code(self) -> tuple[str, ...]:
        """Code that changes what a compiled artefact answers, or how fast."""
        reader = {"encoder": ("tokens",), "ngrams": ("ngrams",), "linear": ("ngrams", "terms")}[self.member.kind]
        engines_of = "openvino", "onnxruntime", "pairs", "narrow"
        names = "batching", *reader, "engines", *(f"engines.{name}" for name in engines_of)
        return tuple(f"newsdesk.server.runtime.{name}" for name in names)

    @property
    def max_length(self) -> int:
        """Tokens read at once, as the manifest has it: 0 for n-grams, which are read whole."""
        return self.made["train"].figures["window"] if self.member.kind == "encoder" else 0

    def encode(self, rows: list[Row], cut: bool = False) -> Examples:
        """Return rows as the server reads them, or with `cut` as `original` does."""
        return Examples.of(rows, self.reader, self.max_length, self.facts["pad_id"], cut)

    def original(self, texts: list[str], exact: bool = True) -> np.ndarray:
        """Return the fitted model's own logits, FP32 [texts, labels]; not `exact`, in bf16 where that is faster."""
        if self.member.kind == "ngrams":
            from newsdesk.build.members import bag

            return bag.logits(self.made["train"].path, texts)
        if self.member.kind == "linear":
            from newsdesk.build.members.linear import Linear

            return Linear.load(self.made["train"].path).logits(texts)
        from newsdesk.build.training import trainer

        return trainer.logits(self.checkpoint, texts, self.max_length, exact)

    def rows(self, part: str) -> list[Row]:
        rows = tables.read(self.made["split"] / f"{part}.parquet")
        if part != "train" or not self.fold:
            return rows
        return [row for row, left_out in zip(rows, self.left_out(len(rows)), strict=True) if not left_out]

    def whole_validation(self) -> list[Row]:
        """Return the validation rows whole, each once: what tells a graph from its original needs no other slices."""
        return [row for row in self.rows("validation") if row.view == views.WHOLE]

    def left_out(self, count: int) -> np.ndarray:
        """Return which of `count` training rows are the fold's, BOOL [count]: all of them without folds."""
        number, folds = self.fold or (0, 1)
        return np.arange(count) % folds == number

    def drawn(self, part: str, count: int) -> list[Row]:
        """Return `count` rows, the same ones in every build with the recipe's seed."""
        rows = self.rows(part)
        random.Random(self.recipe.seed).shuffle(rows)
        return rows[:count]

    def gate(self, examples: Examples, reference: np.ndarray) -> Gate:
        return Gate(examples, reference, self.recipe.quantise.max_accuracy_loss, self.recipe.quantise.min_agreement)

    def run(
        self, stage: str, work: Any, settings: list[Any], inputs: tuple[str, ...], code: tuple[str, ...]
    ) -> Artefact:
        made = {name: self.made[name] for name in inputs}
        return self.shop.run(stage, work, settings=settings, inputs=made, code=code, name=self.name)


def export(job: Job) -> Artefact:
    """Export to ONNX with parity checked: model.fp32.onnx, tokenizer.json or features.json, member.json."""

    def work(folder: Path) -> dict[str, Any]:
        if job.member.kind == "ngrams":
            from newsdesk.build.compile import bag

            return bag.export(job.made["train"].path, folder)
        if job.member.kind == "linear":
            from newsdesk.build.compile import linear

            texts = [row.text for row in job.drawn("validation", _PARITY_ROWS)]
            return linear.export(job.made["train"].path, folder, texts)
        from newsdesk.build.compile import export as exporting

        assert isinstance(job.member, EncoderMember)
        return exporting.export(job.checkpoint, folder, job.member.max_length)

    modules = {
        "encoder": ("compile.export", "compile.families", "compile.first_token", "compile.rewrite"),
        "ngrams": ("compile.bag", "members.bag"),
        "linear": ("compile.linear", "members.linear"),
    }
    code = tuple(f"newsdesk.build.{name}" for name in modules[job.member.kind])
    inputs = ("train", "split") if job.member.kind == "linear" else ("train",)
    return job.run("export", work, [getattr(job.member, "max_length", 0)], inputs, code)


def quantise(job: Job) -> Artefact:
    """Make the precisions: `model.<variant>.onnx` for fp32, fp16, int8 and int8-dynamic, each judged on validation."""
    settings = job.recipe.quantise

    def work(folder: Path) -> dict[str, Any]:
        source = job.made["export"] / "model.fp32.onnx"
        validation = job.encode(job.whole_validation())
        engine = on_all_cores(RUNS_ANY, source)
        reference = probabilities(engine, validation, "fp32 on the validation rows")
        np.save(folder / REFERENCE, reference)
        if job.member.kind == "linear":
            from newsdesk.build.compile import linear

            return {"variants": linear.quantise(source, job.gate(validation, reference), folder)}
        from newsdesk.build.compile import bag
        from newsdesk.build.compile import quantise as quantising

        bench = quantising.Workbench(
            source=source,
            facts=job.facts,
            gate=job.gate(validation, reference),
            calibration=[[*ids] for ids in job.encode(job.drawn("train", settings.calibration_rows)).ids],
            settings=settings,
            folder=folder,
            say=job.shop.say,
        )
        make = bag.quantise if job.member.kind == "ngrams" else quantising.quantise
        return {"variants": make(bench)}

    own = {
        "encoder": ("calibration", "explicit", "half", "int8", "qdq"),
        "ngrams": ("bag",),
        "linear": ("linear",),
    }
    modules = "gate", *own[job.member.kind], "quantise", "predict"
    code = tuple(f"newsdesk.build.compile.{name}" for name in modules)
    return job.run("quantise", work, [settings, job.recipe.seed, job.max_length], ("split", "export"), code)


def compile(job: Job) -> Artefact:
    """Compile for every target that runs on this machine, measure each, and choose: target.json.

    TensorRT's engines are built first, where the recipe asks for them (a stage of its own, "engines").
    """
    if job.recipe.engines.runtimes and job.member.kind == "encoder":
        job.made["engines"] = planning.build(job)
    variants = job.made["quantise"].figures["variants"]

    def work(folder: Path) -> dict[str, Any]:
        from newsdesk.build.compile import targets

        reference = np.load(job.made["quantise"] / REFERENCE)
        validation = job.encode(job.rows("validation"))
        gate = job.gate(job.encode(job.whole_validation()), reference)
        figures = targets.measure(job.graphs, gate, job.recipe.compile)
        for target, found in figures.items():
            found["passed"] = found["passed"] and variants[found["variant"].rpartition(":")[2]]["passed"]
            job.shop.say(f"  {target}: {targets.describe(found)}")
        chosen = targets.choose(figures, job.recipe.repository.variants, job.shop.say)
        job.shop.say(f"  {chosen} serves")
        passed = sorted(target for target, found in figures.items() if found["passed"])
        (folder / TARGET).write_text(json.dumps({"target": chosen, "passed": passed}))
        engine = on_all_cores(chosen, job.graphs[engines.TARGETS[chosen]])
        served = of_windows(engine, validation, f"{chosen}, validation")
        Answers(served, validation.windows).save(folder / VALIDATION)
        return {"target": chosen, "targets": figures}

    settings = [
        job.recipe.compile,
        job.recipe.quantise,
        job.recipe.repository.variants,
        job.max_length,
        machine(),
    ]
    return job.run(
        "compile",
        work,
        settings,
        ("split", "export", "quantise", *(["engines"] if "engines" in job.made else [])),
        ("newsdesk.build.compile.targets", *job.serving_code),
    )


def verify(job: Job) -> Artefact:
    """Compare every target that passed, and fp16, with the original model; raises VerificationError."""

    def work(folder: Path) -> dict[str, Any]:
        from newsdesk.build.compile import verify as verifying

        texts = [row.text for row in job.drawn("validation", job.recipe.verify.rows)]
        texts += verifying.EXTREMES.values()
        original = metrics.softmax(job.original(texts))
        artefacts = {target: job.graphs[engines.TARGETS[target]] for target in job.choice["passed"]}
        variants = job.made["quantise"].figures["variants"]
        for variant in verifying.ON_GPUS & variants.keys():
            if variants[variant]["passed"]:
                artefacts[f"onnxruntime:{variant}"] = job.graphs[variant]
        examples = job.encode([Row(text, 0) for text in texts], cut=True)
        return {"targets": verifying.verify(artefacts, examples, original, job.recipe.verify)}

    settings = [job.recipe.verify, job.recipe.seed, job.max_length, machine()]
    inputs = "split", "train", "export", "quantise", "compile"
    return job.run("verify", work, settings, inputs, ("newsdesk.build.compile.verify", *job.serving_code))


def evaluate(job: Job) -> Artefact:
    """Measure, after everything is decided, the chosen target and the fp32 graph on validation and test rows."""

    def work(folder: Path) -> dict[str, Any]:
        target = job.choice["target"]
        figures = {}
        for part in ("validation", "test"):
            if not (job.made["split"] / f"{part}.parquet").exists():
                continue
            rows = job.rows(part)
            examples = job.encode(rows)
            if part == "validation":  # asked before, to decide
                whole = np.array([row.view == views.WHOLE for row in rows])
                examples = job.encode(job.whole_validation())
                original = np.load(job.made["quantise"] / REFERENCE)
                served = Answers.load(job.made["compile"] / VALIDATION).rows()[whole]
            else:
                answers = {
                    name: Answers(
                        of_windows(on_all_cores(name, job.graphs[engines.TARGETS[name]]), examples, f"{name}, {part}"),
                        examples.windows,
                    )
                    for name in {RUNS_ANY, target}
                }
                original, served = answers[RUNS_ANY].rows(), answers[target].rows()
                answers[target].save(folder / TEST)
            figures[part] = {
                "rows": len(examples.labels),
                "float": metrics.summary(original, examples.labels),
                "served": metrics.summary(served, examples.labels),
                "agreement": metrics.agreement(original, served),
            }
        return {"target": target, "accuracy": figures}

    inputs = "split", "export", "quantise", "compile"
    return job.run(
        "evaluate",
        work,
        [job.max_length, machine()],
        inputs,
        ("newsdesk.build.evaluation.metrics", *job.serving_code),
    )


def judge(shop: Workshop, rows: Artefact, combined: Artefact, jobs: list[Job]) -> Artefact:
    """Measure every operating point on validation and test rows, from what the members said of them."""
    of_jobs = {job.name: job for job in jobs}

    def work(folder: Path) -> dict[str, Any]:
        fit, figures = fitting.load(combined.path), {}
        for part, stage, file in (("validation", *jobs[0].evidence), ("test", "evaluate", TEST)):
            if (rows / f"{part}.parquet").exists():
                answers = {name: Answers.load(job.made[stage] / file) for name, job in of_jobs.items()}
                of_part = tables.read(rows / f"{part}.parquet")
                if stage == "out-of-fold":
                    of_part, answers = combining.judged(rows, jobs[0].recipe, answers)
                figures[part] = judging.measure(fit, combined.path, of_part, answers)
        return figures

    inputs = {"split": rows, "ensemble": combined}
    inputs |= {f"{job.name}.{stage}": job.made[stage] for job in jobs for stage in (job.evidence[0], "evaluate")}
    code = (
        "newsdesk.build.ensemble.judge",
        "newsdesk.build.evaluation.metrics",
        *(f"newsdesk.server.runtime.{name}" for name in ("calibrate", "cascade", "combine", "lengths", "windows")),
    )
    return shop.run("judge", work, inputs=inputs, code=code)
