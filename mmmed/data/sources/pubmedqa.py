"""PubMedQA: research questions answered from abstracts, yes, no or maybe (Jin et al., EMNLP 2019)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random

from mmmed.data.entries import Entry, read_json_records
from mmmed.data.parquet import read_parquet
from mmmed.data.question import about_text
from mmmed.data.tabular import no_layout, present, quarantine
from mmmed.errors import ConfigError, DataError, RecordError
from mmmed.records import Example, Quarantined, Split

DECISIONS = ("yes", "no", "maybe")
FOLDS = 10
TEST_FILE = "test_ground_truth.json"

_FILE = "ori_pqal.json"
_HUB = "pqa_labeled/train-*.parquet"


class PubMedQa:
    """Reads the thousand labelled questions of the repository (ori_pqal.json) or of the hub (pqa_labeled/).

    The 500 test questions are those of test_ground_truth.json. The other 500 are trained on, but for the fiftieth of
    all that the chosen fold of the publisher's ten holds back to validate on.

    Args:
        root: Folder with test_ground_truth.json and the questions, or the repository with both in data/.
        context: Whether the abstract (without its conclusion) stands before the question, as in the published
            "reasoning-required" setting; without it the question alone is asked.
        fold: Which of the ten folds validates, from 0.
    """

    name = "pubmedqa"

    def __init__(self, root: str, *, context: bool = True, fold: int = 0) -> None:
        if not 0 <= fold < FOLDS:
            raise ConfigError(f"pubmedqa: fold is {fold}; expected 0 to {FOLDS - 1}")
        self.root = Path(root)
        self.context = context
        self.fold = fold

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions in the order of the file.

        Raises:
            DataError: Questions or list of test questions are missing or lack a field, or are not those that the
                publisher's split was drawn from.
        """
        entries = self._entries()
        decisions = {entry.place: str(entry.values.get("final_decision")) for entry in entries}
        test = _test_pmids(self._folder() / TEST_FILE)
        folds = {pmid: number for number, fold in enumerate(official_folds(decisions, test)) for pmid in fold}
        yield from quarantine(self.name, entries, partial(self._examples, folds=folds))

    def _folder(self) -> Path:
        for folder in (self.root, self.root / "data"):
            if (folder / TEST_FILE).is_file() and ((folder / _FILE).is_file() or any(folder.glob(_HUB))):
                return folder
        raise no_layout(self.name, root=self.root, expected=f"{TEST_FILE} with {_FILE} or pqa_labeled/*.parquet")

    def _entries(self) -> list[Entry]:
        folder = self._folder()
        columns = ("QUESTION", "CONTEXTS", "YEAR", "final_decision", "reasoning_required_pred")
        if (folder / _FILE).is_file():
            return read_json_records(folder / _FILE, columns=columns)
        rows = read_parquet(sorted(folder.glob(_HUB)), columns=("pubid", "question", "context", "final_decision"))
        return [_as_in_repository(row) for row in rows]

    def _examples(self, entry: Entry, *, folds: Mapping[str, int]) -> Iterator[Example]:
        pmid = entry.place
        question, decision = entry.text("QUESTION"), entry.text("final_decision")
        if decision not in DECISIONS:
            raise RecordError(f"'final_decision' is {decision!r}; expected {', '.join(DECISIONS)}")
        abstract = "\n".join(entry.texts("CONTEXTS"))
        yield Example(
            id=pmid,
            patient=pmid,
            turns=about_text(f"Abstract: {abstract}\nQuestion: {question}" if self.context else question, decision),
            options=DECISIONS,
            topic="decision",
            split=self._split(folds.get(pmid)),
            source=self.name,
            attributes=present(
                {
                    "year": entry.maybe("YEAR"),
                    "annotator": entry.maybe("reasoning_required_pred"),
                    "fold": folds.get(pmid),
                    "official_split": "train" if pmid in folds else "test",
                }
            ),
        )

    def _split(self, fold: int | None) -> Split:
        if fold is None:
            return "test"
        return "validation" if fold == self.fold else "train"


def official_folds(decisions: Mapping[str, str], test: Sequence[str]) -> list[list[str]]:
    """The publisher's ten folds of the questions that are not tested on, which are drawn by a script and not published.

    Args:
        decisions: Answer by PMID, in the published order, which the drawing depends on.
        test: PMIDs of the published test set.

    Returns:
        Ten lists of PMIDs.

    Raises:
        DataError: The drawing does not give the published test set, so that its folds would be others too.

    Source: pubmedqa/pubmedqa, preprocess/split_dataset.py: seed 0, halves and then tenths drawn answer by answer.
    """
    chance = Random(0)
    learned, tested = _stratified(decisions, parts=2, chance=chance)
    if set(tested) != set(test):
        raise DataError(
            f"pubmedqa: {len(set(tested) ^ set(test))} questions are on the wrong side of the published test set; "
            f"use {_FILE} and {TEST_FILE} as published, in their order"
        )
    return _stratified({pmid: decisions[pmid] for pmid in learned}, parts=FOLDS, chance=chance)


def _stratified(decisions: Mapping[str, str], *, parts: int, chance: Random) -> list[list[str]]:
    drawn: list[list[str]] = [[] for _ in range(parts)]
    for decision in DECISIONS:
        pmids = [pmid for pmid, given in decisions.items() if given == decision]
        chance.shuffle(pmids)
        share = math.ceil(len(pmids) / parts)
        for number, part in enumerate(drawn):
            end = len(pmids) if number == parts - 1 else (number + 1) * share
            part.extend(pmids[number * share : end])
    # Rounding up leaves the last part too small; each of the others gives it one.
    if len(drawn[-1]) != len(drawn[0]):
        for part in drawn[:-1]:
            if part:
                moved = chance.choice(part)
                part.remove(moved)
                drawn[-1].append(moved)
    return drawn


def _test_pmids(path: Path) -> list[str]:
    # The file is an object of answers by PMID: each is read as a record of a wrong kind, and its key is what counts.
    return [entry.place for entry in read_json_records(path, columns=())]


def _as_in_repository(row: Entry) -> Entry:
    context = row.values["context"]
    inside = context if isinstance(context, dict) else {}
    values = {
        "QUESTION": row.values["question"],
        "CONTEXTS": inside.get("contexts"),
        "final_decision": row.values["final_decision"],
        "reasoning_required_pred": "".join(inside.get("reasoning_required_pred") or ()),
    }
    return Entry(str(row.values["pubid"]), values)
