"""Prepared data are read as the source would have been: same conversations, same batches, same place after a kill."""

import hashlib
import io
import json
import multiprocessing
import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

from mmmed.data.collection import Collection
from mmmed.data.datamodule import MedicalData
from mmmed.data.mixture import Mixture
from mmmed.data.picture_shards import PictureReader, PictureWriter, encode, reader
from mmmed.data.places import Place
from mmmed.data.prepare import Recipe, prepare_source
from mmmed.data.reading import Reading, read_split
from mmmed.data.shards import ShardConversations, Shards
from mmmed.errors import ConfigError, DataError, ImageError
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.pixels import to_pixels
from mmmed.processing.processor import Processor
from mmmed.records import Example, Quarantined
from mmmed.transforms import ImageTransform

Make = Callable[..., Example]
QUESTIONS = ("Is there a pleural effusion?", "Is there cardiomegaly?", "Where does it lie?", "What is shown?")


class Shelf:
    """A source of records at hand, under the name of one that has a card."""

    name = "phantom"

    def __init__(self, records: Sequence[Example | Quarantined]) -> None:
        self._records = records

    def prepare(self) -> None:
        pass

    def records(self) -> Iterator[Example | Quarantined]:
        yield from self._records


@pytest.fixture
def shelf(make_example: Make) -> Shelf:
    """Four questions, two of them closed, about each of 20 films; some about two films and some about none."""
    records: list[Example | Quarantined] = [Quarantined("phantom", "row 7", "no answer")]
    for film in range(20):
        split: Any = "train" if film < 16 else "validation"
        of_film = {"split": split, "patient": f"p{film}"}
        for number, question in enumerate(QUESTIONS):
            closed = {"options": ("yes", "no"), "topic": "finding"} if number < 2 else {"topic": "report"}
            answer = "yes" if (film + number) % 3 == 0 or number > 1 else "no"
            records.append(make_example(f"{film}:{number}", question, answer, film, **closed, **of_film))
        both = make_example(f"{film}:both", "Left or right?", "left", film, film, options=("left", "right"), **of_film)
        records.append(both)
        records.append(make_example(f"{film}:text", "Is it so?", "yes", options=("yes", "no"), **of_film))
    return Shelf(records)


@pytest.fixture
def root(shelf: Shelf, tmp_path: Path) -> str:
    return str(prepare_source(shelf, tmp_path / "prepared", recipe=Recipe(privacy=None)).folder)


@pytest.fixture
def attach(
    make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Processor], tmp_path: Path
) -> Callable[..., MedicalData]:
    """Gives the data what it asks of a trainer."""
    processor = make_processor(make_model())

    def make(data: MedicalData, *, rank: int = 0, world: int = 1) -> MedicalData:
        data.trainer = SimpleNamespace(
            lightning_module=SimpleNamespace(processor=processor),
            global_rank=rank,
            world_size=world,
            default_root_dir=str(tmp_path / "run"),
        )
        data.setup("fit")
        return data

    return make


def said(conversations: Collection) -> list[tuple[object, ...]]:
    return [
        (one.id, one.patient, one.turns, one.options, one.topic, [image.open().tobytes() for image in one.images])
        for one in conversations
    ]


@pytest.mark.parametrize("join", ["closed", "all"])
@pytest.mark.parametrize("most_turns", [1, 3, 8])
@pytest.mark.parametrize("topics", [None, ["finding"]])
def test_conversations_weights_and_lengths_are_those_of_the_source(
    shelf: Shelf, root: str, join: Any, most_turns: int, topics: list[str] | None
) -> None:
    how = Reading(topics=topics, most_turns=most_turns, seed=3, join=join)
    listed, opened = (read_split([source], "train", how) for source in (shelf, Shards(root)))
    assert said(opened.conversations) == said(listed.conversations)
    assert (opened.counts, opened.quarantined) == (listed.counts, listed.quarantined)
    assert opened.conversations.lengths.tolist() == listed.conversations.lengths.tolist()
    for mixture in (Mixture(), Mixture(temperature=3, balance=True)):
        assert mixture.weights(opened.conversations).tolist() == mixture.weights(listed.conversations).tolist()


def batches(data: MedicalData) -> list[str]:
    return [digest(batch) for batch in data.train_dataloader()]


def digest(batch: Any) -> str:
    tensors = (batch.ids_BT, batch.supervised_BT, batch.pixels_NCHW)
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()


