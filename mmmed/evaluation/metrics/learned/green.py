"""GREEN: a language model that names the errors of a report against its reference, by the package `green-score`."""

import math
import tempfile
from collections.abc import Sequence

from mmmed.errors import WeightsError
from mmmed.evaluation.metrics.learned.packages import package


class Green:
    """Matched findings over matched findings and significant errors, as the model counts them.

    Args:
        model: The judge, by its name on the hub or by folder; a GPU is needed for any but a few reports.

    Raises:
        ConfigError: The package is not installed.
        WeightsError: The model cannot be loaded.

    Source: Ostmeier et al. 2024, Findings of EMNLP, equation 1 (arXiv 2405.03595).
    """

    def __init__(self, model: str = "StanfordAIMI/GREEN-radllama2-7b") -> None:
        library = package("green_score", distribution="green-score")
        try:
            self.judge = library.GREEN(model, output_dir=tempfile.mkdtemp(prefix="green"))
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"GREEN: {model} cannot be loaded ({' '.join(str(error).split())[:160]}); "
                "name a folder that holds it, or run it once where the hub can be reached"
            ) from error

    def scores(self, references: Sequence[str], answers: Sequence[str]) -> list[float]:
        """The score of each pair; not a number where the judge's words cannot be read."""
        scores = self.judge(list(references), list(answers))[2]
        return [math.nan if value is None else float(value) for value in scores]
