"""Metrics of files are found by name, built once, and named where they are misspelt."""

import pytest

from mmmed.errors import ConfigError
from mmmed.evaluation.metrics.catalogue import known_metric, metric_named
from mmmed.evaluation.metrics.learned import files


def test_every_file_is_known_without_being_built() -> None:
    names = files.metric_files()
    assert {"bertscore", "chexbert_f1", "radgraph_f1", "radcliq", "green"} <= set(names)
    assert [known_metric(name) for name in names] == names


def test_a_misspelt_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown metric 'radgraf_f1'.*radgraph_f1"):
        metric_named("radgraf_f1")


@pytest.mark.network
@pytest.mark.slow
def test_the_metric_with_weights_of_the_package_index_is_built_and_orders_reports() -> None:
    from mmmed.evaluation.metrics.tally import Judged

    metric = metric_named("bertscore_minilm")
    assert metric_named("bertscore_minilm") is metric, "built once"
    reference = "Small left pleural effusion. No pneumothorax."
    said = (reference, "There is a small effusion on the left.", "The patient likes to play football.")
    worth = [float(metric.value(metric.tally([Judged(reference, each, "p")], []).sum(axis=0))) for each in said]
    assert worth == sorted(worth, reverse=True)
    assert worth[0] == pytest.approx(1.0, abs=1e-5)
