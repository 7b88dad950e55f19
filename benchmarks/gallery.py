"""Run every tiny recipe, compute what the full ones have, and write both into the gallery of configs/README.md.

    python benchmarks/gallery.py [recipe …]

Each stage trains fifty steps in a process of its own, each from the one before. Memory is the highest resident set of
that process, weights, data and the writing of the model included; the time of a step is the median without the reading
of its batch. Full sizes are built without memory, from the configurations that mmmed/models/architectures.yaml lists.
Recipes that are not named keep their rows.
"""

import csv
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "configs" / "recipe"
PAGE = ROOT / "configs" / "README.md"
BEGIN, END = "<!-- gallery: begin -->", "<!-- gallery: end -->"
COLUMNS = ("full: learns / has", "tokens", "tiny: learns / has", "tokens", "MiB", "s a step", "loss", "measured on")
WINDOW = 10


class Size(NamedTuple):
    """Parameters that a stage trains, all parameters of its model, and the places of an image in the prompt."""

    learns: int
    has: int
    tokens: int


class Run(NamedTuple):
    """What a tiny stage took (MiB, seconds a step), and its mean loss over the first and the last ten steps."""

    memory: float
    seconds: float
    first: float
    last: float


def main() -> None:
    """Measure, compute, and replace the rows of the table."""
    rows = rows_of(PAGE.read_text(encoding="utf-8"))
    chosen = [recipe for recipe in recipes() if recipe.name in sys.argv[1:] or not sys.argv[1:]]
    outputs = ROOT / "outputs" / "tiny"
    # First all that is measured: a process begins with the memory of the one it is made by.
    runs = {recipe.name: [train(stage, outputs) for stage in stages(recipe)] for recipe in chosen}
    for recipe in chosen:
        full = [full_size(stage) for stage in stages(recipe)]
        tiny = [tiny_size(outputs / recipe.name / stage.stem / "model") for stage in stages(recipe)]
        rows[recipe.name] = row(recipe.name, full=full, tiny=tiny, runs=runs[recipe.name])
    write(PAGE, [rows[recipe.name] for recipe in recipes() if recipe.name in rows])


def recipes() -> list[Path]:
    """The folders of the recipes, by name."""
    return sorted(folder for folder in RECIPES.iterdir() if any(folder.glob("1_*.yaml")))


def stages(recipe: Path) -> list[Path]:
    """The stages of a recipe in their full size, in order."""
    return sorted(path for path in recipe.glob("[0-9]_*.yaml") if not path.stem.endswith("_tiny"))


def tiny(stage: Path) -> Path:
    """What makes a stage tiny."""
    return stage.with_name(f"{stage.stem}_tiny.yaml")


def fit_arguments(stage: Path, outputs: Path) -> list[str]:
    """Arguments of `mmmed fit` for the tiny size of a stage, with the folders of its recipe under `outputs`."""
    given = read(tiny(stage))["model"]["init_args"].get("init_from")
    begins = ["--model.init_args.init_from", str(folder_of(given, outputs))] if given else []
    configs = ["--config", str(stage), "--config", str(tiny(stage))]
    here = ["--output", str(outputs / stage.parent.name / stage.stem), "--wandb", "false"]
    return [*configs, *here, *begins, "--trainer.enable_progress_bar", "false"]


def folder_of(init_from: str, outputs: Path) -> Path:
    """The folder outputs/tiny/RECIPE/STAGE/model, elsewhere."""
    return outputs.joinpath(*Path(init_from).parts[-3:])


def train(stage: Path, outputs: Path) -> Run:
    """Train the tiny size of a stage.

    Raises:
        SystemExit: It failed.
    """
    folder = outputs / stage.parent.name / stage.stem
    arguments = fit_arguments(stage, outputs)
    print(f"{stage.parent.name}/{stage.stem}", file=sys.stderr, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "stderr.txt").open("w") as told:
        process = subprocess.Popen([sys.executable, "-m", "mmmed", "fit", *arguments], cwd=ROOT, stderr=told)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = (folder / "stderr.txt").read_text().splitlines()
        raise SystemExit(f"{stage} failed: {lines[-1] if lines else process.returncode}")
    losses, seconds = logged(folder / "logs" / "metrics.csv", batch_size=batch_size(stage))
    return Run(
        usage.ru_maxrss / 1024,
        statistics.median(seconds),
        statistics.fmean(losses[:WINDOW]),
        statistics.fmean(losses[-WINDOW:]),
    )


