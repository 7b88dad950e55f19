"""Pictures whose features are kept are not decoded, and what is learned stays as it was, to the bit."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from PIL import Image

from mmmed.data.collate import pack, pad
from mmmed.data.datamodule import MedicalData
from mmmed.data.kept import HasContent, KeptPictures
from mmmed.data.picture_shards import PictureWriter, ShardImage, encode
from mmmed.data.places import Place
from mmmed.data.sources.phantom import PhantomImage
from mmmed.errors import ConfigError, OutputError
from mmmed.models.features import FrozenFeatures
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.image import ArrayImage, ImageFile
from mmmed.processing.processor import Processor
from mmmed.records import Example, Turn
from mmmed.training.objectives import AnswerLoss
from mmmed.training.stage import Stage

MakeModel = Callable[..., VisionLanguageModel]
QUESTIONS = ("Is there a pleural effusion?", "What is shown?", "Where does it lie?")


class Shelf:
    """Records at hand, under the name of a source that has a card."""

    name = "phantom"

    def __init__(self, records: Sequence[Example]) -> None:
        self._records = records

    def prepare(self) -> None:
        pass

    def records(self) -> Any:
        yield from self._records


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture
def records(films: list[Path]) -> list[Example]:
    return [
        Example(
            id=f"{path.name} {question}",
            patient=path.name,
            turns=(Turn("user", f"<image>\n{question}"), Turn("assistant", f"left {number}")),
            images=(ImageFile(path),),
            split="validation" if number == 5 else "train",
            source="phantom",
        )
        for number, path in enumerate(films)
        for question in QUESTIONS
    ]


@pytest.fixture
def frozen(make_model: MakeModel, tmp_path: Path) -> VisionLanguageModel:
    model = make_model()
    model.vision = FrozenFeatures(model.vision, folder=str(tmp_path / "features"))
    return model


@pytest.fixture
def pictures(frozen: VisionLanguageModel, make_processor: Callable[..., Processor]) -> KeptPictures:
    return KeptPictures(frozen.vision.store("32-true"), make_processor(frozen))


def keep(pictures: KeptPictures, frozen: VisionLanguageModel, images: Sequence[Any]) -> None:
    """Compute their features as a step does."""
    known, pixels = pictures.show(images)
    found = torch.tensor([one is not None for one in known.features])
    frozen.vision.store("").keep(known.keys, frozen.vision.encoder(pixels)) if not found.all() else None


@pytest.mark.parametrize("collate", [pad, pack])
def test_a_batch_reads_alike_whatever_is_kept_of_it(
    frozen: VisionLanguageModel, pictures: KeptPictures, records: list[Example], collate: Any
) -> None:
    processor = pictures.processor
    several = replace(
        records[0],
        images=(*records[0].images, *records[6].images, *records[3].images),
        turns=(Turn("user", "<image> <image> <image> Same?"), Turn("assistant", "no")),
    )
    examples = [records[0], several, records[9], records[1]]
    expected = collate([processor.training(one) for one in examples], image_id=processor.image_id)
    loss = AnswerLoss().loss(frozen, expected)
    seen = []
    for kept in ([], [records[3]], [records[0], records[9]], [records[6]]):
        for one in kept:
            keep(pictures, frozen, one.images)
        batch = collate([pictures.training(one) for one in examples], image_id=processor.image_id)
        assert batch.images == expected.images
        seen.append(len(batch.pixels_NCHW))
        assert torch.equal(frozen.read(batch), frozen.read(expected))
        assert torch.equal(AnswerLoss().loss(frozen, batch), loss)
        pictures.store.folder.rename(pictures.store.folder.with_name(f"{len(seen)}"))
        pictures.store.__init__(**pictures.store.__getstate__())
    assert seen == ([6, 5, 2, 5] if collate is pad else [5, 4, 2, 4])


def test_pictures_are_known_by_their_content(
    pictures: KeptPictures, films: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(image: Any, using: KeptPictures = pictures) -> str:
        return using.show([image]).known.keys[0]

    first = key(ImageFile(films[0]))
    copied = tmp_path / "elsewhere.png"
    copied.write_bytes(films[0].read_bytes())
    assert key(ImageFile(copied)) == first
    assert key(ImageFile(films[1])) != first
    copied.write_bytes(films[1].read_bytes())
    assert key(ImageFile(copied)) == key(ImageFile(films[1]))
    other = Processor(
        pictures.processor.prompt.tokenizer,
        transform=replace(pictures.processor.transform, fit="crop"),
        tokens_per_image=4,
    )
    assert key(ImageFile(films[0]), KeptPictures(pictures.store, other)) != first
    monkeypatch.setattr("mmmed.data.kept._preparation", lambda: "another Pillow")
    assert key(ImageFile(films[0])) != first


def test_the_kinds_of_images_that_training_reads_tell_their_content(films: list[Path], tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 20, 30), dtype=np.uint8)
    np.savez(tmp_path / "stack.npz", images=stack)
    writer = PictureWriter(tmp_path / "shards")
    places = [writer.add(encode(Image.open(path))) for path in films[:2]]
    writer.close()
    shards = [ShardImage(Place(str(tmp_path / "shards")), "1", place, "a.png") for place in places]
    arrays = [ArrayImage(tmp_path / "stack.npz", "images", place) for place in range(3)]
    phantoms = [PhantomImage(seed=0, index=index) for index in range(2)]
    for kind in ([ImageFile(path) for path in films], shards, arrays, phantoms):
        assert all(isinstance(one, HasContent) for one in kind)
        assert len({one.content() for one in kind}) == len(kind)
        assert [one.content() for one in kind] == [one.content() for one in kind]


def test_a_picture_without_a_content_is_decoded_and_known_by_its_pixels(
    frozen: VisionLanguageModel, pictures: KeptPictures, make_example: Callable[..., Example]
) -> None:
    (film,) = make_example("one", "Is there?", "yes", 1).images
    keep(pictures, frozen, [film])
    known, pixels = pictures.show([film])
    assert known.features[0] is not None
    assert len(pixels) == 0
    assert torch.equal(frozen.vision(pictures.processor.pixels([film]))[0], known.features[0])


@pytest.mark.parametrize("settings", [{"batch_size": 2}, {"packing": "tree", "batch_tokens": 200}, {"workers": 2}])
def test_training_learns_the_same_to_the_bit_and_decodes_each_picture_once(
    make_model: MakeModel,
    records: list[Example],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
) -> None:
    decoded: list[str] = []
    pixels = Processor.pixels

    def counted(self: Processor, images: Any) -> Any:
        decoded.extend(image.name for image in images)
        return pixels(self, images)

    def trained(*, keeps: bool, looks_up: bool) -> dict[str, torch.Tensor]:
        model = make_model()
        if keeps:
            model.vision = FrozenFeatures(model.vision, folder=str(tmp_path / f"features {looks_up}"))
        with monkeypatch.context() as patch:
            if not looks_up:
                patch.setattr(MedicalData, "_kept", lambda self: None)
            patch.setattr(Processor, "pixels", counted)
            stage = Stage("align", model, {"projector": 1e-2}, partial(torch.optim.AdamW, lr=1e-2))
            data = MedicalData([Shelf(records)], **{"most_turns": 1, "batch_size": 3} | settings)
            quiet = dict.fromkeys(
                ["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False
            )
            runner = lightning.Trainer(
                accelerator="cpu", max_epochs=3, default_root_dir=tmp_path, num_sanity_val_steps=0, **quiet
            )
            runner.fit(stage, datamodule=data)
        return model.projector.state_dict()

    plain = trained(keeps=False, looks_up=False)
    by_pixels = trained(keeps=True, looks_up=False)
    decoded.clear()
    looked_up = trained(keeps=True, looks_up=True)
    first = len(decoded)
    again = trained(keeps=True, looks_up=True)
    for name, expected in plain.items():
        assert torch.equal(by_pixels[name], expected), name
        assert torch.equal(looked_up[name], expected), name
        assert torch.equal(again[name], expected), name
    if not settings.get("workers"):  # which decode elsewhere
        assert 6 <= first <= 18, "in the first epoch at most"
        assert len(decoded) == first


def test_an_encoder_that_keeps_nothing_refuses_features(
    make_model: MakeModel, pictures: KeptPictures, records: list[Example]
) -> None:
    batch = pad([pictures.training(records[0])], image_id=pictures.processor.image_id)
    with pytest.raises(ConfigError, match="this encoder is no FrozenFeatures"):
        make_model().read(batch)


def test_a_disk_without_room_is_told_before_anything_is_computed(
    frozen: VisionLanguageModel, records: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 24}))
    stage = Stage("align", frozen, {"projector": 1e-2}, partial(torch.optim.AdamW, lr=1e-2))
    data = MedicalData([Shelf(records)])
    runner = lightning.Trainer(
        accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, logger=False, enable_checkpointing=False
    )
    with pytest.raises(OutputError, match="features of about 6 pictures take"):
        runner.fit(stage, datamodule=data)
