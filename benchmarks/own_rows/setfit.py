"""SetFit in a process of its own: `python setfit.py BASE FOLDER`. It reads rows, then texts, a line of JSON each.

SetFit is installed for this benchmark alone, and its packages may be others than newsdesk's: nothing of newsdesk is
imported here. The folder of this file leaves the path, since its name is the package's.
"""

import json
import sys
from typing import Any


def main(base: str, folder: str) -> None:
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    answers, sys.stdout = sys.stdout, sys.stderr  # the libraries print as they please

    def say(line: Any) -> None:
        print(json.dumps(line), file=answers, flush=True)

    rows = json.loads(sys.stdin.readline())
    model = SetFitModel.from_pretrained(base)
    arguments = TrainingArguments(output_dir=folder, batch_size=16, num_epochs=1, report_to="none", save_strategy="no")
    fitted_on = Dataset.from_dict({"text": rows["texts"], "label": rows["labels"]})
    Trainer(model=model, args=arguments, train_dataset=fitted_on).train()
    say("fitted")
    for line in sys.stdin:
        say(model.predict_proba(json.loads(line), as_numpy=True).tolist())


if __name__ == "__main__":
    sys.path.pop(0)
    main(*sys.argv[1:])