def batch_size(stage: Path) -> int:
    """Examples a step of the tiny size."""
    given = tiny(stage)
    return int(read(given.parent / read(given)["data"])["init_args"]["batch_size"])


def logged(metrics: Path, *, batch_size: int) -> tuple[list[float], list[float]]:
    """Losses and seconds of the steps of a run that logs each of them."""
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    losses = [float(one["train/loss"]) for one in rows if one["train/loss"]]
    paces = [float(one["pace/examples_per_second"]) for one in rows if one["pace/examples_per_second"]]
    return losses, [batch_size / pace for pace in paces]


def full_size(stage: Path) -> Size | None:
    """Build the full size of a stage without memory; None where an architecture is not known here."""
    import torch

    from mmmed.models.outline import Architectures, built, offline
    from mmmed.training.stage import Stage

    given = read(stage)["model"]["init_args"]
    described = read(stage.parent / given["model"])
    try:
        described = offline(described, Architectures())
    except KeyError:
        return None
    with torch.device("meta"):
        made = Stage(given["name"], built(described), given["learning_rates"], optimizer=torch.optim.AdamW)
    return size_of(made.counts(), made.model.tokens_per_image)


def tiny_size(folder: Path) -> Size:
    """What the model folder of a tiny stage says of itself."""
    import torch

    from mmmed.models.folder import build, read_content

    content = read_content(folder)
    with torch.device("meta"):
        tokens = build(content, tokenizer=folder).tokens_per_image
    return size_of(content["provenance"]["parameters"], tokens)


def size_of(counts: Mapping[str, Mapping[str, int]], tokens: int) -> Size:
    """Sum the counts of the parts of a model."""
    learns, has = (sum(part[what] for part in counts.values()) for what in ("trainable", "parameters"))
    return Size(learns, has, tokens)


def row(recipe: str, *, full: Sequence[Size | None], tiny: Sequence[Size], runs: Sequence[Run]) -> str:
    """One row of the table, the stages of a cell one above the other."""
    cells = [
        [shown(one) for one in full],
        [str(one.tokens) if one else "not computed" for one in full][:1],
        [shown(one) for one in tiny],
        [str(one.tokens) for one in tiny][:1],
        [f"{one.memory:.0f}" for one in runs],
        [f"{one.seconds:.2f}" for one in runs],
        [f"{one.first:.2f} → {one.last:.2f}" for one in runs],
        [machine()],
    ]
    return f"| [{recipe}](recipe/{recipe}) | {' | '.join('<br>'.join(lines) for lines in cells)} |"


def shown(size: Size | None) -> str:
    """Parameters in words: ``4.2 M / 6.74 B``."""
    return f"{count(size.learns)} / {count(size.has)}" if size else "not computed"


def count(parameters: int) -> str:
    """A number of parameters in three digits."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= unit:
            return f"{parameters / unit:.3g} {name}"
    return str(parameters)


def machine() -> str:
    """Processor, threads and versions."""
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = re.search(r"^model name\s*: (.*)$", told, re.MULTILINE)
    name = found[1] if found else platform.processor() or platform.machine()
    threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    return f"{name}, {threads} threads, torch {version('torch')}, Python {platform.python_version()}"


def rows_of(page: str) -> dict[str, str]:
    """The rows that the page has, by recipe."""
    return {found[1]: found[0] for found in re.finditer(r"^\| \[(\w+)\].*$", between(page), re.MULTILINE)}


def between(page: str) -> str:
    """What stands between the marks.

    Raises:
        SystemExit: The marks are not there.
    """
    if not (BEGIN in page and END in page):
        raise SystemExit(f"{PAGE} lacks {BEGIN} or {END}; put the two where the table is to stand")
    return page.partition(BEGIN)[2].partition(END)[0]


def write(path: Path, rows: Sequence[str]) -> None:
    """Put a table of these rows between the marks of the page, all at once."""
    page = path.read_text(encoding="utf-8")
    heads = [f"| recipe | {' | '.join(COLUMNS)} |", "| --- " * (1 + len(COLUMNS)) + "|"]
    table = "\n".join(["", *heads, *rows, ""])
    between(page)  # refuses a page without marks
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    partial_path = path.with_suffix(".tmp")
    partial_path.write_text(f"{before}{BEGIN}{table}{END}{after}", encoding="utf-8")
    partial_path.replace(path)


def read(path: Path) -> Any:
    """The content of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