def test_training_sees_the_batches_it_would_have_seen(
    shelf: Shelf, root: str, attach: Callable[..., MedicalData]
) -> None:
    from_source = attach(MedicalData([shelf], batch_size=3, seed=5))
    from_shards = attach(MedicalData([Shards(root)], batch_size=3, seed=5))
    assert batches(from_shards) == batches(from_source)
    assert from_shards.summary() == from_source.summary()
    assert [digest(one) for one in from_shards.val_dataloader()] == [digest(o) for o in from_source.val_dataloader()]


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_after_a_kill_the_remaining_samples_are_the_same(
    root: str, attach: Callable[..., MedicalData], tmp_path: Path, world: int, workers: int
) -> None:
    def data(rank: int) -> MedicalData:
        mixture = Mixture(temperature=2)
        return attach(
            MedicalData([Shards(root)], batch_size=2, workers=workers, mixture=mixture), rank=rank, world=world
        )

    def train_until_killed(rank: int, log: Path) -> None:
        torch.set_num_threads(1)  # the threads of the process it was forked from are not there
        module, seen = data(rank), []
        for batch in module.train_dataloader():
            seen.append(digest(batch))
            log.write_text(json.dumps({"seen": seen, "state": module.state_dict()}))
            if len(seen) == 3:
                os.kill(os.getpid(), signal.SIGKILL)

    for rank in range(world):
        log = tmp_path / f"{rank}.json"
        process = multiprocessing.get_context("fork").Process(target=train_until_killed, args=(rank, log))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kept = json.loads(log.read_text())
        whole = data(rank).train_dataloader()
        expected = [digest(batch) for _ in range(2) for batch in whole]
        resumed = data(rank)
        resumed.load_state_dict(kept["state"])
        loader = resumed.train_dataloader()
        rest = [digest(batch) for _ in range(2) for batch in loader]
        assert kept["seen"] + rest == expected
        assert 0 < len(kept["seen"]) < len(expected) / 2


def test_ranks_share_what_one_would_see(root: str, attach: Callable[..., MedicalData]) -> None:
    whole = batches(attach(MedicalData([Shards(root)], batch_size=2)))
    halves = [batches(attach(MedicalData([Shards(root)], batch_size=2), rank=rank, world=2)) for rank in range(2)]
    assert [one for pair in zip(*halves, strict=True) for one in pair] == whole[: 2 * len(halves[0])]


