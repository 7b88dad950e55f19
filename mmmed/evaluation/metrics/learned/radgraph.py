"""RadGraph F1: entities of a chest report and how they are related, found by the model of the package `radgraph`."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mmmed.errors import WeightsError
from mmmed.evaluation.metrics.learned.packages import package

Reward = Literal["simple", "partial", "complete", "apart"]
"""What is counted: entities with their labels; also whether they relate to others; also all that they relate to; or
entities and relations each on their own, whose two F1 are averaged."""

Graph = Mapping[str, Mapping[str, Any]]


class RadGraph:
    """F1 of the entities and relations that a report shares with its reference.

    Args:
        model: Which of the package's models; the package fetches its weights from the hub.
        reward: What is counted.

    Raises:
        ConfigError: The package is not installed.
        WeightsError: The package cannot get its weights.

    Source: Jain et al. 2021, NeurIPS Datasets and Benchmarks (arXiv 2106.14463); Delbrouck et al. 2022, Findings of
    EMNLP, section 3.2 (simple, partial, complete); Yu et al. 2023, Patterns 4:100802 (apart).
    """

    def __init__(self, model: str = "radgraph-xl", reward: Reward = "partial") -> None:
        library = package("radgraph", distribution="radgraph")
        try:
            level = "simple" if reward == "apart" else reward
            self.compare = library.F1RadGraph(reward_level=level, model_type=model)
        except Exception as error:  # the package wraps whatever goes wrong in a bare Exception
            raise WeightsError(
                f"RadGraph: its weights for {model} cannot be had ({' '.join(str(error).split())[:160]}); "
                "run it once where the hub can be reached"
            ) from error
        self.reward: Reward = reward

    def scores(self, references: Sequence[str], answers: Sequence[str]) -> list[float]:
        """The F1 of each pair."""
        _, rewards, said, wanted = self.compare(refs=list(references), hyps=list(answers))
        if self.reward == "apart":
            return [apart(own["entities"], other["entities"]) for own, other in zip(said, wanted, strict=True)]
        return [float(value) for value in rewards]


def apart(said: Graph, wanted: Graph) -> float:
    """The mean of the F1 of entities and of that of relations.

    Args:
        said: Entities by number, each with `tokens`, `label` and `relations`, pairs of a kind and another's number.
        wanted: Those of the reference.
    """
    return (_f1(_entities(said), _entities(wanted)) + _f1(_relations(said), _relations(wanted))) / 2


def _entities(graph: Graph) -> set[tuple[str, str]]:
    return {_named(entity) for entity in graph.values()}


def _relations(graph: Graph) -> set[tuple[tuple[str, str], str, tuple[str, str]]]:
    return {
        (_named(entity), kind, _named(graph[other]))
        for entity in graph.values()
        for kind, other in entity["relations"]
        if other in graph
    }


def _named(entity: Mapping[str, Any]) -> tuple[str, str]:
    return entity["tokens"], entity["label"]


def _f1(said: set[Any], wanted: set[Any]) -> float:
    shared = len(said & wanted)
    return 2 * shared / (len(said) + len(wanted)) if shared else 0.0
