"""Changed pictures keep the meaning of their text: sides stay where they are, and chance repeats."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from jsonargparse import ArgumentParser
from PIL import Image, ImageOps

from mmmed.errors import ConfigError
from mmmed.processing.augmentation import LARGEST_SIDE, Augmentation, speaks_of_a_side
from mmmed.records import Example, Turn

STILL = Augmentation(rotation=0, translation=0, zoom=0, brightness=0, contrast=0, noise=0)
MIRROR = replace(STILL, flip=1.0)


@dataclass(frozen=True)
class Held:
    """A picture in memory."""

    picture: Image.Image
    name: str = "held"

    def open(self) -> Image.Image:
        return self.picture.copy()


def one_sided(mode: str = "L", size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A bright spot up in the picture's left half."""
    picture = Image.new(mode, size)
    picture.paste((200,) * len(mode) if mode == "RGB" else 200, (4, 3, 12, 9))
    return picture


def example(question: str = "Is there an effusion?", answer: str = "yes", **settings: Any) -> Example:
    images = settings.pop("images", (Held(one_sided()),))
    settings = {"id": "one", "patient": "p", "source": "toy"} | settings
    turns = (Turn("user", "<image>\n" * len(images) + question), Turn("assistant", answer))
    return Example(turns=turns, images=images, **settings)


def pixels(augmentation: Augmentation, one: Example, *, epoch: int = 0) -> np.ndarray:
    return np.asarray(augmentation.changed(one, epoch=epoch).images[0].open())


@pytest.mark.parametrize(
    "text",
    [
        "Effusion on the left.",
        "RIGHT-sided pneumothorax",
        "Rightward shift of the trachea",
        "nodule in the l. lung",
        "R hilum",
        "Lt. base",
        "consolidation of the RLL",
        "LUQ pain",
        "dilated LV",
        "drusen OS",
        "sinistral",
        "lobus superior dexter",
        "dextrocardia",
        "situs inversus",
        "a mass at 3 o'clock",
        "at 11 o\u2019clock",
        "turned clockwise",
        "derrame pleural izquierdo",
        "lóbulo derecho",
        "poumon gauche",
        "rechter Unterlappen",
        "left_lung",
        "femur-left",
        "(left)",
    ],
)
def test_a_text_that_speaks_of_a_side_is_never_mirrored(text: str) -> None:
    plain = np.asarray(one_sided())
    for one in (
        example(question=f"Is it so: {text}?"),
        example(answer=text),
        example(options=("yes", text)),
        replace(example(), turns=(*example().turns[:1], Turn("assistant", "yes", rejected=text))),
        replace(example(), turns=(*example().turns, Turn("user", "And?"), Turn("assistant", text))),
    ):
        assert speaks_of_a_side(one)
        assert np.array_equal(pixels(MIRROR, one), plain)


@pytest.mark.parametrize(
    "text",
    [
        "Bilateral effusions.",
        "upright chest radiograph",
        "bright opacity",
        "the lateral view",
        "fracture of L5",
        "a clock",
        "reticular pattern, relative to earlier films",
        "Both lungs are clear.",
    ],
)
def test_a_text_that_speaks_of_none_may_be(text: str) -> None:
    one = example(answer=text)
    assert not speaks_of_a_side(one)
    assert np.array_equal(pixels(MIRROR, one), np.asarray(one_sided())[:, ::-1])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_mirrored_picture_has_its_columns_reversed(mode: str) -> None:
    picture = one_sided(mode)
    changed = MIRROR.changed(example(images=(Held(picture),)), epoch=0).images[0].open()
    assert changed.mode == mode
    assert np.array_equal(np.asarray(changed), np.asarray(ImageOps.mirror(picture)))
    assert np.asarray(changed)[5, -6].max() == 200
    assert np.asarray(changed)[5, 6].max() == 0


def test_flips_are_as_frequent_as_asked_and_off_by_default() -> None:
    plain = np.asarray(one_sided())
    often = replace(STILL, flip=0.25)
    mirrored = sum(not np.array_equal(pixels(often, example(id=str(place))), plain) for place in range(1000))
    assert 205 <= mirrored <= 295  # 250 with a standard error of 14
    assert Augmentation().flip == 0


def test_a_word_of_a_side_changes_nothing_but_the_mirror() -> None:
    both = replace(Augmentation(), flip=1.0, noise=0)
    turned = pixels(both, example(answer="left"))
    assert np.array_equal(turned, pixels(replace(both, flip=0.0), example(answer="none")))


def test_nothing_is_changed_where_all_limits_are_nothing() -> None:
    assert np.array_equal(pixels(STILL, example()), np.asarray(one_sided()))


def test_a_turn_is_that_of_pillow() -> None:
    picture = Image.linear_gradient("L").resize((60, 44))
    only = replace(STILL, rotation=20.0)
    one = example(images=(Held(picture),))
    changed = only.changed(one, epoch=0).images[0]
    angle = changed.change.angle  # type: ignore[attr-defined]
    assert 0 < abs(angle) <= 20
    expected = picture.rotate(angle, resample=Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(changed.open(), dtype=int) - np.asarray(expected, dtype=int)).max() <= 1


