"""Questions about the same images stand in one batch, and their images are decoded once."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from mmmed.data.collate import pack
from mmmed.data.datamodule import MedicalData
from mmmed.data.trees import Questions, token_order
from mmmed.errors import ConfigError
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.augmentation import Augmentation
from mmmed.processing.processor import Processor
from mmmed.records import Example, Quarantined


@dataclass(frozen=True)
class Counted:
    """A film that counts how often it is decoded."""

    film: Any
    opened: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.film.name

    def open(self) -> Image.Image:
        self.opened.append(self.name)
        return self.film.open()


@pytest.fixture
def processor(make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Processor]) -> Processor:
    return make_processor(make_model())


@pytest.fixture
def questions(make_example: Callable[..., Example]) -> list[Example]:
    """Three questions about each of four films, mixed."""
    texts = ("Is there a pleural effusion?", "What is shown?", "Where does it lie?")
    made = [make_example(f"{shade} {text}", text, "left", shade) for text in texts for shade in range(4)]
    return [replace(one, images=(Counted(one.images[0]),)) for one in made]


def test_a_batch_decodes_each_film_once(processor: Processor, questions: list[Example]) -> None:
    made = Questions(questions, processor).__getitems__(range(12))
    opened = [name for one in questions for name in one.images[0].opened]
    assert sorted(opened) == [f"film:{shade}" for shade in range(4)]
    for one, example in zip(made, questions, strict=True):
        alone = processor.training(example)
        assert torch.equal(one.ids, alone.ids)
        assert torch.equal(one.pixels, alone.pixels)
        assert processor.length(example) == len(one.ids)


def test_a_changed_film_is_the_same_one_for_all_its_questions(processor: Processor, questions: list[Example]) -> None:
    data = Questions(questions, processor, augmentation=Augmentation(rotation=20.0))
    now, later = (data.__getitems__([start + 0, start + 4, start + 8]) for start in (0, 12))
    assert torch.equal(now[0].pixels, now[1].pixels)
    assert torch.equal(now[0].pixels, now[2].pixels)
    assert not torch.equal(now[0].pixels, later[0].pixels)
    assert not torch.equal(now[0].pixels, processor.training(questions[0]).pixels)
    assert len(pack(now, image_id=processor.image_id).pixels_NCHW) == 1


def test_the_data_module_packs_trees_that_fit_into_a_batch(
    processor: Processor, questions: list[Example], make_example: Callable[..., Example]
) -> None:
    class Shelf:
        name = "phantom"

        def prepare(self) -> None:
            pass

        def records(self) -> Any:
            yield from questions
            yield from (make_example(text, text, "left", 9, split="validation") for text in ("Where?", "What?"))
            yield Quarantined("phantom", "x", "none")

    tree = 16 + sum(processor.length(one) - 16 for one in questions[::4])
    data = MedicalData([Shelf()], packing="tree", batch_tokens=tree, batch_size=2)
    data.trainer = SimpleNamespace(
        lightning_module=SimpleNamespace(processor=processor), global_rank=0, world_size=1, default_root_dir="unused"
    )
    data._write_quarantine = lambda: None  # type: ignore[method-assign]
    data.setup("fit")
    by_id = {one.id: one for one in questions}
    assert {one.id: one for one in data.examples("train")} == by_id, "nothing is merged"
    batches = list(data.train_dataloader())
    assert sum(batch.conversations for batch in batches) == 12
    assert [len(batch.pixels_NCHW) for batch in batches] == [1] * 4
    assert all(batch.ids_BT.numel() <= tree for batch in batches)
    (validation,) = data.val_dataloader()
    assert validation.layout is not None
    assert validation.conversations == 2


def test_batches_of_tokens_are_for_conversations() -> None:
    with pytest.raises(ConfigError, match="packing: tree makes batches by their tokens; set batch_tokens"):
        MedicalData([SimpleNamespace()], packing="tree")
    with pytest.raises(ConfigError, match="a contrastive stage counts pairs"):
        token_order([], object(), tokens=9, together=True, seed=0, rank=0, world=1, weights=None)
