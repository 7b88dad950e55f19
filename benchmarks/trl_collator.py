"""From records to gradients, against the batches that TRL's SFTTrainer makes for a model with images.

    python benchmarks/trl_collator.py [align,instruct] [pairs]

It needs `pip install trl` (in an environment of its own, for it is no dependency of mmmed). The models are those of
training_step.py, the peer's in bfloat16 autocast. Both sides decode the films and make the batch anew in each step. TRL
learns from the line break behind an answer, too; for the comparison of the losses it is left out, and in both float32
is computed. What then lies between them are films that two libraries have scaled.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import Claim, in_turns, write
from torch import Tensor
from training_step import WHAT, Step, examples, make, ours, own_precisions, theirs
from transformers import AutoProcessor
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from mmmed.data.collate import pack
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example
from mmmed.training.objectives import AnswerLoss

PEER = "TRL's collator and transformers LLaVA, bfloat16 autocast"


def main() -> None:
    """Print and keep a row for each claim."""
    claims = sys.argv[1].split(",") if len(sys.argv) > 1 else list(WHAT)
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        for claim in claims:
            write("trl_collator", [time_row(folder, claim, pairs)])


def time_row(folder: Path, claim: str, pairs: int) -> Claim:
    """One claim, once losses of the same tokens are found equal."""
    records, mine = examples(claim), own_precisions()[-1]
    collate = DataCollatorForVisionLanguageModeling(
        AutoProcessor.from_pretrained(folder / "theirs", local_files_only=True), completion_only_loss=True
    )
    exact, batches = ours(folder, claim, "float32")
    their = theirs(folder, claim, "autocast", batches.padded)
    apart = losses_apart(exact, their, collate(list(map(conversation, records))), batches.padded)
    our, _ = ours(folder, claim, mine)

    def their_loss() -> Tensor:
        loss: Tensor = their.model(**collate(list(map(conversation, records)))).loss
        return loss

    sides = [from_records(our, records), replace(their, loss=their_loss)]
    for side in sides:
        side.run()
    return in_turns(
        f"{claim} from records to gradients, {WHAT[claim]}; mmmed in {mine}",
        peer=PEER,
        theirs=sides[1].run,
        ours=sides[0].run,
        equal=apart,
        bar=None,
        pairs=pairs,
    )


def conversation(example: Example) -> dict[str, Any]:
    """An example in TRL's form of prompt and completion."""
    return {
        "images": [image.open().convert("RGB") for image in example.images],
        "prompt": [{"role": "user", "content": example.question}],
        "completion": [{"role": "assistant", "content": example.reference}],
    }


def from_records(step: Step, records: Sequence[Example]) -> Step:
    """mmmed's step with the making of its batch."""
    model = step.model
    assert isinstance(model, VisionLanguageModel)
    processor = Processor(model.tokenizer, transform=model.transform, tokens_per_image=model.tokens_per_image)

    def loss() -> Tensor:
        inputs = [processor.training(one) for one in records]
        return AnswerLoss().loss(model, pack(inputs, image_id=processor.image_id))

    return replace(step, loss=loss)


@torch.no_grad()
def losses_apart(exact: Step, their: Step, made: Mapping[str, Tensor], padded: Batch) -> float:
    """Relative difference of the losses of the same tokens, each side with films that it prepared itself."""
    assert made["input_ids"].equal(padded.ids_BT), "TRL reads other tokens"
    labels = made["labels"].where(padded.supervised_BT, -100)
    assert labels.ne(-100).equal(padded.supervised_BT), "TRL learns from fewer tokens"
    expected = their.model(**{**made, "labels": labels}).loss
    return abs(exact.loss().item() - expected.item()) / expected.item()


if __name__ == "__main__":
    main()
