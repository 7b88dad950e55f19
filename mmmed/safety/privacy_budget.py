"""What a model's training promises of single conversations."""

from dataclasses import dataclass

from mmmed.errors import DataError
from mmmed.safety.check import Subject
from mmmed.safety.measure import Measure


@dataclass(kw_only=True)
class PrivacyBudget:
    """Shows the epsilon that a model was trained to with `mmmed.training.private.PrivateGradients`.

    It is a bound and no estimate, so its interval has no width.

    Args:
        at_most: Greatest epsilon that is allowed.
    """

    at_most: float | None = None

    @property
    def title(self) -> str:
        """What is asked."""
        return "What does the training promise about any one conversation?"

    def examine(self, subject: Subject) -> list[Measure]:
        """The epsilon of the last stage.

        Raises:
            DataError: It was trained without such a promise, or without noise.
        """
        privacy = subject.session.provenance.get("privacy")
        if not privacy or privacy["epsilon"] is None:
            raise DataError("the model was not trained with differential privacy, which promises nothing of anyone")
        epsilon = float(privacy["epsilon"])
        return [
            Measure(
                name="epsilon of the last stage, for one conversation",
                value=epsilon,
                low=epsilon,
                high=epsilon,
                n=int(privacy["steps"]),
                expected=0.0,
                most=self.at_most,
                note=f"delta {privacy['delta']:g},"
                f" noise {privacy['noise']:g}, clip {privacy['clip']:g}; n counts steps; "
                f"{privacy['accounting']}",
            )
        ]
