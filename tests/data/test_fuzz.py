"""Damaged files, however they are damaged, end in a reason: never in a traceback, a hang or a tensor of another shape.

`slow` tries thousands of damages, mostly to files of the real development data; the quick test two hundred.
"""

import gzip
import io
import json
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from mmmed.data.source import Source
from mmmed.data.sources.covid_chestxray import CovidChestXray
from mmmed.data.sources.ham10000 import Ham10000
from mmmed.data.sources.llava_med import LlavaMed
from mmmed.data.sources.medmnist import MedMnist
from mmmed.data.sources.nih_cxr import NihCxr
from mmmed.data.sources.pairs import Pairs
from mmmed.data.sources.path_vqa import PathVqa
from mmmed.data.sources.preferences import Preferences
from mmmed.data.sources.pubmed_abstracts import PubMedAbstracts
from mmmed.data.sources.pubmedqa import PubMedQa
from mmmed.data.sources.text_corpus import TextCorpus
from mmmed.data.sources.vqa_rad import VqaRad
from mmmed.errors import DataError, ImageError
from mmmed.processing.image import ImageFile
from mmmed.processing.pixels import to_pixels
from mmmed.records import Example, Quarantined
from mmmed.transforms import ImageTransform

TRANSFORM = ImageTransform(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
# Of the processor's own time, so that a busy machine fails no test.
MOST_SECONDS = 10.0

TOKENS = (b"", b"\0", b"\xff" * 4, b'"', b"{", b"}", b"[", b"]", b",", b"\n", b"<", b"&", b"null", b"1e999", b"-1")
TOKENS += (b"<image>", b"\\ud800", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"../../etc/passwd", b"9" * 400, b"[" * 3000)


def tried(cases: int) -> settings:
    """As many cases, the same ones each time; a busy machine fails none."""
    return settings(
        max_examples=cases, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )


class Damage(NamedTuple):
    """What is done to a file: at a share of its length, something is put in place of some bytes."""

    at: float
    drop: int
    put: bytes


damages = st.lists(
    st.builds(
        Damage,
        at=st.floats(0, 1, exclude_max=True),
        drop=st.sampled_from((0, 1, 2, 4, 16, 300, 1 << 30)),
        put=st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8)),
    ),
    min_size=1,
    max_size=4,
)


def damaged(content: bytes, changes: Sequence[Damage]) -> bytes:
    for change in changes:
        start = int(change.at * len(content))
        content = content[:start] + change.put + content[start + change.drop :]
    return content


def check_image(path: Path, *, content: bytes) -> bool:
    """Whether a file is decoded; if so, to the shape that encoders want, and if not, with a reason in one line."""
    path.write_bytes(content)
    start = time.process_time()
    try:
        with warnings.catch_warnings():
            # What Pillow remarks on damaged headers is no error outside of tests.
            warnings.simplefilter("ignore")
            picture = ImageFile(path).open()
    except ImageError as error:
        assert "\n" not in str(error) and path.name in str(error)
        return False
    finally:
        assert time.process_time() - start < MOST_SECONDS
    assert picture.mode in ("L", "RGB")
    pixels = to_pixels(picture, TRANSFORM)
    assert pixels.shape == (3, 32, 32) and pixels.dtype == torch.float32 and bool(pixels.isfinite().all())
    return True


def check_records(source: Source) -> list[Quarantined]:
    """Read all that can be read; what was set aside has a reason in one line."""
    start = time.process_time()
    bad: list[Quarantined] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for record in source.records():
                if isinstance(record, Quarantined):
                    assert record.reason and record.record and "\n" not in record.reason
                    # It can be written into the quarantine.
                    json.dumps([record.record, record.reason], ensure_ascii=False).encode()
                    bad.append(record)
                else:
                    check_example(record)
    except DataError as error:
        assert "\n" not in str(error)
    assert time.process_time() - start < MOST_SECONDS
    return bad


def check_example(example: Example) -> None:
    assert example.id and example.turns and example.split in ("train", "validation", "test")
    said = [turn.text for turn in example.turns]
    json.dumps([example.id, example.patient, said, example.options, dict(example.attributes)]).encode()
    "".join((example.id, example.patient, example.topic, *said, *example.options)).encode()
    for image in example.images:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                picture = image.open()
        except ImageError as error:
            assert "\n" not in str(error)
        else:
            assert to_pixels(picture, TRANSFORM).shape == (3, 32, 32)


