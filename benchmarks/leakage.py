"""What the leakage scan finds, what it takes for a copy that is none, and how long it takes.

    python benchmarks/leakage.py planted [folder of the data sets]
    python benchmarks/leakage.py official [folder of the data sets]
    python benchmarks/leakage.py scale [pictures]

`planted` alters every film of the NIH sample in seven ways and scans films and copies together; `official` scans
VQA-RAD by the split of its publishers and compares with plain grouping of its file; `scale` times synthetic thumbnails
that look as much alike as chest films do, one in a hundred of them planted again.
"""

import io
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mmmed.data.leakage.near import LEAST_AGREEMENT, near_pairs
from mmmed.data.leakage.pictures import SIDE, thumbnail
from mmmed.data.leakage.scan import ScanSettings, scan
from mmmed.data.leakage.windows import resample, turned, window_maps
from mmmed.data.source import read
from mmmed.data.sources.nih_cxr import NihCxr
from mmmed.data.sources.vqa_rad import VqaRad
from mmmed.records import SPLITS

SHARED = Path("../shared/data")
BAR_PICTURES, BAR_SECONDS = 100_000, 900
TEXTS = ("DOE, JANE 1941-03-02", "MRN 00231187", "PORTABLE AP 14:32", "ST MARY HOSPITAL", "L")

Alteration = Callable[[Image.Image, np.random.Generator], Image.Image]


class Found(NamedTuple):
    """Copies found of those planted, pairs of different films taken for copies, and pairs of different films."""

    planted: int
    found: int
    false: int
    different: int

    @property
    def recall(self) -> float:
        return self.found / self.planted

    @property
    def false_share(self) -> float:
        return self.false / self.different


def resized(film: Image.Image, chance: np.random.Generator) -> Image.Image:
    """A third to nearly double the size, proportions off by up to 5 %, by any filter."""
    scale, stretch = chance.uniform(0.35, 1.8), chance.uniform(0.95, 1.05)
    filters = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
    size = (max(8, int(film.width * scale)), max(8, int(film.height * scale * stretch)))
    return film.resize(size, filters[chance.integers(len(filters))])


def cropped(film: Image.Image, chance: np.random.Generator) -> Image.Image:
    """80 to 95 % of each side, anywhere."""
    width, height = (int(side * chance.uniform(0.8, 0.95)) for side in film.size)
    left, top = chance.integers(film.width - width + 1), chance.integers(film.height - height + 1)
    return film.crop((left, top, left + width, top + height))


def compressed(film: Image.Image, chance: np.random.Generator) -> Image.Image:
    """JPEG of quality 10 to 60."""
    buffer = io.BytesIO()
    film.save(buffer, "JPEG", quality=int(chance.integers(10, 60)))
    return Image.open(buffer).convert("L")


