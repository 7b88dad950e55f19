"""Findings asked as yes/no questions: in which words, and which of them of an image."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from mmmed.data.splits import uniform
from mmmed.processing.findings.labeller import NO_FINDING, SUPPORT_DEVICES

Asked = Literal["balanced", "all"]
"""`balanced` asks about the findings of an image and as many absent ones; `all` asks about whatever is known."""

_WHOLE = {NO_FINDING: "Is this radiograph normal?", SUPPORT_DEVICES: "Are there support devices?"}
_WORDS = {"Effusion": "a pleural effusion", "Hernia": "a hernia", "Mass": "a mass", "Nodule": "a nodule"}
_WORDS |= {"Infiltration": "an infiltrate", "Pneumothorax": "a pneumothorax", "Pleural Effusion": "a pleural effusion"}
_WORDS |= {"Enlarged Cardiomediastinum": "an enlarged cardiomediastinum", "Lung Lesion": "a lung lesion"}
_WORDS |= {"Lung Opacity": "a lung opacity", "Pleural Other": "another pleural abnormality", "Fracture": "a fracture"}


def question_about(finding: str) -> str:
    """The yes/no question that stands for a finding of a chest film."""
    return _WHOLE.get(finding) or f"Is there evidence of {_WORDS.get(finding, topic_of(finding))}?"


def topic_of(finding: str) -> str:
    """A finding as a topic: ``"Pleural_Thickening"`` is ``"pleural thickening"``."""
    return finding.replace("_", " ").lower()


def balanced(present: Collection[str], known: Sequence[str], *, counts: Mapping[str, int], chance: str) -> list[str]:
    """The findings of an image and as many absent ones, so that "yes" is right about half the time for each.

    Args:
        present: What the image shows.
        known: Every finding about which the source says yes or no, in the order in which they are asked.
        counts: How many images show each finding; absent ones are drawn in proportion, and one that no image shows
            is not drawn.
        chance: What the draw depends on; the same text, the same draw.

    Source: Efraimidis and Spirakis, Weighted random sampling with a reservoir (2006): the smallest exponential times
        are a weighted draw without replacement.
    """
    absent = [finding for finding in known if finding not in present and counts.get(finding)]

    def time(finding: str) -> float:
        return -math.log1p(-uniform(f"{chance}:{finding}")) / counts[finding]

    shown = [finding for finding in known if finding in present]
    chosen = {*shown, *sorted(absent, key=time)[: len(shown)]}
    return [finding for finding in known if finding in chosen]