def pictures() -> dict[str, bytes]:
    """A small picture in each format and kind."""
    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 255, (24, 20), np.uint8), rng.integers(0, 255, (20, 24, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a film"
    kinds: list[tuple[str, Image.Image, str, dict[str, Any]]] = [
        ("grey.png", Image.fromarray(grey), "PNG", {}),
        ("deep.png", Image.fromarray(grey.astype(np.uint16) * 200), "PNG", {}),
        ("palette.png", Image.fromarray(colour).quantize(8), "PNG", {"transparency": 3}),
        ("clear.png", Image.fromarray(colour).convert("RGBA"), "PNG", {"exif": exif}),
        ("colour.jpg", Image.fromarray(colour), "JPEG", {"exif": exif}),
        ("steps.jpg", Image.fromarray(grey), "JPEG", {"progressive": True}),
        ("ink.jpg", Image.fromarray(colour).convert("CMYK"), "JPEG", {}),
        ("grey.bmp", Image.fromarray(grey), "BMP", {}),
        ("moving.gif", Image.fromarray(grey), "GIF", {"save_all": True, "append_images": [Image.fromarray(grey)]}),
        ("deep.tif", Image.fromarray(grey.astype(np.uint16) * 200), "TIFF", {"compression": "tiff_lzw"}),
        ("colour.tif", Image.fromarray(colour), "TIFF", {"compression": "jpeg"}),
        ("float.tif", Image.fromarray(grey.astype(np.float32)), "TIFF", {}),
        ("colour.webp", Image.fromarray(colour), "WEBP", {}),
        ("grey.pgm", Image.fromarray(grey), "PPM", {}),
        ("grey.jp2", Image.fromarray(grey), "JPEG2000", {}),
    ]
    made = {}
    for name, image, format, options in kinds:
        buffer = io.BytesIO()
        image.save(buffer, format=format, **options)
        made[name] = buffer.getvalue()
    return made


class Layout(NamedTuple):
    """A small data set as published: its files, which of them is damaged, and how it is read."""

    files: dict[str, bytes]
    damaged: str
    read: Callable[[Path], Source]


def layouts() -> dict[str, Layout]:
    film = pictures()["grey.png"]
    images = {"a.png": film, "b.png": film}
    pairs = (
        b"image,patient,question,answer,options,sex,age\n"
        b'a.png,p1,"Is there ""it""?",yes,yes|no,F,61\n'
        b"b.png,p2,Ill?,no,yes|no,M,48\n"
    )
    rows = [
        {"image": "a.png", "patient": "p1", "question": "Ill?", "answer": "yes", "options": "yes|no", "age": 61},
        {"image": "b.png", "patient": "p2", "question": "Where?", "answer": "l\u00e4rm", "study": None},
    ]
    prefer = [{"image": one, "question": "Ill?", "chosen": "yes", "rejected": "no", "patient": one} for one in images]
    talk = [
        {
            "id": f"{number}_0",
            "image": image,
            "conversations": [{"from": "human", "value": "<image>\nIt?"}, {"from": "gpt", "value": "Yes."}],
        }
        for number, image in enumerate(images)
    ]
    asked = {
        str(number): {
            "QUESTION": "Does it help?",
            "CONTEXTS": ["Background.", "Results."],
            "LABELS": ["A", "B"],
            "YEAR": "2011",
            "reasoning_required_pred": "yes",
            "final_decision": "yes",
            "LONG_ANSWER": "It does.",
        }
        for number in range(8)
    }
    # The published test set is the later half after this shuffle.
    shuffled = list(asked)
    Random(0).shuffle(shuffled)
    test = dict.fromkeys(shuffled[4:], "yes")
    abstract = (
        b'<?xml version="1.0"?><PubmedArticleSet><PubmedArticle><MedlineCitation><PMID Version="1">7</PMID><Article>'
        b"<ArticleTitle>A <i>title</i> &amp; more.</ArticleTitle><Abstract><AbstractText>Some words.</AbstractText>"
        b"</Abstract><Language>eng</Language></Article></MedlineCitation></PubmedArticle></PubmedArticleSet>"
    )
    stacks = {f"{part}_images": np.zeros((3, 4, 4), np.uint8) for part in ("train", "val", "test")}
    labels = {f"{part}_labels": np.array([[0], [1], [0]]) for part in ("train", "val", "test")}
    npz, table = io.BytesIO(), io.BytesIO()
    np.savez(npz, **stacks, **labels)
    cells = [{"image": {"bytes": film, "path": "x"}, "question": f"Q{one}?", "answer": "yes"} for one in range(4)]
    parquet.write_table(pyarrow.Table.from_pylist(cells), table, row_group_size=2)
    corpus = b'{"id": "x", "text": "One note."}\n{"id": "y", "text": "Another \\u00e9 note."}\n'
    return {
        "pairs.csv": Layout(images | {"t.csv": pairs}, "t.csv", lambda root: Pairs(str(root / "t.csv"))),
        "pairs.jsonl": Layout(images | {"t.jsonl": lines(rows)}, "t.jsonl", lambda root: Pairs(str(root / "t.jsonl"))),
        "preferences": Layout(
            images | {"t.jsonl": lines(prefer)}, "t.jsonl", lambda root: Preferences(str(root / "t.jsonl"))
        ),
        "llava_med": Layout(
            {f"images/{name}": film for name in images} | {"t.json": json.dumps(talk).encode()},
            "t.json",
            lambda root: LlavaMed(str(root / "t.json")),
        ),
        "pubmedqa": Layout(
            {"ori_pqal.json": json.dumps(asked).encode(), "test_ground_truth.json": json.dumps(test).encode()},
            "ori_pqal.json",
            lambda root: PubMedQa(str(root)),
        ),
        "abstracts": Layout({"a.xml": abstract}, "a.xml", lambda root: PubMedAbstracts(str(root))),
        "abstracts.gz": Layout(
            {"a.xml.gz": gzip.compress(abstract)}, "a.xml.gz", lambda root: PubMedAbstracts(str(root))
        ),
        "corpus": Layout({"a.jsonl": corpus}, "a.jsonl", lambda root: TextCorpus(str(root / "a.jsonl"))),
        "corpus.gz": Layout(
            {"a.jsonl.gz": gzip.compress(corpus)}, "a.jsonl.gz", lambda root: TextCorpus(str(root / "a.jsonl.gz"))
        ),
        "corpus.txt": Layout({"a.txt": b"A note.\n\nAnother."}, "a.txt", lambda root: TextCorpus(str(root / "a.txt"))),
        "medmnist": Layout(
            {"pneumoniamnist.npz": npz.getvalue()},
            "pneumoniamnist.npz",
            lambda root: MedMnist(str(root), flag="pneumoniamnist"),
        ),
        "path_vqa": Layout(
            {"data/train-00000-of-00001.parquet": table.getvalue()},
            "data/train-00000-of-00001.parquet",
            lambda root: PathVqa(str(root)),
        ),
    }


def lines(records: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


PICTURES = pictures()
LAYOUTS = layouts()


def lay_out(root: Path, layout: Layout, *, content: bytes) -> Path:
    shutil.rmtree(root, ignore_errors=True)
    for name, whole in layout.files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if name == layout.damaged else whole)
    return root


def test_what_is_not_damaged_is_read(tmp_path: Path) -> None:
    """Otherwise nothing below would test what it says."""
    for name, whole in PICTURES.items():
        assert check_image(tmp_path / name, content=whole), name
    for name, layout in LAYOUTS.items():
        root = lay_out(tmp_path / "set", layout, content=layout.files[layout.damaged])
        records = list(layout.read(root).records())
        assert records and all(isinstance(record, Example) for record in records), (name, records)
        assert not check_records(layout.read(root))


def try_image(folder: Path, *, cases: int) -> None:
    @tried(cases)
    @given(name=st.sampled_from(sorted(PICTURES)), changes=damages)
    def run(name: str, changes: list[Damage]) -> None:
        check_image(folder / name, content=damaged(PICTURES[name], changes))

    run()


def try_records(folder: Path, *, cases: int) -> None:
    @tried(cases)
    @given(name=st.sampled_from(sorted(LAYOUTS)), changes=damages)
    def run(name: str, changes: list[Damage]) -> None:
        layout = LAYOUTS[name]
        root = lay_out(folder / "set", layout, content=damaged(layout.files[layout.damaged], changes))
        check_records(layout.read(root))

    run()


def test_a_damaged_picture_has_a_reason(tmp_path: Path) -> None:
    try_image(tmp_path, cases=100)


def test_a_damaged_record_has_a_reason(tmp_path: Path) -> None:
    try_records(tmp_path, cases=100)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3000)
def test_thousands_of_damages_have_a_reason(tmp_path: Path) -> None:
    try_image(tmp_path, cases=1500)
    try_records(tmp_path, cases=1000)


class Real(NamedTuple):
    """A folder of the development data: its annotations, how it is read, and how many records are taken."""

    folder: str
    annotations: str
    read: Callable[[str], Source]


REAL = (
    Real("01_cxr_notes_covid", "metadata.csv", CovidChestXray),
    Real("02_cxr_nih_labels", "metadata.csv", NihCxr),
    Real("04_vqa_rad", "vqa_rad.jsonl", VqaRad),
    Real("06_skin_ham10000", "metadata.csv", Ham10000),
)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.timeout(3000)
def test_damaged_real_files_have_a_reason(shared_data: Path, tmp_path: Path) -> None:
    for real in REAL:
        whole = shared_data / real.folder
        films = smallest(whole / "images", 6)

        @tried(150)
        @given(film=st.sampled_from(films), changes=damages)
        def run_film(film: Path, changes: list[Damage]) -> None:
            check_image(tmp_path / film.name, content=damaged(film.read_bytes(), changes))

        run_film()
        root = tmp_path / real.folder
        root.mkdir()
        (root / "images").symlink_to(whole / "images")
        annotations = b"".join((whole / real.annotations).read_bytes().splitlines(keepends=True)[:12])

        @tried(60)
        @given(changes=damages)
        def run_rows(changes: list[Damage]) -> None:
            (root / real.annotations).write_bytes(damaged(annotations, changes))  # noqa: B023
            check_rows(real.read(str(root)))  # noqa: B023

        run_rows()


def check_rows(source: Source) -> None:
    """As `check_records`, without decoding pictures that are whole."""
    try:
        for record in source.records():
            assert isinstance(record, Example) or (record.reason and "\n" not in record.reason)
    except DataError as error:
        assert "\n" not in str(error)


def smallest(folder: Path, count: int) -> list[Path]:
    return sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: (path.stat().st_size, path))[
        :count
    ]
