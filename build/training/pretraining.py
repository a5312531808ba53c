"""Go on pretraining an encoder on texts alone: a share of the pieces is hidden, and named from the rest."""

from pathlib import Path
from typing import Any

import torch
import transformers
from msgspec import structs
from torch.nn import functional
from transformers import AutoTokenizer, DataCollatorForLanguageModeling

from newsdesk.build.members import encoders
from newsdesk.build.recipe import EncoderMember
from newsdesk.build.training import trainer
from newsdesk.build.training.figures import PretrainFigures


class Masked(torch.nn.Module):
    """An encoder under BERT's masked-language head (Devlin et al. 2019), fitted from zero.

    Sentence encoders are published without one. The word embeddings are the head's weights as well. Only hidden pieces
    pass through it.
    """

    def __init__(self, encoder: transformers.PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder
        pieces, width = encoder.get_input_embeddings().weight.shape
        self.dense = torch.nn.Linear(encoder.config.hidden_size, width)
        self.norm = torch.nn.LayerNorm(width)
        self.bias = torch.nn.Parameter(torch.zeros(pieces))

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the mean loss of the hidden pieces: those whose label INT64 [batch, length] isn't -100."""
        hidden = labels != -100
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[hidden]
        states = self.norm(functional.gelu(self.dense(states)))
        scores = functional.linear(states, self.encoder.get_input_embeddings().weight, self.bias)
        return {"loss": functional.cross_entropy(scores.float(), labels[hidden])}


def pretrain(
    member: EncoderMember, texts: list[str], validation: list[str], seed: int, folder: Path
) -> PretrainFigures:
    """Pretrain `member`'s base on `texts`, and write it to `folder` as a `from_pretrained` folder.

    Resumes from the newest checkpoint in `folder`/scratch.
    """
    recipe, scratch = member.pretrain, folder / "scratch"
    assert recipe
    transformers.set_seed(seed)
    base, pruned = trainer.pruned(member, texts, scratch)
    tokenizer = AutoTokenizer.from_pretrained(base, model_max_length=member.max_length)
    tokenizer.save_pretrained(folder)
    if not tokenizer.mask_token:  # some packaged vocabularies are without: the unknown piece is next to never met
        tokenizer.mask_token = tokenizer.unk_token
    model = Masked(encoders.bare(base, member.name))
    arguments = trainer.arguments(
        scratch,
        seed,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        warmup_ratio=0.06,
        weight_decay=0.01,
        prediction_loss_only=True,
    )
    fitting = transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=_ids(tokenizer, texts, member.max_length),
        eval_dataset=_ids(tokenizer, validation, member.max_length),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15, pad_to_multiple_of=8),
        processing_class=tokenizer,
    )
    fitting.model_accepts_loss_kwargs = False  # the loss is a mean over the batch
    fitting.train(resume_from_checkpoint=trainer.last_checkpoint(scratch))
    encoders.save(model.encoder, folder)
    history = fitting.state.log_history
    return PretrainFigures(
        texts=len(texts),
        device=trainer.device(),
        **(structs.asdict(pruned) if pruned else {}),
        loss=next((line["loss"] for line in reversed(history) if "loss" in line), None),
        validation=[line["eval_loss"] for line in history if "eval_loss" in line],
    )


def _ids(tokenizer: Any, texts: list[str], max_length: int) -> list[dict[str, list[int]]]:
    ids = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    return [{"input_ids": row} for row in ids]
