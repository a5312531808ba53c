"""The stages from a fitted member to the target that serves it, each run once (see `Workshop`)."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from newsdesk.build.compile.gate import Gate
from newsdesk.build.compile.predict import Examples, probabilities
from newsdesk.build.data import tables
from newsdesk.build.data.cleaning import Row
from newsdesk.build.evaluation import metrics
from newsdesk.build.recipe import Member, Recipe
from newsdesk.build.stage import Artefact, Workshop, machine
from newsdesk.server.ensemble import engines

TARGET = "target.json"
REFERENCE = "reference.npy"
"""Probabilities of the fp32 graph on the validation rows, FP64 [rows, labels]."""


@dataclass(frozen=True)
class Job:
    """What every stage here works on: one member, and the artefacts made so far, by stage."""

    shop: Workshop
    recipe: Recipe
    member: Member
    made: dict[str, Artefact]

    @property
    def facts(self) -> dict[str, Any]:
        """What the export found out of the member: family, pad_id, heads, hidden_size, positions."""
        return json.loads((self.made["export"] / "member.json").read_text())

    @property
    def graphs(self) -> dict[str, Path]:
        """The graph of every variant that could be made."""
        quantised = self.made["quantise"]
        variants = quantised.figures["variants"]
        return {name: quantised / f"model.{name}.onnx" for name, found in variants.items() if "error" not in found}

    @property
    def choice(self) -> dict[str, Any]:
        """The target that serves, and all that passed."""
        return json.loads((self.made["compile"] / TARGET).read_text())

    @property
    def reader(self) -> Path:
        """What makes ids of a text: the tokenizer, or the features of n-grams."""
        return self.made["export"] / ("features.json" if self.member.kind == "ngrams" else "tokenizer.json")

    @property
    def serving_code(self) -> tuple[str, ...]:
        """Code that changes what a compiled artefact answers, or how fast."""
        reader = "ngrams" if self.member.kind == "ngrams" else "tokens"
        names = "batching", reader, "engines", "engines.openvino", "engines.onnxruntime"
        return tuple(f"newsdesk.server.ensemble.{name}" for name in names)

    @property
    def max_length(self) -> int:
        """Tokens read at once, as the manifest has it: 0 for n-grams, which are read whole."""
        return 0 if self.member.kind == "ngrams" else self.member.max_length

    def encode(self, rows: list[Row]) -> Examples:
        return Examples.of(rows, self.reader, self.max_length, self.facts["pad_id"])

    def original(self, texts: list[str]) -> np.ndarray:
        """Return the fitted model's own logits, FP32 [texts, labels]."""
        if self.member.kind == "ngrams":
            from newsdesk.build.members import bag

            return bag.logits(self.made["train"].path, texts)
        from newsdesk.build.training import trainer

        return trainer.logits(self.made["train"] / "checkpoint", texts, self.member.max_length)

    def rows(self, part: str) -> list[Row]:
        return tables.read(self.made["split"] / f"{part}.parquet")

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
        return self.shop.run(stage, work, settings=settings, inputs=made, code=code, name=self.member.name)


def export(job: Job) -> Artefact:
    """Export to ONNX with parity checked: model.fp32.onnx, tokenizer.json or features.json, member.json."""

    def work(folder: Path) -> dict[str, Any]:
        if job.member.kind == "ngrams":
            from newsdesk.build.compile import bag

            return bag.export(job.made["train"].path, folder)
        from newsdesk.build.compile import export as exporting

        return exporting.export(job.made["train"] / "checkpoint", folder, job.member.max_length)

    encoder = "compile.export", "compile.families", "compile.rewrite"
    modules = ("compile.bag", "members.bag") if job.member.kind == "ngrams" else encoder
    code = tuple(f"newsdesk.build.{name}" for name in modules)
    return job.run("export", work, [job.member.max_length], ("train",), code)


def quantise(job: Job) -> Artefact:
    """Make the precisions: `model.<variant>.onnx` for fp32, fp16, int8 and int8-dynamic, each judged on validation."""
    settings = job.recipe.quantise

    def work(folder: Path) -> dict[str, Any]:
        from newsdesk.build.compile import bag
        from newsdesk.build.compile import quantise as quantising

        source = job.made["export"] / "model.fp32.onnx"
        validation = job.encode(job.rows("validation"))
        engine = engines.load(quantising.RUNS_ANY, source)
        reference = probabilities(engine, validation, "fp32 on the validation rows")
        np.save(folder / REFERENCE, reference)
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

    own = ("bag",) if job.member.kind == "ngrams" else ("calibration", "explicit", "half", "int8", "qdq")
    modules = "gate", *own, "quantise", "predict"
    code = tuple(f"newsdesk.build.compile.{name}" for name in modules)
    return job.run("quantise", work, [settings, job.recipe.seed, job.member.max_length], ("split", "export"), code)


def compile(job: Job) -> Artefact:
    """Compile for every target that runs on this machine, measure each, and choose: target.json."""
    variants = job.made["quantise"].figures["variants"]

    def work(folder: Path) -> dict[str, Any]:
        from newsdesk.build.compile import targets

        reference = np.load(job.made["quantise"] / REFERENCE)
        gate = job.gate(job.encode(job.rows("validation")), reference)
        figures = targets.measure(job.graphs, gate, job.recipe.compile)
        for target, found in figures.items():
            found["passed"] = found["passed"] and variants[found["variant"]]["passed"]
            job.shop.say(f"  {target}: {targets.describe(found)}")
        chosen = targets.choose(figures, job.recipe.repository.variants, job.shop.say)
        job.shop.say(f"  {chosen} serves")
        passed = sorted(target for target, found in figures.items() if found["passed"])
        (folder / TARGET).write_text(json.dumps({"target": chosen, "passed": passed}))
        return {"target": chosen, "targets": figures}

    settings = [
        job.recipe.compile,
        job.recipe.quantise,
        job.recipe.repository.variants,
        job.member.max_length,
        machine(),
    ]
    return job.run(
        "compile",
        work,
        settings,
        ("split", "export", "quantise"),
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
        examples = job.encode([Row(text, 0) for text in texts])
        return {"targets": verifying.verify(artefacts, examples, original, job.recipe.verify)}

    settings = [job.recipe.verify, job.recipe.seed, job.member.max_length, machine()]
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
            examples = job.encode(job.rows(part))
            found = {
                name: probabilities(
                    engines.load(of_target, job.graphs[engines.TARGETS[of_target]]), examples, f"{of_target}, {part}"
                )
                for name, of_target in {"float": "onnxruntime:fp32", "served": target}.items()
            }
            figures[part] = {
                "rows": len(examples.ids),
                **{name: metrics.summary(values, examples.labels) for name, values in found.items()},
                "agreement": metrics.agreement(found["float"], found["served"]),
            }
        return {"target": target, "accuracy": figures}

    inputs = "split", "export", "quantise", "compile"
    return job.run(
        "evaluate",
        work,
        [job.member.max_length, machine()],
        inputs,
        ("newsdesk.build.evaluation.metrics", *job.serving_code),
    )
