"""What a contrastive model knows without having been asked: findings by their names, reports by their images.

Letters in array names: B draws, P patients, N items, C candidates, E width of the shared space.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.privacy import DEFAULT_PRIVACY, Privacy, guarded_once
from mmmed.data.question import YES_NO
from mmmed.data.source import Source, decodable, read
from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.arms import prediction
from mmmed.evaluation.compare import Row
from mmmed.evaluation.figures import Figure, auroc, average, mean_of, rows_of
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.ranking import chance, recall_at
from mmmed.evaluation.statistics import FloatArray
from mmmed.evaluation.task import read_described
from mmmed.inference.embedding import Embedder
from mmmed.records import Answer, Example, Split

RANKS = (1, 5, 10)


@dataclass(kw_only=True)
class Prompts:
    """Sentences that stand for a finding; their vectors are averaged.

    Args:
        positive: As a report says that it is there.
        negative: As a report says that it is not.
    """

    positive: list[str]
    negative: list[str]


@dataclass(kw_only=True)
class ZeroShotTask:
    """What is asked of a contrastive model on one data set.

    Args:
        name: Shown in tables; letters, digits and underscores.
        version: Raised whenever a change of this file changes scores.
        source: The data set; with a split of its own, so that training never sees what is asked.
        prompts: Topic of yes/no questions to the prompts that stand for yes and no.
        reports: Topic whose answers are found by their images, and the other way round; empty for none.
        split: Which split is asked.
        privacy: How a source that may hold identifiers is made safe, as it was for training; null asks it as it is.
    """

    name: str
    version: int
    source: Source
    prompts: dict[str, Prompts] = field(default_factory=dict)
    reports: str = ""
    split: Split = "test"
    privacy: Privacy | None = DEFAULT_PRIVACY
    audit: Audit = field(default_factory=Audit, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for topic, prompts in self.prompts.items():
            if not prompts.positive or not prompts.negative:
                raise ConfigError(f"task {self.name}: {topic} needs positive and negative prompts, one or more of each")
        if not self.prompts and not self.reports:
            raise ConfigError(f"task {self.name} asks nothing; give it prompts, or the topic of its reports")

    def examples(self, split: Split) -> list[Example]:
        """Yes/no questions and reports, each about one image that can be read.

        Raises:
            DataError: A topic is not asked about in this split, or has the same answer throughout.
        """
        wanted = {*self.prompts, *filter(None, [self.reports])}
        read_ones = [one for one in read([self._safe], split).examples if one.topic in wanted]
        kept = decodable([one for one in read_ones if len(one.images) == 1]).examples
        if missing := sorted(wanted - {one.topic for one in kept}):
            raise DataError(f"task {self.name}: no {split} example has the topic {missing[0]!r}; check its source")
        for topic in self.prompts:
            answers = {one.reference for one in kept if one.topic == topic}
            if not answers <= set(YES_NO):
                raise DataError(f"task {self.name}: topic {topic!r} is no yes/no question; expected options {YES_NO}")
            if len(answers) < len(YES_NO):
                raise DataError(
                    f"task {self.name}: every {split} example of {topic!r} has the answer {answers.pop()!r}, and both "
                    "are needed; take more examples, or other fractions of the split"
                )
        return kept

    @cached_property
    def _safe(self) -> Source:
        """The prepared source behind the privacy gate, where it needs one."""
        self.source.prepare()
        return guarded_once(self.source, self.privacy, self.audit)


class Outcome(NamedTuple):
    """Every figure, and what each arm said to each question."""

    rows: list[Row]
    predictions: dict[str, list[Prediction]]


def load_zero_shot(path: str | Path) -> ZeroShotTask:
    """Read a zero-shot task file. Raises `ConfigError` naming the file."""
    return read_described(path, ZeroShotTask, folder="configs/zero_shot/")


def evaluate_zero_shot(embedders: Mapping[str, Embedder], task: ZeroShotTask) -> Outcome:
    """Classification by prompts, by a linear probe, and retrieval: the first arm against chance and the other arms."""
    examples, training = task.examples(task.split), task.examples("train") if task.prompts else []
    order = sorted({_patient(one) for one in examples})
    figures: dict[str, list[Figure]] = {}
    predictions: dict[str, list[Prediction]] = {}
    for arm, embedder in embedders.items():
        seen = look(embedder, examples)
        figures[arm] = []
        if task.prompts:
            predictions[arm] = classify(embedder, seen, task, examples, arm=arm)
            taught = look(embedder, [one for one in training if one.topic in task.prompts])
            probed = probe(seen, taught, task, examples, training, arm=f"{arm}_linear_probe")
            predictions[f"{arm}_linear_probe"] = probed
            figures[arm] += aurocs(predictions[arm], task=task.name, metric="zero_shot_auroc", order=order)
            figures[arm] += aurocs(probed, task=task.name, metric="linear_probe_auroc", order=order)
        if task.reports:
            reports = [one for one in examples if one.topic == task.reports]
            figures[arm] += retrieval(embedder, seen, reports, task=task.name, order=order)
    return Outcome(rows_of(figures, patients=len(order)), predictions)


@dataclass(frozen=True)
class Seen:
    """Images of a split as one model sees them: places in the shared space, and features before it, by name."""

    places: Mapping[str, FloatArray]
    features: Mapping[str, FloatArray]


def look(embedder: Embedder, examples: Sequence[Example]) -> Seen:
    """Embed each image once."""
    images = {image.name: image for example in examples for image in example.images}
    vectors = embedder.images(list(images.values()))
    places, features = (one.double().numpy() for one in vectors)
    return Seen(dict(zip(images, places, strict=True)), dict(zip(images, features, strict=True)))


def classify(
    embedder: Embedder, seen: Seen, task: ZeroShotTask, examples: Sequence[Example], *, arm: str
) -> list[Prediction]:
    """Answer the yes/no questions by whether an image lies nearer to the positive or to the negative prompts.

    Source: Tiu et al. 2022, Nature Biomedical Engineering 6:1399-1406, Methods (a softmax over the pair of prompts);
    Radford et al. 2021, arXiv 2103.00020, section 3.1.4 (prompts averaged in the space of embeddings).
    """
    scale = embedder.model.shared.scale.item()
    answers: list[Prediction] = []
    for topic, prompts in task.prompts.items():
        yes_E, no_E = (_ensemble(embedder, sentences) for sentences in (prompts.positive, prompts.negative))
        for example in (one for one in examples if one.topic == topic):
            margin = float(seen.places[example.images[0].name] @ (yes_E - no_E))
            probability = float(1 / (1 + np.exp(-scale * margin)))
            options = dict(zip(YES_NO, (probability, 1 - probability), strict=True))
            answer = Answer(text=max(options, key=options.__getitem__), options=options)
            answers.append(prediction(example, answer, arm=arm, task=task.name))
    return answers


def probe(
    seen: Seen, taught: Seen, task: ZeroShotTask, examples: Sequence[Example], training: Sequence[Example], *, arm: str
) -> list[Prediction]:
    """Answer the yes/no questions by logistic regression on the mean features, learned from the training split."""
    answers: list[Prediction] = []
    for topic in task.prompts:
        learned = [one for one in training if one.topic == topic]
        asked = [one for one in examples if one.topic == topic]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        model.fit(_rows(taught.features, learned), [one.reference for one in learned])
        shares = model.predict_proba(_rows(seen.features, asked))
        for example, share in zip(asked, shares, strict=True):
            options = dict(zip(map(str, model.classes_), map(float, share), strict=True))
            answer = Answer(text=max(options, key=options.__getitem__), options=options)
            answers.append(prediction(example, answer, arm=arm, task=task.name))
    return answers


def aurocs(predictions: Sequence[Prediction], *, task: str, metric: str, order: Sequence[str]) -> list[Figure]:
    """The area under the ROC curve of each topic, and their mean in front."""
    figures = [
        auroc([one for one in predictions if one.topic == topic], task=f"{task}:{topic}", metric=metric, order=order)
        for topic in dict.fromkeys(one.topic for one in predictions)
    ]
    return [average(figures, task=task, metric=f"mean_{metric}"), *figures]


def retrieval(
    embedder: Embedder, seen: Seen, reports: Sequence[Example], *, task: str, order: Sequence[str]
) -> list[Figure]:
    """How often an image's report is among the first found, and a report's image; equal texts are one report."""
    texts = list(dict.fromkeys(one.reference.strip() for one in reports))
    texts_CE = embedder.texts(texts).double().numpy()
    column = {text: number for number, text in enumerate(texts)}
    own_N = np.array([column[one.reference.strip()] for one in reports])
    similarity_NC = _rows(seen.places, reports) @ texts_CE.T
    right_NC = own_N[:, None] == np.arange(len(texts))
    patients = [_patient(one) for one in reports]
    figures = []
    for rank in RANKS:
        # A text is asked for once for each of its images, so that both directions have one item per pair.
        for name, hits_N, right_N, candidates in (
            ("image_to_report", recall_at(similarity_NC, right_NC, most=rank), right_NC.sum(1), len(texts)),
            (
                "report_to_image",
                recall_at(similarity_NC.T, right_NC.T, most=rank)[own_N],
                right_NC.sum(0)[own_N],
                len(reports),
            ),
        ):
            guessed_N = chance(np.full(len(reports), candidates), right_N, np.full(len(reports), rank))
            figures.append(
                Figure(
                    task=task,
                    metric=f"{name}_recall@{rank}",
                    draws=mean_of(hits_N, patients, order=order),
                    n=len(reports),
                    support=len(set(patients)),
                    chance=float(guessed_N.mean()),
                )
            )
    return figures


def _ensemble(embedder: Embedder, sentences: Sequence[str]) -> FloatArray:
    mean_E: FloatArray = functional.normalize(embedder.texts(sentences).double().mean(0), dim=0).numpy()
    return mean_E


def _rows(vectors: Mapping[str, FloatArray], examples: Sequence[Example]) -> NDArray[np.float64]:
    return np.stack([vectors[one.images[0].name] for one in examples])


def _patient(example: Example) -> str:
    return f"{example.source}:{example.patient}"
