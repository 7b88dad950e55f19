"""One answer after the other, each with how sure it is: for programs that have no visitors."""

import math
from typing import NamedTuple

from mmmed.inference.album import Album
from mmmed.inference.generation import Decoding, row_of
from mmmed.inference.running import RunningBatch, text_of
from mmmed.inference.session import Session
from mmmed.records import Example


class Written(NamedTuple):
    """An answer.

    Args:
        text: What was said.
        confidence: Mean probability of its tokens (geometric), between 0 and 1.
    """

    text: str
    confidence: float


def answer_alone(session: Session, example: Example, decoding: Decoding) -> Written:
    """The answer to one question.

    Raises:
        RecordError: The question does not fit into the processor's `max_length`.
        ImageError: A picture cannot be decoded.
    """
    album = Album(session.model, session.processor)
    row = row_of(album, example, decoding)
    running = RunningBatch(session.model, session.processor)
    running.join([row], album)
    while running.rows:
        running.step()
    text = text_of(session.processor.prompt.tokenizer, row.written, decoding.stop)
    return Written(text, math.exp(row.log_likelihood / len(row.written)))
