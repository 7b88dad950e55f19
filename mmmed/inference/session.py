"""A loaded checkpoint that answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xxhash
from transformers import TextIteratorStreamer

from mmmed.data.collate import pad
from mmmed.errors import CheckpointError
from mmmed.inference.abstaining import FILE, Abstaining, read_abstaining
from mmmed.inference.generation import Decoding, generate
from mmmed.inference.likelihood import FloatArray, token_likelihoods
from mmmed.inference.scoring import Rule, score_options
from mmmed.models.folder import load
from mmmed.models.prepacked import prepack
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Answer, Example

Advance = Callable[[int], object]

Precision = Literal["float32", "bfloat16"]
"""What the language model answers in; in bfloat16, an option's probability moves by a percent or two."""


class Session:
    """Answers questions about images, always the same way: options by likelihood, free text greedily.

    Args:
        model: The model; it is put in evaluation mode.
        processor: The one it was trained with.
        device: Where to compute; None takes a GPU where there is one.
        batch_size: Examples that free text is generated for at once.
        provenance: How the model was made, as its folder says.
        abstaining: From which confidence on answers to closed questions stand; None lets all stand.
        precision: What the language model computes in; encoder and projector stay in float32.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        processor: Processor,
        *,
        device: str | None = None,
        batch_size: int = 16,
        provenance: Mapping[str, Any] | None = None,
        abstaining: Abstaining | None = None,
        precision: Precision = "float32",
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.to(self.device).eval()
        if precision == "bfloat16":
            self.model.language.bfloat16()
        prepack(self.model)
        self.processor = processor
        self.batch_size = batch_size
        self.provenance: Mapping[str, Any] = provenance or {}
        self.abstaining = abstaining

    def identity(self) -> str:
        """A digest of the weights and of how questions are put: what answers are kept under."""
        hashed = xxhash.xxh3_128()
        for name, tensor in self.model.state_dict().items():
            hashed.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            hashed.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        processor = self.processor
        settings = (processor.prompt.tokenizer.chat_template, processor.system, processor.transform)
        hashed.update(repr(settings).encode())
        return hashed.hexdigest()

    def choose(
        self,
        examples: Sequence[Example],
        *,
        rule: Rule | None = None,
        unasked: Sequence[Example] | None = None,
        advance: Advance = lambda count: None,
    ) -> list[Answer]:
        """Answer closed questions by the likelihood of their options.

        Args:
            examples: Closed questions.
            rule: How likelihoods become a choice; by their sums unless given.
            unasked: Each question without its content, for a calibrated rule.
            advance: Told how many examples are done since the last call.
        """
        rule = rule or Rule()
        scores = score_options(self.model, self.processor, examples, advance=advance)
        priors = score_options(self.model, self.processor, unasked) if unasked is not None else [None] * len(scores)
        answers = []
        for example, likelihoods, prior in zip(examples, scores, priors, strict=True):
            values = rule.values(likelihoods, example.options, prior=prior)
            probabilities = torch.tensor(values, dtype=torch.float64).softmax(0).tolist()
            options = dict(zip(example.options, probabilities, strict=True))
            text = max(options, key=options.__getitem__)
            silent = self.abstaining is not None and self.abstaining.is_silent(options[text])
            answers.append(Answer(text=text, options=options, abstains=silent))
        return answers

    def write(
        self,
        examples: Sequence[Example],
        *,
        max_new_tokens: int = 64,
        decoding: Decoding | None = None,
        begun: Sequence[str] | None = None,
        advance: Advance = lambda count: None,
    ) -> list[Answer]:
        """Answer in free text, greedily unless `decoding` says otherwise (which then holds for the length too).

        Where the answers' beginnings are given (`begun`), what comes back goes on from them.
        """
        texts = generate(
            self.model,
            self.processor,
            examples,
            decoding=decoding or Decoding(max_new_tokens=max_new_tokens),
            begun=begun,
            batch_size=self.batch_size,
            advance=advance,
        )
        return [Answer(text=text) for text in texts]

    def option_likelihoods(self, examples: Sequence[Example]) -> list[FloatArray]:
        """Log-likelihood of each option of closed questions, as it stands: they need not make a whole."""
        return [np.array(one.values) for one in score_options(self.model, self.processor, examples)]

    def likelihoods(self, examples: Sequence[Example], *, advance: Advance = lambda count: None) -> list[FloatArray]:
        """Log-likelihood of each token of each reference answer, as in training."""
        return token_likelihoods(self.model, self.processor, examples, batch_size=self.batch_size, advance=advance)

    def stream(self, example: Example, *, max_new_tokens: int = 256) -> Iterator[str]:
        """Answer one question, word by word; what goes wrong while it is generated is raised here."""
        tokenizer = self.processor.prompt.tokenizer
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=False, skip_special_tokens=True)
        inputs = [self.processor.question(example)]
        batch = pad(inputs, image_id=self.processor.image_id, left=True).to(self.device)
        with ThreadPoolExecutor(1) as worker:
            answer = worker.submit(self.model.generate, batch, max_new_tokens=max_new_tokens, streamer=streamer)
            # The stream ends with the answer, but not by itself when there is none.
            end: Callable[[], None] = streamer.end
            answer.add_done_callback(lambda done: end() if done.exception() else None)
            yield from streamer
            answer.result()


def open_session(folder: str | Path, *, device: str | None = None, precision: Precision = "float32") -> Session:
    """Open a trained model: its `model` folder, or the run's folder around it.

    Raises:
        CheckpointError: There is no model in the folder, or what says when it abstains was fitted to another.
    """
    path = model_folder(folder)
    if not path.is_dir():
        raise CheckpointError(f"no model at {path}; name the `model` folder that a run left under its --output")
    opened = load(path)
    opened.model.language.finish_training()
    processor = Processor(
        opened.model.language.tokenizer,
        transform=opened.model.transform,
        tokens_per_image=opened.model.tokens_per_image,
        **opened.settings,
    )
    session = Session(opened.model, processor, device=device, provenance=opened.provenance, precision=precision)
    session.abstaining = read_abstaining(path)
    if session.abstaining is not None and session.abstaining.identity != session.identity():
        raise CheckpointError(
            f"{path}: when it abstains was fitted to other weights; run `mmmed abstain` again, or delete {FILE}"
        )
    return session


def model_folder(folder: str | Path) -> Path:
    """The `model` folder of a run, or the folder itself."""
    path = Path(folder)
    inner = path / "model"
    return inner if not (path / "model.json").is_file() and (inner / "model.json").is_file() else path