def test_moves_zooms_and_light_stay_within_their_limits() -> None:
    grey = Image.new("L", (50, 50), 100)
    wide = replace(STILL, brightness=0.1, contrast=0.2)
    values = [int(pixels(wide, example(id=str(place), images=(Held(grey),)))[0, 0]) for place in range(200)]
    assert 100 - 26 <= min(values) < 80 and 120 < max(values) <= 100 + 26
    square = Image.new("L", (100, 100))
    square.paste(255, (40, 40, 60, 60))
    for limit, measure in (("translation", lambda a: np.argwhere(a > 127).mean(axis=0) - 49.5), ("zoom", None)):
        moved = [
            pixels(replace(STILL, **{limit: 0.1}), example(id=str(place), images=(Held(square),)))
            for place in range(100)
        ]
        if measure is not None:
            shifts = np.abs([measure(one) for one in moved])
            assert 7 < shifts.max() <= 10.5
        else:
            sides = [np.sqrt((one > 127).sum()) for one in moved]
            assert 17.5 <= min(sides) < 19 and 21 < max(sides) <= 22.5


def test_noise_is_clipped_and_never_wraps_around() -> None:
    white, black = Image.new("RGB", (64, 64), (255,) * 3), Image.new("L", (64, 64), 0)
    noisy = replace(STILL, noise=0.02)
    bright = pixels(noisy, example(images=(Held(white),)))
    dark = pixels(noisy, example(images=(Held(black),)))
    assert bright.min() > 220 and dark.max() < 35
    grey = pixels(noisy, example(images=(Held(Image.new("L", (200, 200), 128)),)))
    assert abs(float(grey.std()) - 0.02 * 255) < 0.1
    assert (bright[..., 0] == bright[..., 2]).all()


def test_chance_depends_on_seed_epoch_and_example_alone() -> None:
    some = Augmentation(seed=3)
    first = pixels(some, example(), epoch=1)
    assert np.array_equal(first, pixels(some, example(), epoch=1))
    others = [
        pixels(some, example(), epoch=2),
        pixels(replace(some, seed=4), example(), epoch=1),
        pixels(some, example(id="two"), epoch=1),
        pixels(some, example(source="other"), epoch=1),
    ]
    assert not any(np.array_equal(first, other) for other in others)


def test_pictures_of_one_example_are_turned_alike_but_grained_apart() -> None:
    two = example(images=(Held(one_sided()), Held(one_sided())))
    still = replace(Augmentation(), noise=0)
    first, second = (np.asarray(image.open()) for image in still.changed(two, epoch=0).images)
    assert np.array_equal(first, second)
    first, second = (np.asarray(image.open()) for image in Augmentation().changed(two, epoch=0).images)
    assert not np.array_equal(first, second)


def test_changed_pictures_have_names_of_their_own_and_text_stays(make_example: Callable[..., Example]) -> None:
    one = make_example("id", "What?", "That.", 1, 2)
    changed = Augmentation().changed(one, epoch=0)
    names = {image.name for image in (*one.images, *changed.images, *Augmentation().changed(one, epoch=1).images)}
    assert len(names) == 6
    assert changed.turns == one.turns
    text = make_example("id", "What?", "That.")
    assert Augmentation().changed(text, epoch=0) is text


def test_huge_pictures_are_shrunk_first() -> None:
    changed = STILL.changed(example(images=(Held(Image.new("L", (LARGEST_SIDE * 2, 8))),)), epoch=0).images[0].open()
    assert changed.size == (LARGEST_SIDE, 4)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"rotation": 90.0}, "rotation is 90.0; expected 0 to 45"),
        ({"noise": -0.1}, "noise is -0.1; expected 0 to 0.5"),
        ({"flip": 2.0}, "flip is 2.0; expected 0 to 1"),
    ],
)
def test_limits_that_are_not_small_are_refused(limits: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Augmentation(**limits)


def test_limits_are_set_from_a_file() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--augmentation", type=Augmentation | None, default=None)
    assert parser.instantiate(parser.parse_object({})).augmentation is None
    found = parser.instantiate(parser.parse_object({"augmentation": {"rotation": 2.0, "flip": 0.5}})).augmentation
    assert found == Augmentation(rotation=2.0, flip=0.5)


def test_a_report_is_cut_to_one_of_its_sentences_as_often_as_is_said() -> None:
    report = example("What is shown?", "No nodule. Is there fluid? Small effusion, 1.5 cm.")
    sentences = {"No nodule.", "Is there fluid?", "Small effusion, 1.5 cm."}
    cut = replace(STILL, one_sentence=0.5)
    told = [cut.changed(report, epoch=epoch).reference for epoch in range(400)]
    assert set(told) == sentences | {report.reference}
    assert 160 <= told.count(report.reference) <= 240
    assert told == [cut.changed(report, epoch=epoch).reference for epoch in range(400)]
    assert STILL.changed(report, epoch=0).reference == report.reference


def test_the_answer_of_a_closed_question_is_never_cut() -> None:
    closed = example("Ill?", "Yes. Very.", options=("Yes. Very.", "No."))
    assert replace(STILL, one_sentence=1.0).changed(closed, epoch=0).reference == "Yes. Very."
