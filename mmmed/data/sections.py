"""Free-text radiology reports cut into their sections."""

import re

_FINDINGS = ("findings", "finding", "findings and impression", "findings/impression")
_IMPRESSION = ("impression", "impressions", "conclusion", "conclusions", "summary")
_OTHERS = (
    "addendum",
    "clinical history",
    "clinical indication",
    "clinical information",
    "comparison",
    "comparisons",
    "comparison study",
    "dose",
    "exam",
    "examination",
    "final addendum",
    "final report",
    "history",
    "indication",
    "notification",
    "procedure",
    "reason for exam",
    "reason for examination",
    "recommendation",
    "recommendation(s)",
    "recommendations",
    "study",
    "technique",
    "type of examination",
    "view",
    "views",
    "wet read",
)
"""Headings that end a section and whose own text is dropped; any other line with a colon (LUNGS: …) stays text."""

_NAMES = dict.fromkeys(_FINDINGS, "findings") | dict.fromkeys(_IMPRESSION, "impression") | dict.fromkeys(_OTHERS, "")
_HEADING = re.compile(
    rf"^[ \t]*(?P<name>{'|'.join(re.escape(name) for name in sorted(_NAMES, key=len, reverse=True))})[ \t]*:",
    re.MULTILINE | re.IGNORECASE,
)
# The underlined gap over each report, and the signature under it, are no part of any section.
_NO_TEXT = re.compile(
    r"^[ \t]*(?:_{4,}|final report|(?:report )?electronically signed.*|dictated by.*)[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)


def sections(report: str) -> dict[str, str]:
    """The findings and the impression of a report, on one line each; a section that is not there is absent.

    Where a report has a section twice (a wet read, then the final one), the last that holds text counts. Text under
    no heading belongs to neither: nothing is guessed.
    """
    text = _NO_TEXT.sub("", report)
    headings = list(_HEADING.finditer(text))
    found: dict[str, str] = {}
    for index, heading in enumerate(headings):
        name = _NAMES[heading["name"].lower()]
        end = headings[index + 1].start() if index + 1 < len(headings) else len(text)
        words = " ".join(text[heading.end() : end].split())
        if name and words:
            found[name] = words
    return {name: found[name] for name in ("findings", "impression") if name in found}
