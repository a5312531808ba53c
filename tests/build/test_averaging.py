"""Averaged and interpolated weights, by hand; which of them are taken."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from newsdesk.build.training.averaging import Average, candidates, choose


class _Model(torch.nn.Module):
    """An encoder of one weight and a head of one weight."""

    def __init__(self, encoder: float, head: float) -> None:
        super().__init__()
        self.encoder = torch.nn.Linear(1, 1, bias=False)
        self.head = torch.nn.Linear(1, 1, bias=False)
        self.put(encoder, head)

    def put(self, encoder: float, head: float) -> None:
        with torch.no_grad():
            self.encoder.weight.fill_(encoder)
            self.head.weight.fill_(head)


def _step(average: Average, model: _Model) -> None:
    average.on_step_end(None, None, None, model=model)


def test_an_average_moves_by_what_the_decay_leaves() -> None:
    """The first weights are taken as they are; then 0.75 · 1 + 0.25 · 5 = 2, and 0.75 · 2 + 0.25 · 6 = 3."""
    model = _Model(1.0, 0.0)
    average = Average(model, 0.75)
    for value in (1.0, 5.0, 6.0):
        model.put(value, 0.0)
        _step(average, model)
    assert average.weights["encoder.weight"].item() == pytest.approx(3.0)


def test_an_average_goes_on_from_a_checkpoint(tmp_path) -> None:
    model = _Model(4.0, 0.0)
    average = Average(model, 0.5)
    _step(average, model)
    arguments, state = SimpleNamespace(output_dir=tmp_path), SimpleNamespace(global_step=10)
    (tmp_path / "checkpoint-10").mkdir()
    average.on_save(arguments, state, None)
    resumed = Average(_Model(0.0, 0.0), 0.5)
    resumed.on_train_begin(arguments, state, None)
    model.put(8.0, 0.0)
    _step(resumed, model)
    assert resumed.weights["encoder.weight"].item() == pytest.approx(6.0)


def test_candidates_lie_between_the_pretrained_and_the_fitted_encoder_under_the_fitted_head() -> None:
    """Half of the way from 1 to 3 is 2; the head, which the pretrained model lacks, is the fitted one's."""
    pretrained = {name: value.clone() for name, value in _Model(1.0, 100.0).state_dict().items()}
    model = _Model(3.0, 7.0)
    among = list(candidates(model, pretrained, None, (0.5, 1.0)))
    assert [(candidate.name, candidate.share) for candidate in among] == [("last", 1.0), ("0.5 of the way", 0.5)]
    assert among[1].weights["encoder.weight"].item() == pytest.approx(2.0)
    assert among[1].weights["head.weight"].item() == pytest.approx(7.0)


class _Trainer:
    """Answers rows by the encoder's weight: so many of 100 are right."""

    eval_dataset = None

    def __init__(self, model: _Model, right: dict[float, int]) -> None:
        self.model, self._right = model, right

    def predict(self, rows: object) -> SimpleNamespace:
        right = self._right[round(self.model.encoder.weight.item(), 3)]
        predictions = np.zeros((100, 2))
        predictions[np.arange(100), [0] * right + [1] * (100 - right)] = 1
        metrics = {"test_accuracy": right / 100, "test_log_loss": 0.0}
        return SimpleNamespace(predictions=predictions, label_ids=np.zeros(100, int), metrics=metrics)


@pytest.mark.parametrize(
    ("right", "chosen"),
    [
        ({3.0: 90, 2.0: 89, 1.4: 80}, 2.0),  # one row of difference is within one standard error, ten are not
        ({3.0: 90, 2.0: 80, 1.4: 89}, 1.4),  # the nearest to the pretrained that is as good
        ({3.0: 90, 2.0: 80, 1.4: 80}, 3.0),
    ],
)
def test_the_nearest_to_the_pretrained_that_is_as_right_is_taken(right: dict[float, int], chosen: float) -> None:
    pretrained = {name: value.clone() for name, value in _Model(1.0, 0.0).state_dict().items()}
    trainer = _Trainer(_Model(3.0, 7.0), right)
    figures = choose(trainer, candidates(trainer.model, pretrained, None, (0.5, 0.2)))
    assert trainer.model.encoder.weight.item() == pytest.approx(chosen)
    assert [line.accuracy for line in figures] == [right[3.0] / 100, right[2.0] / 100, right[1.4] / 100]
    assert [line.chosen for line in figures] == [weight == chosen for weight in (3.0, 2.0, 1.4)]
