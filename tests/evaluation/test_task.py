"""A task file says what is asked; a mistake in it is one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmmed.errors import ConfigError, DataError, ImageError
from mmmed.evaluation.task import CLOSED_METRICS, OPEN_METRICS, Task, load_task
from mmmed.records import Example, Quarantined, Turn

MakeTask = Callable[..., Task]
MakeExample = Callable[..., Example]


@dataclass(frozen=True)
class Damaged:
    """A film that cannot be decoded."""

    name: str = "damaged"

    def open(self) -> Any:
        raise ImageError("image damaged is empty")


@pytest.fixture
def content(phantoms: dict[str, Any]) -> dict[str, Any]:
    return {"name": "tiny", "version": 2, "source": phantoms, "topics": ["effusion", "nodule"]}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[object], Path]:
    def write(content: object) -> Path:
        path = tmp_path / "task.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


def test_a_task_is_read_from_yaml(content: dict[str, Any], write: Callable[[object], Path]) -> None:
    task = load_task(write(content))
    asked = task.examples()
    assert (task.name, task.version, task.split) == ("tiny", 2, "test")
    assert {one.topic for one in asked} == {"effusion", "nodule"}
    assert {one.split for one in asked} == {"test"}
    assert {one.split for one in task.training()} == {"train"}
    assert task.is_closed
    assert task.metrics == CLOSED_METRICS


def test_a_task_answered_by_letters_has_no_classes_to_average_over(
    content: dict[str, Any], write: Callable[[object], Path]
) -> None:
    task = load_task(write(content | {"prompt": "{question}\n{options}\nAnswer:", "answer": "letters"}))
    assert task.is_closed and task.metrics == ("accuracy", "unparsed")


def test_a_protocol_decides_the_task_with_the_others_beside_it_and_has_answers_written(
    content: dict[str, Any], write: Callable[[object], Path]
) -> None:
    task = load_task(write(content | {"protocol": "llava_med"}))
    assert task.deciding == "llava_med"
    assert task.metrics == ("llava_med", "strict", "multimedeval", "lmms", *CLOSED_METRICS)
    assert task.asking().strategy == "written"
    reasoned = load_task(write(content | {"protocol": "strict", "strategy": "chain_of_thought"}))
    assert reasoned.asking().strategy == "chain_of_thought"
    with pytest.raises(ConfigError, match="a scorer and a protocol; name the one that it is decided by"):
        load_task(write(content | {"protocol": "strict", "scorer": "accuracy"}))
    with pytest.raises(ConfigError, match="protocol"):
        load_task(write(content | {"protocol": "lenient"}))


def test_variants_are_other_wordings_of_the_prompt(content: dict[str, Any], write: Callable[[object], Path]) -> None:
    task = load_task(write(content | {"variants": ["Look closely. {question}"]}))
    assert task.variants == ["Look closely. {question}"]
    for variants, message in (
        (["Look closely."], "expected {question} in it"),
        (["{question}"], "variant '{question}' is the prompt itself"),
        (["{question}!", "{question}!"], "variant '{question}!' stands twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_task(write(content | {"variants": variants}))


def test_a_set_that_may_hold_identifiers_is_asked_behind_the_privacy_gate(
    make_task: MakeTask, make_example: MakeExample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMMED_CACHE", str(tmp_path))
    example = make_example("77120", "Mr. Abernathy, MRN 00817263?", "yes", "a", patient="00817263", split="test")
    example = replace(example, source="pairs", images=(), turns=(Turn("user", example.question), example.turns[1]))
    task = make_task([example])
    task.source.name = "pairs"
    (asked,) = task.examples()
    assert not [word for word in ("Abernathy", "00817263", "77120") if word in repr(asked)]
    assert (asked.reference, asked.options) == (example.reference, example.options)
    assert task.audit.summary()["kinds"]["name"] >= 1
    as_it_is = make_task([example], privacy=None)
    as_it_is.source.name = "pairs"
    assert as_it_is.examples() == [example]


def test_a_limit_keeps_whole_patients(make_task: MakeTask, make_example: MakeExample) -> None:
    examples = [
        make_example(f"{patient}/{number}", "?", "yes", patient, patient=f"p{patient}", split="test")
        for patient in range(8)
        for number in range(3)
    ]
    for limit in (1, 3, 7, 12, 99):
        kept = make_task(examples, limit=limit).examples()
        sizes = Counter(one.patient for one in kept)
        assert set(sizes.values()) == {3}
        assert len(kept) == max(3, min(24, limit // 3 * 3)), "as many as fit, and one patient at least"
        assert [one.id for one in kept] == [one.id for one in examples if one.patient in sizes], "in their order"
    smaller, larger = (make_task(examples, limit=limit).examples() for limit in (6, 12))
    assert {one.id for one in smaller} < {one.id for one in larger}


def test_training_answers_are_counted_by_topic(make_task: MakeTask, make_example: MakeExample) -> None:
    train = [
        make_example(f"{topic}{number}", "?", answer, topic=topic)
        for topic, answers in {"a": ("yes", "yes", "no"), "b": ("left",)}.items()
        for number, answer in enumerate(answers)
    ]
    task = make_task([*train, make_example("t", "?", "no", topic="a", split="test")])
    assert task.training_answers() == {"a": {"yes": 2, "no": 1}, "b": {"left": 1}}


def test_free_text_has_metrics_of_its_own(make_task: MakeTask, make_example: MakeExample) -> None:
    closed = make_example("c", "?", "yes", options=("yes", "no"), split="test")
    task = make_task([closed, make_example("o", "?", "a mass", split="test")])
    assert not task.is_closed
    assert task.metrics == OPEN_METRICS


def test_a_damaged_image_is_set_aside_and_told(make_task: MakeTask, make_example: MakeExample) -> None:
    good = make_example("good", "?", "yes", 1, split="test")
    bad = Example(id="bad", patient="p", turns=good.turns, images=(Damaged(),), split="test", source="phantom")
    set_aside = Quarantined("phantom", "row 3", "no answer")
    task = make_task([good, bad, set_aside])
    assert task.examples() == [good]
    assert task.quarantined() == [set_aside, Quarantined("phantom", "bad", "image damaged is empty")]
    with pytest.raises(DataError, match="task listed: no test example to ask"):
        make_task([bad]).examples()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limt": 3}, r"unknown key 'limt' \(did you mean 'limit'\?\)"),
        ({"split": "tset"}, "'validation', 'test'.*tset"),
        ({"limit": "many"}, "limit.*many"),
        ({"source": {"class_path": "mmmed.data.sources.phantom.PhantomSorce"}}, "PhantomSorce"),
        ({"source": {"class_path": "mmmed.data.sources.phantom.PhantomSource", "init_args": {"cuont": 3}}}, "cuont"),
        ("- [", "while parsing"),
        ("", "expected the keys of a task"),
        ("version: 1", "required: name, source"),
    ],
)
def test_a_mistake_in_a_task_is_one_line_that_names_the_file(
    change: object, message: str, content: dict[str, Any], write: Callable[[object], Path]
) -> None:
    path = write(content | change if isinstance(change, dict) else change)
    with pytest.raises(ConfigError, match=message) as raised:
        load_task(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_task_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no task file .*nowhere\.yaml; the tasks of the project are in configs/task/"
    ):
        load_task(tmp_path / "nowhere.yaml")
