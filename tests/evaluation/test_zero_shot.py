"""Zero-shot evaluation: a model that knows all is found to, one that knows nothing is at chance."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from mmmed.data.phantom.case import Planted
from mmmed.data.phantom.findings import KINDS
from mmmed.data.phantom.grammar import NAMES
from mmmed.data.question import YES_NO
from mmmed.data.sources.phantom import PhantomSource
from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.compare import Row
from mmmed.evaluation.zero_shot import Prompts, ZeroShotTask, evaluate_zero_shot, load_zero_shot
from mmmed.inference.embedding import Embedder, ImageVectors, embedder_of
from mmmed.models.contrastive import ContrastiveModel
from mmmed.records import Example, LazyImage

FILMS = 160


@pytest.fixture
def task() -> ZeroShotTask:
    prompts = {kind: Prompts(positive=[f"There is {NAMES[kind]}."], negative=[f"No {NAMES[kind]}."]) for kind in KINDS}
    source = PhantomSource(FILMS, questions=["report", "finding"])
    return ZeroShotTask(name="tiny", version=1, source=source, prompts=prompts, reports="report")


@pytest.fixture(autouse=True)
def _unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """No film is rendered: the oracle knows them by name."""
    monkeypatch.setattr("mmmed.data.sources.phantom.PhantomImage.open", lambda image: None)


class Oracle(Embedder):
    """Sees the truth of each film and reads the words of each text; or, blind, sees the same in all films."""

    def __init__(self, source: PhantomSource, *, blind: bool = False) -> None:
        self.truth = {
            one.images[0].name: [1.0 if one.attributes[kind] != "absent" else -1.0 for kind in KINDS]
            for one in source.records()
            if isinstance(one, Example)
        }
        self.blind = blind
        self.model: Any = SimpleNamespace(shared=SimpleNamespace(scale=torch.tensor(10.0)))

    def images(self, images: Sequence[LazyImage]) -> ImageVectors:
        seen = torch.tensor([[1.0] * len(KINDS) if self.blind else self.truth[image.name] for image in images])
        return ImageVectors(torch.nn.functional.normalize(seen, dim=-1), seen)

    def texts(self, texts: Sequence[str]) -> Tensor:
        said = torch.tensor([[self._says(text.lower(), kind) for kind in KINDS] for text in texts])
        return torch.nn.functional.normalize(said, dim=-1)

    def _says(self, text: str, kind: Any) -> float:
        sentences = [one for one in text.split(".") if NAMES[kind] in one]
        return sum(-1.0 if one.strip().startswith(("no ", "there is no ")) else 1.0 for one in sentences)


def value(rows: list[Row], metric: str, arm: str = "model", task: str = "tiny", baseline: str | None = None) -> Row:
    (found,) = [one for one in rows if (one.metric, one.arm, one.task, one.baseline) == (metric, arm, task, baseline)]
    return found


def test_an_oracle_is_found_to_know_all_and_a_blind_model_nothing(task: ZeroShotTask) -> None:
    source = task.source
    assert isinstance(source, PhantomSource)
    outcome = evaluate_zero_shot({"model": Oracle(source), "blind": Oracle(source, blind=True)}, task)
    rows = outcome.rows
    for metric in ("zero_shot_auroc", "linear_probe_auroc"):
        assert value(rows, f"mean_{metric}").value == 1
        assert value(rows, f"mean_{metric}", arm="blind").value == 0.5
        assert value(rows, f"mean_{metric}", baseline="blind").delta == 0.5
        assert value(rows, f"mean_{metric}", baseline="chance").delta == 0.5
        assert {one.task for one in rows if one.metric == metric} == {f"tiny:{kind}" for kind in KINDS}
    guess = value(rows, "image_to_report_recall@5", arm="blind")
    films = guess.n
    assert films == len([one for one in task.examples("test") if one.topic == "report"])
    assert value(rows, "image_to_report_recall@10").value > 0.8
    assert value(rows, "report_to_image_recall@10").value > 0.8
    assert guess.value == pytest.approx(5 / films, abs=0.02)
    against = value(rows, "report_to_image_recall@1", baseline="chance")
    assert against.delta == pytest.approx(against.value - 1 / films, abs=0.02)


def test_answers_are_kept_for_every_question(task: ZeroShotTask) -> None:
    assert isinstance(task.source, PhantomSource)
    outcome = evaluate_zero_shot({"model": Oracle(task.source)}, task)
    asked = [one for one in task.examples("test") if one.topic in KINDS]
    assert set(outcome.predictions) == {"model", "model_linear_probe"}
    for predictions in outcome.predictions.values():
        assert {one.id for one in predictions} == {f"phantom:{one.id}" for one in asked}
        assert all(set(one.options) == set(YES_NO) for one in predictions)
    assert all(one.answer == one.reference for one in outcome.predictions["model"])


def test_a_real_model_sees_each_film_once_whatever_the_batch(
    make_towers: Callable[..., ContrastiveModel], make_example: Callable[..., Example]
) -> None:
    model = make_towers()
    films = [make_example("a", "", "yes", shade).images[0] for shade in range(5)]
    whole, cut = embedder_of(model, device="cpu"), embedder_of(model, device="cpu")
    cut.batch_size = 2
    for ours, theirs in zip(whole.images(films), cut.images(films), strict=True):
        torch.testing.assert_close(ours, theirs)
    texts = ["yes", "no effusion on this film", "left"]
    torch.testing.assert_close(whole.texts(texts), cut.texts(texts))


def test_a_task_is_read_from_yaml_and_a_mistake_in_it_is_one_line(tmp_path: Path) -> None:
    source = {"class_path": "mmmed.data.sources.phantom.PhantomSource", "init_args": {"count": 4}}
    content: dict[str, Any] = {
        "name": "tiny",
        "version": 1,
        "source": source,
        "prompts": {"nodule": {"positive": ["A nodule."], "negative": ["No nodule."]}},
    }
    path = tmp_path / "task.yaml"

    def read(**changes: Any) -> ZeroShotTask:
        path.write_text(yaml.safe_dump(content | changes))
        return load_zero_shot(path)

    assert read().prompts["nodule"].negative == ["No nodule."]
    with pytest.raises(ConfigError, match=r"unknown key 'prompt' \(did you mean 'prompts'\?\)"):
        read(prompt={})
    with pytest.raises(ConfigError, match="nodule needs positive and negative prompts"):
        read(prompts={"nodule": {"positive": ["A nodule."], "negative": []}})
    with pytest.raises(ConfigError, match="asks nothing"):
        read(prompts={})
    with pytest.raises(ConfigError, match="no task file"):
        load_zero_shot(tmp_path / "nowhere.yaml")


def test_a_topic_that_is_not_asked_is_refused() -> None:
    prompts = {"fracture": Prompts(positive=["A fracture."], negative=["No fracture."])}
    task = ZeroShotTask(name="tiny", version=1, source=PhantomSource(20), prompts=prompts)
    with pytest.raises(DataError, match="no test example has the topic 'fracture'"):
        task.examples("test")
    prompts = {"side": Prompts(positive=["Left."], negative=["Right."])}
    with pytest.raises(DataError, match="is no yes/no question"):
        ZeroShotTask(name="tiny", version=1, source=PhantomSource(20), prompts=prompts).examples("test")
    never = Planted(prevalence={"": {"nodule": 0.0}})
    prompts = {"nodule": Prompts(positive=["A nodule."], negative=["No nodule."])}
    task = ZeroShotTask(name="tiny", version=1, source=PhantomSource(20, planted=never), prompts=prompts)
    with pytest.raises(DataError, match="every test example of 'nodule' has the answer 'no', and both are needed"):
        task.examples("test")
