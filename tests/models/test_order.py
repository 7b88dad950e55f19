"""A model can learn which of an example's pictures is which, and begins as if it could not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmmed.data.collate import pad
from mmmed.errors import CheckpointError, ConfigError, RecordError
from mmmed.models.encoders.transformers import TransformersEncoder
from mmmed.models.folder import load, load_weights, save
from mmmed.models.order import PictureOrder, picture_places
from mmmed.models.projector import MLPProjector
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example

MakeModel = Callable[..., VisionLanguageModel]
Ask = Callable[..., Batch]


@pytest.fixture
def ask(make_processor: Callable[..., Processor]) -> Ask:
    def asked(model: VisionLanguageModel, examples: list[Example], *, left: bool = False) -> Batch:
        processor = make_processor(model)
        return pad([processor.training(one) for one in examples], image_id=processor.image_id, left=left)

    return asked


def ordered(plain: VisionLanguageModel, order: int) -> VisionLanguageModel:
    """The same model with an order of pictures."""
    model = VisionLanguageModel(plain.language, plain.vision, MLPProjector, order=order)
    model.projector = plain.projector
    return model.eval()


def trained(model: VisionLanguageModel) -> VisionLanguageModel:
    torch.nn.init.normal_(model.order.embedding.weight, generator=torch.Generator().manual_seed(0))
    return model


def test_places_are_counted_within_each_example() -> None:
    is_image_BT = torch.tensor([[0, 1, 1, 1, 1, 0, 1, 1], [0] * 8, [0, 0, 1, 1, 0, 0, 0, 0]], dtype=torch.bool)
    assert picture_places(is_image_BT, tokens=2).tolist() == [0, 1, 2, 0]
    order = PictureOrder(3, 5)
    torch.nn.init.normal_(order.embedding.weight)
    marks = order(torch.zeros(4, 2, 5), picture_places(is_image_BT, tokens=2))
    expected = order.embedding.weight[torch.tensor([0, 1, 2, 0])].unsqueeze(1).expand(4, 2, 5)
    assert torch.equal(marks, expected)


@pytest.mark.parametrize("left", [False, True])
def test_a_new_order_changes_nothing_and_a_trained_one_marks_each_picture(
    make_model: MakeModel, ask: Ask, examples: list[Example], left: bool
) -> None:
    plain = make_model()
    model = ordered(plain, 2)
    batch = ask(plain, examples[2:4], left=left)  # two pictures, and one
    with torch.no_grad():
        assert torch.equal(model(batch), plain(batch))
        words = plain.embed(batch)
        marked = trained(model).embed(batch) - words
    marks = model.order.embedding.weight.detach()
    for row, places in ((0, [0] * 16 + [1] * 16), (1, [0] * 16)):
        torch.testing.assert_close(marked[row][batch.is_image_BT[row]], marks[torch.tensor(places)])
        assert marked[row][~batch.is_image_BT[row]].abs().max() == 0


def test_two_pictures_that_change_places_change_the_answer_by_their_marks_alone(
    make_model: MakeModel, ask: Ask, examples: list[Example]
) -> None:
    plain = make_model()
    batch = ask(plain, [examples[2]])
    swapped = replace(batch, pixels_NCHW=batch.pixels_NCHW.flip(0))
    seen = batch.is_image_BT[0]

    def as_a_bag(model: VisionLanguageModel, given: Batch) -> torch.Tensor:
        """What a reader without a sense of place has of the image tokens."""
        mixed = torch.tanh(model.embed(given)[0][seen]).mean(0)
        return mixed.detach()

    assert torch.allclose(as_a_bag(plain, batch), as_a_bag(plain, swapped), atol=1e-6)
    model = trained(ordered(plain, 2))
    assert (as_a_bag(model, batch) - as_a_bag(model, swapped)).abs().max() > 1e-4
    with torch.no_grad():
        by_place = (plain(batch) - plain(swapped))[0, -1]
        by_place_and_mark = (model(batch) - model(swapped))[0, -1]
    assert (by_place - by_place_and_mark).abs().max() > 1e-4


def test_more_pictures_than_places_are_refused(make_model: MakeModel, ask: Ask, examples: list[Example]) -> None:
    model = ordered(make_model(), 1)
    batch = ask(model, [examples[2]])
    with pytest.raises(RecordError, match="an example has 2 pictures, more than the model's order: 1; raise order"):
        model(batch)


def test_a_placeholder_without_its_picture_is_still_refused(
    make_model: MakeModel, ask: Ask, examples: list[Example]
) -> None:
    model = ordered(make_model(), 2)
    batch = ask(model, [examples[2]])
    with pytest.raises(RecordError, match="32 image places in the text for 16 image features"):
        model(replace(batch, pixels_NCHW=batch.pixels_NCHW[:1]))


def test_the_order_is_saved_with_the_model_and_joins_an_older_one(
    make_model: MakeModel, ask: Ask, examples: list[Example], tmp_path: Path
) -> None:
    plain = make_model()
    model = trained(ordered(plain, 4))
    save(model, tmp_path / "ordered", settings={}, provenance={})
    batch = ask(model, examples)
    opened = load(tmp_path / "ordered").model
    with torch.no_grad():
        assert torch.equal(opened(batch), model(batch))
    save(plain, tmp_path / "plain", settings={}, provenance={})
    fresh = ordered(make_model(seed=3), 4)
    load_weights(fresh, tmp_path / "plain")
    with torch.no_grad():
        torch.testing.assert_close(fresh(batch), plain(batch))
    with pytest.raises(CheckpointError, match="another architecture"):
        load_weights(make_model(), tmp_path / "ordered")
    with pytest.raises(CheckpointError, match="another architecture"):
        load_weights(ordered(make_model(), 5), tmp_path / "ordered")


def test_a_text_only_model_has_no_order(make_model: MakeModel, tmp_path: Path) -> None:
    model = VisionLanguageModel(make_model().language, None, None, order=4)
    assert model.order is None
    save(model, tmp_path / "model", settings={}, provenance={})
    assert load(tmp_path / "model").model.order is None


def test_an_order_of_nothing_is_refused(make_model: MakeModel) -> None:
    model = make_model()
    assert isinstance(model.vision, TransformersEncoder)
    with pytest.raises(ConfigError, match="order is 0; expected the most pictures"):
        VisionLanguageModel(model.language, model.vision, MLPProjector, order=0)
