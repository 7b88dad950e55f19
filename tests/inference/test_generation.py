"""What is written together, with shared prefixes, is what is written alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mmmed.errors import ConfigError
from mmmed.inference import reading
from mmmed.inference.generation import Decoding, generate
from mmmed.models import shared_attention, tree_attention
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example

Made = tuple[VisionLanguageModel, Processor]


@pytest.fixture(params=["images", "text alone", "sliding window", "cross-attention", "soft prompt"])
def made(
    request: pytest.FixtureRequest, make_model: Callable[..., Any], make_processor: Callable[..., Processor]
) -> Made:
    settings: dict[str, Any] = {
        "images": {},
        "text alone": {"vision": False},
        "sliding window": {"model_type": "mistral", "sliding_window": 9},
        "cross-attention": {},
        "soft prompt": {"adapter": {"kind": "prompt", "tokens": 3}},
    }[request.param]
    model = make_model(initializer_range=0.3, **settings)
    if request.param == "cross-attention":
        from mmmed.models.cross_attention import GatedCrossAttention
        from mmmed.models.projector import MLPProjector

        model = VisionLanguageModel(
            model.language,
            model.vision,
            MLPProjector,
            lambda width, layers: GatedCrossAttention(width, layers, every=1),
        ).eval()
        for name, parameter in model.cross_attention.named_parameters():
            if "gate" in name:
                parameter.data += 0.5
    return model, make_processor(model)


@pytest.mark.parametrize("shortest", [1, 16])
def test_a_batch_writes_what_each_writes_alone(
    made: Made, examples: list[Example], shortest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SHORTEST_SHARED", shortest)
    decoding = Decoding(max_new_tokens=6)
    alone = [generate(*made, [example], decoding=decoding)[0] for example in examples]
    assert generate(*made, examples, decoding=decoding) == alone
    assert generate(*made, examples[::-1], decoding=decoding, batch_size=2) == alone[::-1]
    assert len(set(alone)) > 1


@pytest.mark.parametrize("made", ["images", "text alone"], indirect=True)
def test_questions_that_begin_alike_read_their_beginning_once(
    made: Made, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def noted(*tensors: Any, alike: int, scaling: float) -> Any:
        asked.append(alike)
        return shared_attention.shared_attention(*tensors, alike=alike, scaling=scaling)

    monkeypatch.setattr(tree_attention, "shared_attention", noted)
    first, *_ = examples
    ends = ("?", " now?", " on the left?", " or on the right side?")
    question = first.turns[0]
    alike = [replace(first, options=(), turns=(replace(question, text=question.text + end),)) for end in ends]
    decoding = Decoding(max_new_tokens=6)
    apart = generate(*made, alike, decoding=decoding)
    assert not asked, "so short a beginning is not worth it"
    monkeypatch.setattr(shared_attention, "LEAST", 4)
    assert generate(*made, alike, decoding=decoding) == apart
    assert len(set(apart)) > 1 and len(set(asked)) == 1


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_company(made: Made, examples: list[Example]) -> None:
    decoding = Decoding(max_new_tokens=6, temperature=1.0, seed=3)
    together = generate(*made, examples, decoding=decoding)
    # Without images the fourth asks what the first does, and is told apart from it by being the second to ask.
    for part in (slice(1, 3), slice(4, None)):
        assert generate(*made, examples[part], decoding=decoding) == together[part]
    assert generate(*made, examples, decoding=Decoding(max_new_tokens=6, temperature=1.0, seed=4)) != together
    assert len(set(generate(*made, [examples[0]] * 5, decoding=decoding))) > 1, "equal questions are drawn apart"


def test_a_stop_ends_an_answer_and_is_no_part_of_it(made: Made, examples: list[Example]) -> None:
    (whole,) = generate(*made, examples[:1], decoding=Decoding(max_new_tokens=12))
    stop = whole[2:4]
    (stopped,) = generate(*made, examples[:1], decoding=Decoding(max_new_tokens=12, stop=(stop,)))
    assert stop not in stopped
    assert whole.startswith(stopped)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "expected 1 or more"),
        ({"temperature": -1.0}, "expected 0 for the likeliest answer, or more"),
        ({"stop": ("",)}, "an empty stop ends every answer"),
    ],
)
def test_decoding_that_cannot_be_is_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Decoding(**settings)
