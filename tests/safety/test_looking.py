"""Maps are what they say, lie where the image lies, and are held against the boxes of what is asked about."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image

from mmmed.errors import ConfigError, DataError
from mmmed.inference.session import Session
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.pixels import to_pixels
from mmmed.processing.processor import Processor
from mmmed.records import Example
from mmmed.safety import looking
from mmmed.safety.check import Subject
from mmmed.safety.grounding import Occluded, Place, boxes_of, overlay, squares_of
from mmmed.safety.looking import LookingMaps, attention_map, gradient_map
from mmmed.safety.measure import Verdict

Judge = Callable[..., Subject]
Films = Callable[..., str]


@pytest.fixture
def session(
    make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Processor]
) -> Callable[..., Session]:
    def make(**settings: object) -> Session:
        model = make_model(**settings)
        return Session(model, make_processor(model), device="cpu")

    return make


@pytest.fixture
def asked(make_example: Callable[..., Example]) -> Example:
    return make_example("1", "Is there an effusion?", "yes", 3, options=("yes", "no"), topic="effusion")


def log_odds(session: Session, example: Example) -> float:
    (answer,) = session.choose([example])
    return math.log(answer.options["yes"] / answer.options["no"])


def test_the_gradient_is_that_of_the_answer(
    session: Callable[..., Session], asked: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = session()
    map_GG = gradient_map(opened, asked)
    assert map_GG.shape == (4, 4)
    plain, looked = log_odds(opened, asked), opened.model.look
    monkeypatch.setattr(opened.model, "look", lambda pixels, kept=None: 1.01 * looked(pixels, kept=kept))
    assert map_GG.sum() == pytest.approx((log_odds(opened, asked) - plain) / 0.01, rel=0.1)


class _Only(torch.nn.Module):
    """A projector that passes one place on, and of the others nothing but zeros."""

    def __init__(self, inner: torch.nn.Module, place: int) -> None:
        super().__init__()
        self.inner, self.place = inner, place

    def forward(self, features_NPW: torch.Tensor) -> torch.Tensor:
        kept_P1 = torch.zeros(features_NPW.shape[1], 1)
        kept_P1[self.place] = 1.0
        return torch.as_tensor(self.inner(features_NPW * kept_P1))


@pytest.mark.parametrize("place", [0, 6, 13])
def test_the_map_of_an_answer_that_depends_on_one_place_is_that_place(
    session: Callable[..., Session], asked: Example, place: int
) -> None:
    opened = session()
    assert opened.model.projector is not None
    opened.model.projector = _Only(opened.model.projector, place)
    map_GG = gradient_map(opened, asked)
    assert np.flatnonzero(map_GG).tolist() == [place]


@dataclass(frozen=True)
class _Speckled:
    """A wide picture of noise."""

    name: str = "speckled"

    def open(self) -> Image.Image:
        return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 120), dtype=np.uint8))


def test_hiding_a_square_changes_the_features_of_its_place_most(session: Callable[..., Session]) -> None:
    opened = session()
    transform = opened.processor.transform
    assert transform is not None
    squares = squares_of((120, 60), 4, fit=transform.fit)
    picture = _Speckled()
    plain_PW = opened.model.look(to_pixels(picture.open(), transform)[None])[0]
    seen = [place for place, (left, top, right, bottom) in enumerate(squares) if left < right and top < bottom]
    assert len(seen) >= 8
    for place in seen:
        hidden_PW = opened.model.look(to_pixels(Occluded(picture, squares[place]).open(), transform)[None])[0]
        assert int((hidden_PW - plain_PW).norm(dim=-1).argmax()) == place


def test_attention_is_a_share_and_leaves_the_model_as_it_was(session: Callable[..., Session], asked: Example) -> None:
    opened = session()
    before = log_odds(opened, asked)
    map_GG = attention_map(opened, asked)
    assert map_GG.shape == (4, 4)
    assert (map_GG > 0).all()
    assert map_GG.sum() < 1
    assert log_odds(opened, asked) == before


def test_a_model_that_does_not_see_has_no_map(session: Callable[..., Session], asked: Example) -> None:
    for draw in (gradient_map, attention_map):
        with pytest.raises(DataError, match="leave the check out"):
            draw(session(vision=False), asked)


def test_tokens_lie_on_the_image_as_it_was_fitted() -> None:
    assert squares_of((100, 100), 2) == [(0, 0, 50, 50), (50, 0, 100, 50), (0, 50, 50, 100), (50, 50, 100, 100)]
    # In a letterbox the grid covers the bars too: above and below a wide picture nothing is left of them.
    boxed = squares_of((100, 50), 4, fit="letterbox")
    assert boxed[0] == (0, 0, 25, 0)
    assert boxed[4] == (0, 0, 25, 25)
    middle = squares_of((100, 50), 1, fit="crop")
    assert middle == [(25, 0, 75, 50)]


def test_a_whole_image_token_is_left_out() -> None:
    assert looking._grid(torch.arange(17.0)).tolist() == torch.arange(1.0, 17.0).reshape(4, 4).tolist()
    with pytest.raises(DataError, match="no square grid"):
        looking._grid(torch.arange(7.0))


def test_looking_at_the_finding_passes_and_at_a_corner_does_not(
    known_films_task: Films, subject: Judge, session: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_the_finding(opened: Session, example: Example) -> np.ndarray:
        squares = squares_of((256, 256), 8)
        box = boxes_of(example)[0]
        centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        inside = [s[0] <= centre[0] < s[2] and s[1] <= centre[1] < s[3] for s in squares]
        return np.array(inside, dtype=np.float64).reshape(8, 8)

    judged = subject(lambda example: 0.9)
    judged.session.processor = session().processor  # type: ignore[attr-defined]
    check = LookingMaps(task=known_films_task("finding"), at_least=0.2, images=20)
    monkeypatch.setitem(looking._MAPS, "gradient", at_the_finding)
    (seen,) = check.examine(judged)
    assert seen.verdict is Verdict.PASSED
    monkeypatch.setitem(looking._MAPS, "gradient", lambda opened, example: np.eye(8)[:1].T @ np.eye(8)[:1])
    (missed,) = check.examine(judged)
    assert missed.verdict is Verdict.FAILED
    assert set(missed.items) <= set(judged.evidence.maps)
    assert next(iter(judged.evidence.maps.values())).size == (256, 256)


def test_a_place_drawn_at_random_is_not_let_through(
    known_films_task: Films, subject: Judge, session: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    judged = subject(lambda example: 0.9)
    judged.session.processor = session().processor  # type: ignore[attr-defined]
    monkeypatch.setitem(looking._MAPS, "gradient", lambda opened, example: generator.random((8, 8)))
    found = [
        LookingMaps(task=known_films_task("finding"), at_least=0.2, images=20).examine(judged)[0] for _ in range(4)
    ]
    assert all(one.verdict is not Verdict.PASSED for one in found)
    assert abs(np.mean([one.value for one in found])) < 0.15


def test_the_map_is_drawn_over_the_image(films: list[Example]) -> None:
    example = next(one for one in films if boxes_of(one))
    drops = np.zeros((2, 2))
    drops[0, 0] = 1.0
    blank = replace(example, images=(_Grey(example.images[0]),))
    drawn = np.asarray(overlay(Place(blank, drops, squares_of((256, 256), 2)))).astype(int)
    assert (drawn[5, 5, 0] - drawn[5, 5, 2]) > 50, "red where it matters"
    assert drawn[250, 250].tolist() == [90, 90, 90]


class _Grey:
    """A film without its pixels, and without knowing where anything lies."""

    def __init__(self, image: object) -> None:
        self.name = "grey"

    def open(self) -> Image.Image:
        return Image.new("L", (256, 256), 90)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'gradient'"):
        LookingMaps(task="", method="gradients")  # type: ignore[arg-type]
