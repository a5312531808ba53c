"""A step of training, against values worked out apart."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoConfig, AutoModel, TrainingArguments, get_scheduler

from newsdesk.build.compile import export
from newsdesk.build.members import encoders
from newsdesk.build.recipe import Adversarial, Distil, Train
from newsdesk.build.training import precision
from newsdesk.build.training.adversary import Adversary
from newsdesk.build.training.fitting import Dropout, Fitting, freeze, layer_groups
from newsdesk.build.training.trainer import schedule, window
from newsdesk.server.runtime import processor
from tests.build.encoders import save_base

LABELS = ["harbour", "kitchen", "garden"]
BATCH = {
    "input_ids": torch.tensor([[2, 5, 9, 3], [2, 7, 3, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
    "labels": torch.tensor([0, 2]),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_base(tmp_path_factory.mktemp("base")))


@pytest.fixture
def fitting(base: str, tmp_path: Path):
    def of(recipe: Train, distil: Distil | None = None) -> Fitting:
        torch.manual_seed(0)
        arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[], learning_rate=1e-3)
        return Fitting(recipe=recipe, distil=distil, model=encoders.create(base, "own", LABELS, "tiny"), args=arguments)

    return of


def logits_of(trainer: Fitting) -> torch.Tensor:
    trainer.model.eval()
    with torch.no_grad():
        return trainer.model(input_ids=BATCH["input_ids"], attention_mask=BATCH["attention_mask"]).logits


def test_without_options_the_loss_is_cross_entropy(fitting):
    trainer = fitting(Train())
    expected = functional.cross_entropy(logits_of(trainer), BATCH["labels"])
    assert trainer.compute_loss(trainer.model, dict(BATCH)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_teachers_share_of_the_loss(fitting):
    soft = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    trainer = fitting(Train(), Distil(teachers=["x"], weight=0.25, temperature=2.0))
    logits = logits_of(trainer).double().numpy()
    powered = soft.double().numpy() ** 0.5
    target = powered / powered.sum(-1, keepdims=True)
    warm = np.exp(logits / 2) / np.exp(logits / 2).sum(-1, keepdims=True)
    taught = 4 * (target * np.log(target / warm)).sum(-1).mean()
    hard = functional.cross_entropy(logits_of(trainer), BATCH["labels"]).item()
    loss = trainer.compute_loss(trainer.model, {**BATCH, "soft": soft}).item()
    assert loss == pytest.approx(0.75 * hard + 0.25 * taught, rel=1e-4)


def test_r_drop_adds_nothing_where_two_passes_agree_and_something_where_they_do_not(fitting):
    trainer = fitting(Train(r_drop=3.0))
    plain = functional.cross_entropy(logits_of(trainer), BATCH["labels"]).item()
    trainer.model.train()
    for layer in trainer.model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
        if hasattr(layer, "dropout_prob"):  # of fused attention
            layer.dropout_prob = 0.0
    assert trainer.compute_loss(trainer.model, dict(BATCH)).item() == pytest.approx(plain, rel=1e-5)
    trainer.model.dropout.p = 0.5
    torch.manual_seed(1)
    with_term = trainer.compute_loss(trainer.model, dict(BATCH)).item()
    trainer._recipe = Train()
    torch.manual_seed(1)
    assert with_term != pytest.approx(trainer.compute_loss(trainer.model, dict(BATCH)).item(), rel=1e-3)


def test_r_drop_weighs_the_distance_of_two_passes(fitting):
    """Label 0 of probability 1/2, then 3/4: losses ln 2 and ln 4/3, divergences ¾ ln 3/2 − ¼ ln 2 and ½ ln 4/3."""
    trainer = fitting(Train(r_drop=3.0))
    passes = iter([[[0.0, 0.0]], [[np.log(3), 0.0]]])

    class TrainingModel:
        training = True

        def __call__(self, **_: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=torch.tensor(next(passes)))

    loss = trainer.compute_loss(TrainingModel(), {"input_ids": torch.tensor([[2]]), "labels": torch.tensor([0])})
    losses = np.log(2), np.log(4 / 3)
    divergences = 0.75 * np.log(1.5) - 0.25 * np.log(2), 0.5 * np.log(4 / 3)
    assert loss.item() == pytest.approx(sum(losses) / 2 + 3.0 * sum(divergences) / 2, rel=1e-5)


def test_dropout_drops_its_share_scales_the_rest_and_follows_the_seed():
    ones = torch.ones(1000, 1000, requires_grad=True)

    def dropped(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        with Dropout():
            return functional.dropout(ones, 0.1, training=True)

    masked = dropped(3)
    assert masked.unique().tolist() == pytest.approx([0.0, 256 / 230])
    assert (masked == 0).float().mean() == pytest.approx(26 / 256, abs=0.002)
    # each of a word's eight bytes alike
    assert (masked == 0).float().view(-1, 8).mean(0).tolist() == pytest.approx([26 / 256] * 8, abs=0.005)
    masked.sum().backward()
    torch.testing.assert_close(ones.grad, masked.detach())
    assert torch.equal(masked, dropped(3))
    assert not torch.equal(masked, dropped(4))


@pytest.mark.parametrize(("share", "training"), [(0.1, False), (0.0, True)])
def test_dropout_leaves_alone_what_it_is_not_for(share: float, training: bool):
    values = torch.randn(7)
    with Dropout():
        assert torch.equal(functional.dropout(values, share, training), values)


@pytest.mark.parametrize(
    ("flags", "seconds", "expected"),
    [
        ("amx_bf16 avx2", {torch.float32: 4.0, torch.bfloat16: 1.0}, True),
        ("avx512_bf16", {torch.float32: 4.0, torch.bfloat16: 1.0}, True),
        ("avx512_bf16", {torch.float32: 0.6, torch.bfloat16: 1.0}, False),
        ("avx512_bf16", {torch.float32: 1.5, torch.bfloat16: 1.0}, False),
        ("avx2", {}, False),  # not even tried: a step took minutes there
    ],
)
def test_bf16_only_where_the_processor_is_faster_with_it(
    flags: str, seconds: dict[torch.dtype, float], expected: bool, tmp_path: Path, monkeypatch
):
    (tmp_path / "cpuinfo").write_text(f"model name\t: x\nflags\t\t: {flags}\n")
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(precision, "_seconds", lambda matrix: seconds[matrix.dtype])
    precision.bf16_is_faster.cache_clear()
    assert precision.bf16_is_faster() is expected
    precision.bf16_is_faster.cache_clear()


@pytest.mark.parametrize(
    ("lengths", "max_length", "expected"),
    [
        ([*range(1, 101)], 256, 104),  # the 99th of 100 is 99
        ([40] * 199 + [250], 256, 40),
        ([41] * 200, 256, 48),
        ([60] * 98 + [250] * 2, 256, 256),
        ([250] * 10, 254, 254),
    ],
)
def test_a_window_holds_99_of_100_training_rows(lengths: list[int], max_length: int, expected: int):
    assert window(lengths, max_length) == expected


@pytest.mark.parametrize("adversarial", [Adversarial(), Adversarial(steps=3), Adversarial(method="freelb", steps=2)])
@pytest.mark.parametrize("frozen", [False, True])
def test_an_adversarial_step_changes_the_gradients_and_leaves_the_words(fitting, adversarial, frozen: bool):
    gradients = []
    for recipe in (Train(), Train(adversarial=adversarial)):
        trainer = fitting(recipe)
        words = trainer.model.get_input_embeddings().weight.requires_grad_(not frozen)
        before = words.detach().clone()
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        trainer.create_optimizer()
        trainer.training_step(trainer.model, dict(BATCH))
        torch.testing.assert_close(words.detach(), before)
        gradients.append(trainer.model.classifier.weight.grad.clone())
    assert not torch.allclose(*gradients)


class Slope:
    """A model whose loss is the sum of its words times (3, -4), so that the gradient of a word is 5 long."""

    def __init__(self) -> None:
        self.words = torch.nn.Embedding(2, 2)
        self.words.weight.data.fill_(1.0)
        self.words.requires_grad_(False)
        self.seen: list[torch.Tensor] = []

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.words

    def parameters(self) -> list[torch.nn.Parameter]:
        return []

    def loss(self) -> torch.Tensor:
        read = self.words(torch.tensor([[0], [1]]))
        self.seen.append(read.detach().clone())
        return (read * torch.tensor([3.0, -4.0])).sum()

    def learn(self) -> torch.Tensor:
        loss = self.loss()
        if loss.requires_grad:
            loss.backward()
        return loss.detach()


def test_fgm_moves_each_text_as_far_as_the_recipe_says_up_the_gradient():
    """The gradient of each word is (3, -4): at 0.5 it moves by 0.3 and -0.4."""
    model = Slope()
    loss = Adversary(Adversarial(norm=0.5), model).train(torch.tensor([[0], [1]]), model.learn, model.loss)
    assert loss.item() == -2.0
    assert len(model.seen) == 2
    torch.testing.assert_close(model.seen[0], torch.ones(2, 1, 2))
    torch.testing.assert_close(model.seen[1], torch.tensor([[[1.3, 0.6]], [[1.3, 0.6]]]))


def test_pgd_takes_its_steps_and_stays_in_the_ball():
    """Four steps of 2.5 × 1 / 4 = 0.625 up the same slope: 0.625, then the edge at 1."""
    model = Slope()
    Adversary(Adversarial(norm=1.0, steps=4), model).train(torch.tensor([[0], [1]]), model.learn, model.loss)
    moved = [(seen - 1).flatten(1).norm(dim=1).tolist() for seen in model.seen]
    assert moved == [pytest.approx([length] * 2) for length in (0, 0.625, 1, 1, 1)]
    torch.testing.assert_close(model.seen[-1], torch.tensor([[[1.6, 0.2]], [[1.6, 0.2]]]))


def test_freelb_begins_in_the_ball_and_learns_at_every_step():
    model = Slope()
    adversary = Adversary(Adversarial(method="freelb", norm=1.0, steps=3), model)
    loss = adversary.train(torch.tensor([[0], [1]]), model.learn, model.loss)
    assert len(model.seen) == 3
    assert all((seen - 1).flatten(1).norm(dim=1).max() <= 1 + 1e-6 for seen in model.seen)
    losses = [(seen * torch.tensor([3.0, -4.0])).sum() for seen in model.seen]
    assert losses == sorted(losses)
    assert loss.item() == pytest.approx(np.mean(losses))


def test_freelb_learns_the_mean_of_its_steps():
    weight = torch.nn.Parameter(torch.zeros(1))
    model = Slope()
    model.parameters = lambda: [weight]

    def learn() -> torch.Tensor:
        loss = model.loss() + weight.sum()
        loss.backward()
        return loss.detach()

    Adversary(Adversarial(method="freelb", steps=3), model).train(torch.tensor([[0], [1]]), learn, model.loss)
    assert weight.grad.item() == pytest.approx(1.0)


def test_each_layer_learns_slower_than_the_one_above(base: str):
    model = encoders.create(base, "own", LABELS, "tiny")
    rates = {}
    for group in layer_groups(model, 1.0, 0.5, 0.01):
        for parameter in group["params"]:
            rates[id(parameter)] = group["lr"], group["weight_decay"]
    by_name = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}
    assert len(by_name) == len(rates)
    assert by_name["classifier.weight"] == (1.0, 0.01)
    assert by_name["bert.pooler.dense.bias"] == (1.0, 0.0)
    assert by_name["bert.encoder.layer.1.output.dense.weight"] == (0.5, 0.01)
    assert by_name["bert.encoder.layer.0.output.dense.weight"] == (0.25, 0.01)
    assert by_name["bert.embeddings.word_embeddings.weight"] == (0.125, 0.01)


def test_nothing_is_propagated_back_through_frozen_layers(tmp_path: Path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
    config = AutoConfig.for_model("mpnet", vocab_size=20, max_position_embeddings=40, **sizes)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    model = encoders.create(str(tmp_path), "mean", LABELS, "tiny").train()
    freeze(model, 2)
    model(BATCH["input_ids"], BATCH["attention_mask"]).logits.sum().backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {name for name in learning if not name.startswith("encoder.encoder.layer.2.")} == {
        "head.weight",
        "head.bias",
    }
    assert "encoder.encoder.layer.2.attention.attn.q.weight" in learning


@pytest.mark.parametrize("pooling", ["mean", "unit", "first"])
def test_a_pooling_of_ours_is_saved_loaded_and_exported(base: str, pooling, tmp_path: Path):
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    made = encoders.create(base, pooling, LABELS, "tiny").half().float().eval()
    encoders.save(made, tmp_path / "checkpoint")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "checkpoint")
    saved = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float16}
    loaded = encoders.load(tmp_path / "checkpoint")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    batch = {name: BATCH[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected, logits = made(**batch).logits, loaded(**batch).logits
        states = made.encoder(**batch).last_hidden_state
    torch.testing.assert_close(logits, expected)
    pooled = states[:, 0] if pooling == "first" else torch.stack([states[0].mean(0), states[1, :3].mean(0)])
    if pooling == "unit":
        pooled = pooled / pooled.norm(dim=1, keepdim=True)
    torch.testing.assert_close(expected, made.head(pooled))
    figures = export.export(tmp_path / "checkpoint", tmp_path, 64)
    assert figures.largest_difference < 1e-5
    assert figures.exporter == "torchscript"


@pytest.mark.parametrize(
    ("recipe", "peaks"), [(Train(schedule="cosine"), [0]), (Train(schedule="cosine", cycles=2), [0, 50])]
)
def test_the_rate_falls_to_nothing_once_a_cycle(recipe: Train, peaks: list[int]) -> None:
    arguments = schedule(recipe)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rates = get_scheduler(
        arguments["lr_scheduler_type"],
        optimizer,
        num_warmup_steps=0,
        num_training_steps=100,
        scheduler_specific_kwargs=arguments.get("lr_scheduler_kwargs"),
    )
    seen = []
    for _ in range(100):
        seen.append(rates.get_last_lr()[0])
        optimizer.step()
        rates.step()
    assert [step for step, rate in enumerate(seen) if rate == 1] == peaks
    assert seen[99] < 0.01