def contrasted(film: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Gamma 0.55 to 1.8, contrast halved to times 1.6, brightness up or down by 15 %, cut off at black and white."""
    grey = (np.asarray(film) / 255) ** np.exp(chance.uniform(-0.6, 0.6))
    grey = (grey - 0.5) * chance.uniform(0.5, 1.6) + 0.5 + chance.uniform(-0.15, 0.15)
    return Image.fromarray((grey.clip(0, 1) * 255).round().astype(np.uint8))


def rotated(film: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Up to 10° either way, black where nothing is."""
    return film.rotate(chance.uniform(-10, 10), Image.Resampling.BICUBIC)


def marked(film: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Two to five lines of text, white, light or black, anywhere."""
    film = film.copy()
    draw = ImageDraw.Draw(film)
    for _ in range(chance.integers(2, 6)):
        font = ImageFont.load_default(int(chance.integers(12, 30)))
        place = (chance.integers(film.width * 2 // 3), chance.integers(max(film.height - 30, 1)))
        draw.text(place, TEXTS[chance.integers(len(TEXTS))], fill=int(chance.choice([255, 0, 220])), font=font)
    return film


def all_at_once(film: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Turned, cropped, resized, brightened, marked and compressed."""
    for alter in (rotated, cropped, resized, contrasted, marked, compressed):
        film = alter(film, chance)
    return film


ALTERATIONS: dict[str, Alteration] = {
    "resize": resized,
    "crop": cropped,
    "JPEG": compressed,
    "contrast": contrasted,
    "rotation": rotated,
    "burned-in text": marked,
    "all at once": all_at_once,
}


def planted(films: list[Image.Image], kind: str, *, seed: int = 1) -> Found:
    """Scan films together with one altered copy of each."""
    chance = np.random.default_rng(seed)
    copies = [ALTERATIONS[kind](film, chance) for film in films]
    thumbnails = np.stack([thumbnail(one) for one in (*films, *copies)])
    pairs = near_pairs(thumbnails).pairs
    found = sum(pair.second - pair.first == len(films) for pair in pairs)
    different = len(thumbnails) * (len(thumbnails) - 1) // 2 - len(films)
    return Found(len(films), found, len(pairs) - found, different)


def nih_films(root: Path) -> list[Image.Image]:
    """Every film of the NIH sample, once."""
    source = NihCxr(str(root / "02_cxr_nih_labels"))
    images = {one.images[0].name: one.images[0] for split in SPLITS for one in read([source], split).examples}
    return [image.open().convert("L") for image in images.values()]


def print_planted(root: Path) -> None:
    """The table of recall and false pairs by alteration."""
    films = nih_films(root)
    print("| alteration | planted | found | recall | false pairs | of all other pairs | CPU s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in ALTERATIONS:
        began = time.process_time()
        one = planted(films, kind)
        took = time.process_time() - began
        shares = f"{one.recall:.4f} | {one.false} | {one.false_share:.1e}"
        print(f"| {kind} | {one.planted} | {one.found} | {shares} | {took:.0f} |", flush=True)


def in_both_splits(file: Path) -> set[str]:
    """Images of VQA-RAD's file that stand in training and in test, by plain grouping."""
    splits: dict[str, set[bool]] = defaultdict(set)
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        splits[Path(row["image"]).name].add(row["phrase_type"].startswith("test"))
    return {name for name, both in splits.items() if len(both) == 2}


def print_official(root: Path) -> None:
    """What the scan says of VQA-RAD's official split, beside plain grouping."""
    folder = root / "04_vqa_rad"
    report = scan([VqaRad(str(folder))], settings=ScanSettings(split_by="official_split"))
    reported = {Path(one.second).name for one in report.findings if one.kind == "image" and one.is_across}
    grouped = in_both_splits(folder / "vqa_rad.jsonl")
    print(f"grouping {len(grouped)}, reported {len(reported)}, the same: {grouped == reported}")
    own = scan([VqaRad(str(folder))])
    print(f"our split by case: {'clean' if own.is_clean else own.counts(across=True)}")


def synthetic(count: int, *, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Thumbnails of one body plan with shapes and textures of their own, the last hundredth copies of others.

    Returns the thumbnails, and for each of the last ones the place of its original.
    """
    generator = torch.Generator().manual_seed(seed)
    copies = count // 100
    parts = [_bodies(min(4096, count - copies - start), generator) for start in range(0, count - copies, 4096)]
    pictures = torch.cat(parts)
    originals = torch.randperm(len(pictures), generator=generator)[:copies]
    again = _altered(pictures[originals].float() / 255, generator)
    return torch.cat([pictures, _as_bytes(again)]).numpy(), originals.numpy()


def _bodies(count: int, generator: torch.Generator) -> Tensor:
    place = (torch.arange(SIDE) * 2 + 1) / SIDE - 1
    y, x = torch.meshgrid(place, place, indexing="ij")
    lungs = sum(torch.sigmoid(12 * (1 - ((x - side) / 0.33) ** 2 - (y / 0.68) ** 2)) for side in (-0.42, 0.42))
    plan = (0.75 - 0.5 * lungs + 0.08 * torch.cos(22 * (y + 0.3 * x**2)) * lungs).expand(count, SIDE, SIDE)
    maps = window_maps(0.16 * torch.rand(count, 4, generator=generator) - 0.08)
    seen = resample(plan, turned(maps, 8 * torch.rand(count, generator=generator) - 4))
    for cells, height in ((6, 0.05), (16, 0.04), (32, 0.03)):
        field = torch.randn(count, 1, cells, cells, generator=generator)
        seen = seen + height * functional.interpolate(field, size=SIDE, mode="bicubic")[:, 0]
    return _as_bytes(seen)


def _altered(pictures: Tensor, generator: torch.Generator) -> Tensor:
    count = len(pictures)
    cuts = 0.1 * torch.rand(count, 4, generator=generator)
    seen = resample(pictures, turned(window_maps(cuts), 16 * torch.rand(count, generator=generator) - 8))
    gain = 0.7 + 0.6 * torch.rand(count, 1, 1, generator=generator)
    return (seen - 0.5) * gain + 0.5 + 0.01 * torch.randn(seen.shape, generator=generator)


def _as_bytes(pictures: Tensor) -> Tensor:
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)


def print_scale(count: int) -> None:
    """Time, recall and false pairs on synthetic thumbnails."""
    thumbnails, originals = synthetic(count)
    planted_pairs = {(int(one), count - len(originals) + place) for place, one in enumerate(originals)}
    began, cpu = time.perf_counter(), time.process_time()
    result = near_pairs(thumbnails)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    found = {(pair.first, pair.second) for pair in result.pairs}
    hit = len(found & planted_pairs)
    print(
        f"{count} thumbnails, {torch.get_num_threads()} threads: {took:.0f} s wall, {used:.0f} s of CPU; "
        f"{result.compared} pairs compared; recall {hit}/{len(planted_pairs)}; {len(found) - hit} false pairs "
        f"at agreement {LEAST_AGREEMENT}"
    )
    # Beside this file where it is run, and not needed by those who import it.
    from measuring import Claim, write

    # Time grows with the pairs that are compared, and those with the square of the pictures.
    forecast = took * (BAR_PICTURES / count) ** 2
    ratio = round(BAR_SECONDS / forecast, 2)
    more = {"pictures": count, "seconds": round(took, 1), "processor_seconds": round(used, 1)}
    found_of = {"planted": len(planted_pairs), "found": hit, "false": len(found) - hit}
    claim = f"leakage scan of {BAR_PICTURES} thumbnails" + ("" if count == BAR_PICTURES else f", told from {count}")
    row = Claim(claim=claim, peer="15 minutes", ratio=ratio, low=ratio, high=ratio, bar=1.0, more={**more, **found_of})
    write("leakage", [row])


def main() -> None:
    """Run what the first word says."""
    word, *rest = sys.argv[1:] or ["planted"]
    if word == "scale":
        print_scale(int(rest[0]) if rest else 10_000)
    else:
        {"planted": print_planted, "official": print_official}[word](Path(rest[0]) if rest else SHARED)


if __name__ == "__main__":
    main()
