"""Every metric by its name."""

from collections.abc import Iterable, Sequence

from mmmed.errors import ConfigError, did_you_mean
from mmmed.evaluation.metrics.findings import FindingMetric
from mmmed.evaluation.metrics.learned.files import metric_files, metric_of_file
from mmmed.evaluation.metrics.overlap import BleuMetric, CiderMetric, rouge_l
from mmmed.evaluation.metrics.protocols import PROTOCOLS, strict, word_recall
from mmmed.evaluation.metrics.tally import ClassMetric, Judged, MeanMetric, Metric, f1, precision, recall
from mmmed.evaluation.scorers import normalise, token_f1
from mmmed.processing.findings.labeller import OBSERVATIONS


def _shared_words(item: Judged) -> float:
    return 0.0 if item.answer is None else token_f1(item.answer, item.reference)


def _is_unparsed(item: Judged) -> float:
    return float(item.answer is None)


def _says_yes(item: Judged) -> float:
    return float(item.answer is not None and normalise(item.answer) == "yes")


METRICS: dict[str, Metric] = {
    "accuracy": MeanMetric(strict),
    "balanced_accuracy": ClassMetric(recall),
    "macro_f1": ClassMetric(f1),
    "token_f1": MeanMetric(_shared_words),
    "token_recall": MeanMetric(word_recall),
    "exact_match": MeanMetric(strict),
    "unparsed": MeanMetric(_is_unparsed),
    "yes_rate": MeanMetric(_says_yes),
    **{name: MeanMetric(protocol) for name, protocol in PROTOCOLS.items()},
    **{f"bleu_{longest}": BleuMetric(longest) for longest in (1, 2, 3, 4)},
    "rouge_l": MeanMetric(rouge_l),
    "cider": CiderMetric(),
    "finding_precision": FindingMetric(precision),
    "finding_recall": FindingMetric(recall),
    "finding_f1": FindingMetric(f1),
    "finding_macro_f1": FindingMetric(f1, "macro"),
    **{f"finding_f1_{name.lower().replace(' ', '_')}": FindingMetric(f1, name) for name in OBSERVATIONS},
}
"""By name. Balanced accuracy is the mean recall over the classes present in the references; macro F1 the mean over
the classes present in references or answers; `unparsed` the share of answers that name no option (or are empty);
`yes_rate` the share of answers, not of references, that are yes."""


def metric_named(name: str) -> Metric:
    """Look a metric up: one of those above, or one of a file in `configs/metric/`, which needs weights.

    Raises:
        ConfigError: Nothing has that name (the nearest are named), or the file does not fit.
        WeightsError: The weights of a file's metric cannot be had.
    """
    known_metric(name)
    return METRICS[name] if name in METRICS else metric_of_file(name)


def known_metric(name: str) -> str:
    """Give a metric's name back, without building it. Raises `ConfigError` with the nearest names."""
    known = [*METRICS, *metric_files()]
    if name not in known:
        raise ConfigError(f"unknown metric {name!r}{did_you_mean(name, known)}")
    return name


def classes_of(items: Iterable[Judged]) -> list[str]:
    """The classes of closed questions: every reference and every parsed answer, normalised and sorted."""
    return sorted({normalise(text) for item in items for text in (item.reference, item.answer) if text is not None})


def measure(name: str, items: Sequence[Judged]) -> float:
    """One metric over all items; not a number over none. Raises `ConfigError` for an unknown name."""
    metric = metric_named(name)
    return float(metric.value(metric.tally(items, classes_of(items)).sum(axis=0)))
