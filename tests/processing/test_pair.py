"""A pair is one image and the words of its report, and nothing of the question."""

from collections.abc import Callable

import pytest
import torch

from mmmed.errors import RecordError
from mmmed.models.contrastive import ContrastiveModel
from mmmed.processing.pair import PairProcessor
from mmmed.records import Example

MakeExample = Callable[..., Example]


@pytest.fixture
def processor(make_towers: Callable[..., ContrastiveModel]) -> PairProcessor:
    model = make_towers()
    return PairProcessor(model.tokenizer, transform=model.transform, max_length=12)


def test_a_pair_holds_the_report_and_the_image(processor: PairProcessor, make_example: MakeExample) -> None:
    made = processor.training(make_example("a", "What is shown?", " Normal heart size. ", 3))
    assert processor.tokenizer.decode(made.ids) == "Normal heart size."
    assert made.supervised.all()
    assert made.pixels.shape == (1, 3, 32, 32)
    assert torch.equal(made.pixels, processor.pixels(make_example("b", "", "yes", 3).images))


@pytest.mark.parametrize(
    ("answer", "shades", "message"),
    [
        ("yes", (), "phantom:a: 0 images and 1 words; contrastive training needs one image with a text"),
        ("yes no", (1, 2), "phantom:a: 2 images and 2 words"),
        (" ", (1,), "phantom:a: 1 images and 0 words"),
        ("yes " * 20, (1,), r"phantom:a: \d+ tokens, more than max_length 12"),
    ],
)
def test_what_is_no_pair_is_refused(
    processor: PairProcessor, make_example: MakeExample, answer: str, shades: tuple[int, ...], message: str
) -> None:
    with pytest.raises(RecordError, match=message):
        processor.training(make_example("a", "What is shown?", answer, *shades))