def test_nothing_is_read_before_it_is_asked_for(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    how = Reading(topics=None, most_turns=8, seed=0, join="closed")
    monkeypatch.setattr(json, "loads", lambda text: pytest.fail("parsed") if "turns" in str(text) else real(text))
    opened = read_split([Shards(root)], "train", how)
    assert len(opened.conversations.lengths) == len(opened.conversations)


real = json.loads


def test_a_copy_in_another_process_maps_the_same_file(root: str) -> None:
    conversations = ShardConversations(Shards(root).table, "train", topics=None, most_turns=8, seed=0, join="closed")
    packed = pickle.dumps(conversations)
    assert len(packed) < 20_000
    assert said(pickle.loads(packed)) == said(conversations)


def test_sources_of_both_kinds_stand_in_their_order(shelf: Shelf, root: str, make_example: Make) -> None:
    other = Shelf([make_example("other", "Ill?", "yes", patient="other", source="else")])
    how = Reading(topics=None, most_turns=8, seed=0, join="closed")
    mixed = read_split([other, Shards(root), other], "train", how).conversations
    alone = read_split([Shards(root)], "train", how).conversations
    assert [one.id for one in mixed] == ["other", *(one.id for one in alone), "other"]
    assert mixed.lengths.tolist() == [sum(len(turn.text) for turn in one.turns) for one in mixed]
    assert len(Mixture(temperature=2).weights(mixed)) == len(mixed)


def test_two_of_a_name_must_not_share_a_patient(
    shelf: Shelf, root: str, tmp_path: Path, make_example: Make, attach: Callable[..., MedicalData]
) -> None:
    splits = {"p0": "validation", "q0": "train"}
    other = Shelf(
        [make_example(patient, "Ill?", "yes", 99, patient=patient, split=split) for patient, split in splits.items()]
    )
    with pytest.raises(DataError, match=r"stand in two splits: phantom:p0"):
        attach(MedicalData([Shards(root), other]))


def test_a_split_or_topic_it_has_not_is_one_line(root: str, attach: Callable[..., MedicalData]) -> None:
    how = Reading(topics=None, most_turns=8, seed=0, join="closed")
    with pytest.raises(DataError, match="'phantom' has no usable test record"):
        read_split([Shards(root)], "test", how)
    with pytest.raises(DataError, match=r"no train example has a topic among \['fracture'\]"):
        attach(MedicalData([Shards(root)], topics=["fracture"]))


def test_the_licence_of_the_source_is_shown(root: str, caplog: pytest.LogCaptureFixture) -> None:
    from mmmed.data import card

    card._log_once.cache_clear()
    with caplog.at_level("INFO"):
        MedicalData([Shards(root)]).prepare_data()
    assert any(card.read_card("phantom").licence in message for message in caplog.messages)


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_a_url_is_read_through_a_cache_and_each_file_once(
    shelf: Shelf, root: str, tmp_path: Path, protocol: str
) -> None:
    base = f"/{tmp_path.name}/x" if protocol == "memory" else str(tmp_path / "store")
    url = f"{protocol}://{base.removeprefix('/') if protocol == 'memory' else base}"
    files = fsspec.filesystem(protocol)
    for path in Path(root).rglob("*"):
        if path.is_file():
            place = f"{base}/{path.relative_to(root)}"
            files.makedirs(str(Path(place).parent), exist_ok=True)
            files.pipe_file(place, path.read_bytes())
    source = Shards(url, cache=str(tmp_path / "cache"))
    source.prepare()
    how = Reading(topics=None, most_turns=8, seed=0, join="closed")
    expected = said(read_split([shelf], "train", how).conversations)
    assert said(read_split([source], "train", how).conversations) == expected
    (kept,) = (tmp_path / "cache").iterdir()
    assert (kept / "pictures" / "chunk-0-0.bin").is_file()
    files.rm(f"{base}/pictures", recursive=True)
    reader.cache_clear()
    assert said(read_split([Shards(url, cache=str(tmp_path / "cache"))], "train", how).conversations) == expected


def test_a_url_that_cannot_be_read_is_one_line() -> None:
    with pytest.raises(DataError, match="no prepared data set in memory://nowhere"):
        _ = Shards("memory://nowhere").name
    with pytest.raises(ConfigError, match="gopher://x cannot be read: Protocol not known"):
        _ = Shards("gopher://x").name


def test_what_is_no_prepared_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prepared data set in"):
        _ = Shards(str(tmp_path)).name
    for text in ("[]", "{", '{"format": 1}'):
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(DataError, match="no prepared data set in"):
            _ = Shards(str(tmp_path)).name
    (tmp_path / "index.json").write_text('{"format": 99}')
    with pytest.raises(DataError, match="format 99; this version reads 1"):
        _ = Shards(str(tmp_path)).name


def test_damaged_files_are_one_line(root: str, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(root, tmp_path / name))

    cut = copy("cut")
    chunk = cut / "pictures" / "chunk-0-0.bin"
    chunk.write_bytes(chunk.read_bytes()[:-50])
    with pytest.raises(ImageError, match=r"is cut short; prepare the data set again"):
        Shards(str(cut)).table[-2].images[0].open()
    blank = copy("blank")
    (blank / "pictures" / "chunk-0-0.bin").write_bytes(b"")
    with pytest.raises(ImageError, match="cannot be read"):
        Shards(str(blank)).table[0].images[0].open()
    gone = copy("gone")
    (gone / "pictures" / "chunk-0-0.bin").unlink()
    with pytest.raises(ImageError, match="cannot be read"):
        Shards(str(gone)).table[0].images[0].open()
    (gone / "records.arrow").write_bytes(b"ARROW1 and nothing else")
    with pytest.raises(DataError, match="cannot be read as a table of records"):
        _ = Shards(str(gone)).table


def test_pictures_are_read_by_litdata_and_by_us_alike(tmp_path: Path) -> None:
    from litdata import StreamingDataset

    rng = np.random.default_rng(0)
    pictures = [encode(Image.fromarray(rng.integers(0, 255, (9, 7 + place), np.uint8))) for place in range(30)]
    writer = PictureWriter(tmp_path / "pictures", chunk_bytes=500)
    assert [writer.add(picture) for picture in pictures] == list(range(30))
    writer.close()
    assert len(list((tmp_path / "pictures").glob("*.bin"))) > 3
    pictures_of = PictureReader(Place(str(tmp_path / "pictures")))
    order = rng.permutation(30).tolist()
    assert [pictures_of.read(place) for place in order] == [pictures[place] for place in order]
    theirs = StreamingDataset(str(tmp_path / "pictures"))
    assert [bytes(theirs[place]) for place in range(30)] == pictures
    with pytest.raises(ImageError, match="has 30 pictures, none at 30"):
        pictures_of.read(30)


@pytest.mark.parametrize("size", [(90, 61), (33, 100), (20, 7), (64, 64)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_stored_at_the_size_that_is_read_give_the_same_tensors(size: tuple[int, int], channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), np.uint8)
    picture = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
    transform = ImageTransform(size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    whole, small = (Image.open(io.BytesIO(encode(picture, longest_side=side))) for side in (None, 32))
    assert whole.tobytes() == picture.tobytes() and max(small.size) == min(32, max(size))
    assert torch.equal(to_pixels(small, transform), to_pixels(picture, transform))
