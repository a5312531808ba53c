"""SetFit in a process of its own: `python setfit.py BASE FOLDER`. It reads rows, then texts, a line of JSON each.

SetFit is installed for this benchmark alone, and its packages may be others than newsdesk's: nothing of newsdesk is
imported here. The folder of this file leaves the path, since its name is the package's.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

BATCH = 16


def steps(labels: Iterable[Any]) -> int:
    """Return the steps of SetFit's default: an epoch over all pairs of rows, as many of one label as of two."""
    counts = Counter(labels).values()
    pairs, alike = (sum(n * (n + 1) // 2 for n in of) for of in ([sum(counts)], counts))
    return math.ceil(2 * max(alike, pairs - alike) / BATCH)


def main(base: str, folder: str) -> None:
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    answers, sys.stdout = sys.stdout, sys.stderr  # the libraries print as they please

    def say(line: Any) -> None:
        print(json.dumps(line), file=answers, flush=True)

    rows = json.loads(sys.stdin.readline())
    model = SetFitModel.from_pretrained(base)
    arguments = TrainingArguments(
        output_dir=folder,
        batch_size=BATCH,
        num_epochs=1,
        max_steps=rows["steps"] if rows["steps"] < steps(rows["labels"]) else -1,
        report_to="none",
        save_strategy="no",
    )
    fitted_on = Dataset.from_dict({"text": rows["texts"], "label": rows["labels"]})
    Trainer(model=model, args=arguments, train_dataset=fitted_on).train()
    say("fitted")
    for line in sys.stdin:
        say(model.predict_proba(json.loads(line), as_numpy=True).tolist())


if __name__ == "__main__":
    sys.path.pop(0)
    main(*sys.argv[1:])
