"""Pretraining on a recipe's own texts, before any label is read."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn import functional

from newsdesk.build import recipe
from newsdesk.build.members import encoders
from newsdesk.build.pipeline.artifacts import ArtifactStore
from newsdesk.build.pipeline.declaration import declare
from newsdesk.build.recipe import EncoderMember, Pretrain
from newsdesk.build.training.pretraining import Masked, pretrain
from tests.build.encoders import FAMILIES, VOCABULARY, WORDS, save, save_base, sentence
from tests.build.vocabularies import TEXTS as PIECES
from tests.build.vocabularies import save as save_vocabulary
from tests.build.vocabularies import unigrams, word_pieces

TEXTS = [sentence(label, i) for i in range(120) for label in WORDS]
SETTINGS = Pretrain(epochs=6, batch_size=16, learning_rate=3e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_the_hidden_pieces_alone(family: str, tmp_path: Path):
    save(tmp_path, family)
    model = Masked(encoders.bare(str(tmp_path), "tiny")).eval()
    ids = torch.tensor([[2, 5, 9, 7, 3], [2, 7, 3, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    labels = torch.full_like(ids, -100)
    labels[0, 2], labels[0, 3], labels[1, 1] = 12, 7, 20
    with torch.no_grad():
        loss = model(input_ids=ids, attention_mask=mask, labels=labels)["loss"]
        states = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        table = model.encoder.get_input_embeddings().weight
        scores = model.norm(functional.gelu(model.dense(states))) @ table.T + model.bias
        expected = functional.cross_entropy(scores.flatten(0, 1), labels.flatten())  # -100 is passed over
    torch.testing.assert_close(loss, expected)
    assert scores.shape == (2, 5, len(VOCABULARY))


def test_hidden_pieces_are_named_better_and_fitting_starts_from_there(tmp_path: Path):
    base = save_base(tmp_path / "base")
    member = EncoderMember(name="tiny", base=str(base), max_length=32, pretrain=SETTINGS)
    folder = tmp_path / "made"
    figures = pretrain(member, TEXTS[:-60], TEXTS[-60:], 17, folder)
    assert figures.texts == len(TEXTS) - 60
    assert len(figures.validation) == 6
    assert figures.validation[-1] < figures.validation[0] - 0.2
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.float16}
    # The tokenizer has no piece to hide others behind; the one that stood in for it has not become one.
    assert "mask_token" not in json.loads((folder / "special_tokens_map.json").read_text())
    started = encoders.create(str(folder), "mean", ["a", "b"], "tiny").encoder.state_dict()
    before = encoders.bare(str(base), "tiny").state_dict()
    moved = "encoder.layer.0.attention.self.query.weight"
    assert not torch.allclose(started[moved], before[moved], atol=1e-3)
    assert started[moved].half().float().equal(started[moved])  # just what was written


@pytest.mark.parametrize("make", [word_pieces, unigrams])
def test_a_pruned_vocabulary_is_what_is_pretrained(make: Callable[[], Tokenizer], tmp_path: Path):
    base = save_vocabulary(tmp_path / "base", make())
    member = EncoderMember(name="tiny", base=base, max_length=32, min_piece_count=2, pretrain=Pretrain(epochs=1))
    figures = pretrain(member, PIECES * 4, PIECES, 17, tmp_path / "made")
    table = load_file(tmp_path / "made" / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert len(table) == figures.pieces < figures.pieces_before
    assert Tokenizer.from_file(str(tmp_path / "made" / "tokenizer.json")).get_vocab_size() == len(table)


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch):
    from newsdesk.build.training import trainer

    common = trainer.arguments
    monkeypatch.setattr(
        trainer, "arguments", lambda *arguments, **more: common(*arguments, **{**more, "save_steps": 5})
    )
    base = save_base(tmp_path / "base")
    member = EncoderMember(name="tiny", base=str(base), max_length=32, pretrain=SETTINGS)
    folder = tmp_path / "made"
    steps = 0

    def stop(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 13:
            raise KeyboardInterrupt

    forward = Masked.forward
    monkeypatch.setattr(Masked, "forward", lambda self, **arguments: (stop(), forward(self, **arguments))[1])
    with pytest.raises(KeyboardInterrupt):
        pretrain(member, TEXTS[:96], TEXTS[-8:], 17, folder)
    assert (folder / "scratch" / "checkpoint-10").is_dir()
    figures = pretrain(member, TEXTS[:96], TEXTS[-8:], 17, folder)
    assert len(figures.validation) == 6
    assert steps < 13 + 36  # of 36 steps ten were not made again; each of 6 epochs asks the validation rows once


def test_one_pretraining_serves_every_fold_of_a_member(tmp_path: Path):
    rows = tmp_path / "rows.csv"
    rows.write_text("\n".join(["text,label", *(f"{sentence(label, i)},{label}" for i in range(40) for label in WORDS)]))
    base = save_base(tmp_path / "base")
    tiny = {"name": "tiny", "base": str(base), "max_length": 32, "pooling": "mean"}
    member = {**tiny, "pretrain": {"epochs": 1}, "train": {"epochs": 1}}
    source = {"data.train": {"file": str(rows)}, "data.test": None, "labels": [*WORDS], "split.validation_rows": 20}
    settings = recipe.load("compact", {**source, "members": [member], "teaching": None})
    lines: list[str] = []
    settings = msgspec.structs.replace(
        settings, members=[msgspec.structs.replace(settings.members[0], calibration_folds=2)]
    )
    made = declare(settings).graph.run(["train tiny", "cross-fit tiny"], ArtifactStore(tmp_path / "a", lines.append))
    rows = made["split"].figures["train"]
    assert made["pretrain tiny"].figures["texts"] == made["train tiny"].figures["rows"] == rows
    assert made["train tiny"].entry["inputs"]["pretrained"] == made["pretrain tiny"].content
    fits = [json.loads(path.read_text()) for path in (tmp_path / "a" / "train").glob("*/entry.json")]
    assert sorted(fit["figures"]["rows"] for fit in fits) == [rows // 2, rows - rows // 2, rows]
    assert [line for line in lines if line.startswith("pretrain") and "running" in line] == ["pretrain tiny: running"]
