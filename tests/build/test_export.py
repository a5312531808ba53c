"""Export, family by family: the graph answers as PyTorch does at shapes it was never traced at (notes 71 to 77, 97)."""

import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from newsdesk.build.compile import export, families
from newsdesk.build.errors import BuildError, VerificationError
from newsdesk.server.runtime import engines
from tests.build.encoders import FAMILIES, VOCABULARY, save


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_parity_at_shapes_never_traced(family, exported):
    figures = exported(family).figures
    assert figures.shapes == [list(s) for s in itertools.product((1, 2, 8), (1, 2, 16, 128, 512))]
    assert figures.largest_difference < 1e-5
    assert figures.largest_padded_difference < 1e-5
    assert figures.exporter == families.FAMILIES[family].exporter


def test_every_family_of_the_table_is_tested():
    assert set(FAMILIES) == set(families.FAMILIES)


@pytest.mark.parametrize("family", ["bert", "xlnet"])
def test_padding_on_the_right_changes_nothing_against_pytorch_unpadded(family, exported):
    """XLNet summarises its last position, which is padding here unless the export sees to it (note 73)."""
    tiny = exported(family)
    model = AutoModelForSequenceClassification.from_pretrained(tiny.checkpoint).eval()
    ids = np.random.default_rng(3).integers(4, len(VOCABULARY), (1, 11))
    padded = np.pad(ids, ((0, 0), (0, 22)))
    mask = np.pad(np.ones_like(ids), ((0, 0), (0, 22)))
    with torch.inference_mode():
        expected = model(torch.from_numpy(ids)).logits.numpy()
    logits = engines.load("onnxruntime:fp32", tiny.graph)(padded, mask)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_openvino_reads_every_family(family, exported, batch):
    """It refuses DeBERTa's If over a dynamic rank, which the export settles."""
    ids, mask = (part[:3] for part in batch)
    expected = engines.load("onnxruntime:fp32", exported(family).graph)(ids, mask)
    np.testing.assert_allclose(engines.load("openvino:fp32", exported(family).graph)(ids, mask), expected, atol=1e-4)


def test_tokenizer_is_saved_without_truncation_and_padding_and_says_the_same(exported):
    tiny = exported()
    saved = json.loads((tiny.folder / export.TOKENIZER).read_text())
    assert saved["truncation"] is None
    assert saved["padding"] is None
    text = "the ferry was seen near an old lighthouse"
    theirs = AutoTokenizer.from_pretrained(tiny.checkpoint)(text)["input_ids"]
    assert Tokenizer.from_file(str(tiny.folder / export.TOKENIZER)).encode(text).ids == theirs


def test_unigram_scores_keep_the_digits_of_float32_alone():
    wide = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["▁", -3.9299705028533936], ["s", -5.5]]}
    short = json.loads(export.shorten_scores(json.dumps({"model": wide})))["model"]
    assert short == wide | {"vocab": [["<unk>", 0.0], ["▁", -3.9299705], ["s", -5.5]]}


def test_word_pieces_are_kept_as_they_are():
    model = {"type": "WordPiece", "vocab": {"[PAD]": 0, "é": 1}}
    assert json.loads(export.shorten_scores(json.dumps({"model": model}))) == {"model": model}


def test_ids_beyond_the_embeddings_are_refused(tmp_path: Path):
    save(tmp_path / "checkpoint", vocab_size=len(VOCABULARY) - 1)
    with pytest.raises(
        VerificationError, match=rf"ids up to {len(VOCABULARY) - 1}.*embeddings for {len(VOCABULARY) - 1}"
    ):
        export.export(tmp_path / "checkpoint", tmp_path, 64)


def test_more_tokens_than_positions_are_refused(tmp_path: Path):
    save(tmp_path / "checkpoint", "roberta", max_position_embeddings=66)
    with pytest.raises(BuildError, match=r"max_length is 128.*65 tokens.*members.NAME.max_length=65"):
        export.export(tmp_path / "checkpoint", tmp_path, 128)


def test_a_family_that_nobody_tried_is_refused():
    with pytest.raises(BuildError, match=r"'longformer'.*expected one of albert, bert"):
        families.family("longformer")


@pytest.mark.parametrize("damage", [1e-2, np.nan])
def test_parity_fails_on_a_graph_that_is_not_the_model(damage, exported, tmp_path: Path):
    tiny = exported()
    model = onnx.load(tiny.graph)
    weight = next(t for t in model.graph.initializer if t.name == "classifier.bias")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + np.float32(damage), weight.name))
    onnx.save(model, tmp_path / "damaged.onnx")
    original = AutoModelForSequenceClassification.from_pretrained(tiny.checkpoint).eval()
    with pytest.raises(VerificationError, match=r"batch 1, length 1, against PyTorch: logits differ by"):
        export.parity(original, tmp_path / "damaged.onnx", pad_id=0, limit=512)
