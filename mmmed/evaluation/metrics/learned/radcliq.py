"""RadCliQ: one figure of four, weighed as radiologists counted errors.

Legend of array names: N pairs, K parts.
"""

from collections.abc import Sequence

import numpy as np

from mmmed.evaluation.metrics.learned.bert_score import BertScore
from mmmed.evaluation.metrics.learned.chexbert import CheXbert
from mmmed.evaluation.metrics.learned.radgraph import RadGraph
from mmmed.evaluation.metrics.tally import FloatArray

# RadGraph (entities and relations apart), BERTScore, similarity by CheXbert. BLEU-2 is the fourth; its weight is 4e-12.
MEAN_K = np.array([0.53792312, 0.61757256, 0.76479421])
SCALE_K = np.array([0.30282584, 0.22430938, 0.25394391])
WEIGHT_K = np.array([-0.377083683, -0.370300100, -0.252616218])


class RadCliQ:
    """RadCliQ version 1, turned round and scaled: 1 where all parts are 1, as of equal reports, 0 where all are 0.

    RadCliQ itself, the number of errors up to shift and scale, is `errors`.

    Args:
        radgraph: With the reward `apart`.
        bert_score: Over the fifth layer of `distilroberta-base`, with that layer's baseline.
        chexbert: The labeller whose hidden states are compared.

    Source: Yu et al. 2023, Patterns 4:100802; means, scales and weights are those of the published model, version 1.
    """

    def __init__(self, radgraph: RadGraph, bert_score: BertScore, chexbert: CheXbert) -> None:
        self.radgraph = radgraph
        self.bert_score = bert_score
        self.chexbert = chexbert

    def scores(self, references: Sequence[str], answers: Sequence[str]) -> list[float]:
        """The scaled figure of each pair."""
        parts_NK = np.stack(
            [
                np.array(self.radgraph.scores(references, answers)),
                np.array(self.bert_score.scores(references, answers)),
                cosines(self.chexbert.places(references), self.chexbert.places(answers)),
            ],
            axis=1,
        )
        worst, best = errors(np.zeros(3)), errors(np.ones(3))
        scaled: list[float] = ((worst - errors(parts_NK)) / (worst - best)).tolist()
        return scaled


def errors(parts_NK: FloatArray) -> FloatArray:
    """RadCliQ of its parts (..., K): the lower the better."""
    found: FloatArray = ((parts_NK - MEAN_K) / SCALE_K) @ WEIGHT_K
    return found


def cosines(first_ND: FloatArray, second_ND: FloatArray) -> FloatArray:
    """The cosine of each pair of rows (N)."""
    lengths_N = np.linalg.norm(first_ND, axis=1) * np.linalg.norm(second_ND, axis=1)
    found: FloatArray = (first_ND * second_ND).sum(axis=1) / np.maximum(lengths_N, 1e-12)
    return found
