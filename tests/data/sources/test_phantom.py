from collections import defaultdict
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from mmmed.data.phantom.case import Planted
from mmmed.data.phantom.findings import KINDS, SIDES
from mmmed.data.phantom.grammar import NAMES
from mmmed.data.source import Source
from mmmed.data.sources.phantom import PhantomImage, PhantomSource
from mmmed.errors import ConfigError, ImageError, OutputError
from mmmed.records import Example, LazyImage


def examples(source: PhantomSource) -> list[Example]:
    return [record for record in source.records() if isinstance(record, Example)]


def test_splits_never_share_a_patient() -> None:
    splits = defaultdict(set)
    films = defaultdict(set)
    for example in examples(PhantomSource(300)):
        splits[example.patient].add(example.split)
        films[example.patient].add(example.images[0].name)
    assert all(len(used) == 1 for used in splits.values())
    assert {len(names) for names in films.values()} == {1, 2}
    assert {split for used in splits.values() for split in used} == {"train", "validation", "test"}


def test_records_are_the_same_every_time_and_do_not_depend_on_the_count() -> None:
    short, long = examples(PhantomSource(5)), examples(PhantomSource(9))
    assert short == long[: len(short)]
    assert len({example.id for example in long}) == len(long)


def test_every_film_has_a_report_and_six_questions() -> None:
    topics = defaultdict(list)
    for example in examples(PhantomSource(20)):
        topics[example.images[0].name].append(example.topic)
        assert example.turns[0].text.startswith("<image>\n")
        assert [turn.speaker for turn in example.turns] == ["user", "assistant"]
    assert len(topics) == 20
    for asked in topics.values():
        assert [topic for topic in asked if topic in ("report", *KINDS)] == ["report", *KINDS]


def test_answers_agree_with_the_truth_in_the_attributes() -> None:
    for example in examples(PhantomSource(40)):
        kind = example.id.split("/")[1]
        if kind in ("report", "findings", "checklist"):
            continue
        truth = example.attributes[kind]
        if example.topic == "side":
            assert example.reference == truth
            assert example.options == SIDES[kind]
        elif example.topic == "severity":
            assert truth != "absent"
            assert example.options == ("mild", "moderate", "severe")
        else:
            assert example.reference == ("no" if truth == "absent" else "yes")


def test_the_checklist_has_a_blank_for_each_finding_and_the_list_names_those_present() -> None:
    for example in examples(PhantomSource(20, questions=("findings", "checklist"))):
        present = {NAMES[kind]: example.attributes[kind] != "absent" for kind in KINDS}
        if example.topic == "checklist":
            form = example.turns[-1]
            filled = dict(line.split(": ") for line in form.text.rstrip(".").split(", "))
            assert filled == {name: "yes" if there else "no" for name, there in present.items()}
            assert form.blanks == tuple(filled.values())
        else:
            named = [name for name, there in present.items() if there]
            assert example.reference == f"It shows {', '.join(named) or 'no abnormality'}."


def test_label_noise_reaches_answers_but_not_attributes() -> None:
    turned = 0
    for example in examples(PhantomSource(60, planted=Planted(label_noise=1.0), questions=("finding",))):
        wrong = (example.reference == "no") != (example.attributes[example.topic] == "absent")
        assert wrong == (example.split == "train")
        turned += wrong
    assert turned > 100


def test_only_the_asked_kinds_of_question_are_yielded() -> None:
    assert {example.topic for example in examples(PhantomSource(10, questions=("finding",)))} == set(KINDS)


def test_prepare_fills_the_cache_once(tmp_path: Path) -> None:
    source = PhantomSource(3, cache=str(tmp_path / "films"))
    source.prepare()
    files = sorted((tmp_path / "films").iterdir())
    assert [file.suffix for file in files] == [".png"] * 3
    before = [file.stat().st_mtime_ns for file in files]
    source.prepare()
    assert [file.stat().st_mtime_ns for file in sorted((tmp_path / "films").iterdir())] == before


def test_two_processes_render_the_films_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmmed.data.sources.phantom._WORTH_A_POOL", 2)
    PhantomSource(3, cache=str(tmp_path)).prepare()
    assert len(list(tmp_path.iterdir())) == 3
    assert PhantomImage(0, 1, cache=tmp_path).open().tobytes() == PhantomImage(0, 1).open().tobytes()


def test_a_cached_film_equals_a_rendered_one(tmp_path: Path) -> None:
    image = PhantomImage(0, 2, cache=tmp_path)
    rendered, cached, fresh = image.open(), image.open(), PhantomImage(0, 2).open()
    assert isinstance(image, LazyImage)
    assert rendered.tobytes() == cached.tobytes() == fresh.tobytes()
    assert not list(tmp_path.glob("*.part"))


def test_films_that_differ_have_different_names() -> None:
    planted = Planted(prevalence={"": {"nodule": 1.0}})
    names = {
        PhantomImage(0, 2).name,
        PhantomImage(1, 2).name,
        PhantomImage(0, 3).name,
        PhantomImage(0, 2, planted).name,
        PhantomImage(0, 2, tag=True).name,
    }
    assert len(names) == 5
    assert PhantomImage(0, 2, Planted(label_noise=0.5)).name == PhantomImage(0, 2).name


def test_an_image_says_where_its_findings_lie() -> None:
    image = PhantomImage(0, 0)
    for kind in KINDS:
        assert bool(image.boxes(kind)) == image.case.finding(kind).present
    assert image.boxes("report") == ()


def test_a_damaged_cache_file_is_named(tmp_path: Path) -> None:
    image = PhantomImage(0, 2, cache=tmp_path)
    assert image.path is not None
    image.path.write_bytes(b"no film")
    with pytest.raises(ImageError, match="delete it"):
        image.open()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="writable folder as cache"):
        PhantomImage(0, 2, cache=tmp_path / "file" / "films").open()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "1 or more films"),
        ({"seed": -1}, "seed is -1"),
        ({"questions": ("sides",)}, "did you mean 'side'"),
    ],
)
def test_impossible_sources_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PhantomSource(**arguments)


def test_a_configuration_builds_it_as_a_source() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--source", type=Source)
    planted = {"label_noise": 0.4, "label_noise_group": "sex=F", "prevalence": {"sex=F": {"effusion": 0.9}}}
    settings = {"count": 20, "cache": None, "questions": ["finding"], "fractions": [0.6, 0.2, 0.2], "planted": planted}
    parsed = parser.parse_object(
        {"source": {"class_path": "mmmed.data.sources.phantom.PhantomSource", "init_args": settings}}
    )
    source = parser.instantiate(parsed).source
    assert isinstance(source, PhantomSource)
    assert source.planted == Planted(**planted)
    assert len(list(source.records())) == 20 * 6
