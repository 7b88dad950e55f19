"""Arms write, the checks are counted over cases, and the page shows documents beside their check-lists."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mmmed.data.writing_case import read_cases
from mmmed.errors import ConfigError
from mmmed.evaluation.results import read_results
from mmmed.evaluation.sharing import Share
from mmmed.evaluation.writing import experiment as module
from mmmed.evaluation.writing.checks import Verdict
from mmmed.evaluation.writing.experiment import CAREFUL, NOTES, read_writing, run_writing
from mmmed.evaluation.writing.page import publish_writing, summary_of_writing
from mmmed.evaluation.writing.prompting import REASON, document_of, put
from mmmed.evaluation.writing.scoring import ALL, rows
from mmmed.records import Answer, Example

ROOT = Path(__file__).parents[3]
CASES = list(read_cases(ROOT / "data" / "clinical_writing"))


class Scribe:
    """Writes the careful document, with reasons before it where they are asked for."""

    def __init__(self, *, spoiled: bool = False) -> None:
        self.asked: list[Example] = []
        self.spoiled = spoiled

    def write(self, examples: Sequence[Example], **settings: Any) -> list[Answer]:
        self.asked += examples
        said = {case.id: "No." if self.spoiled else case.reference for case in CASES}
        reasoned = [REASON in one.question for one in examples]
        return [
            Answer(text=f"Facts:\n- some\n\nDocument:\n{said[one.id]}" if is_reasoned else said[one.id])
            for one, is_reasoned in zip(examples, reasoned, strict=True)
        ]


def experiment_file(folder: Path, **changes: object) -> Path:
    content = {
        "kind": "writing",
        "name": "writing",
        "question": "Does it write?",
        "cases": str(ROOT / "data" / "clinical_writing"),
        "arms": {
            "plain": {"checkpoint": "a"},
            "reasoned": {"checkpoint": "b", "shots": 1, "strategy": "chain_of_thought"},
        },
        "against": {"reasoned": "plain"},
        "rated": 1,
    }
    path = folder / "experiment.yaml"
    path.write_text(json.dumps(content | changes))
    return path


def test_examples_are_of_the_same_kind_and_never_the_case_itself() -> None:
    case = CASES[0]
    example = put(case, CASES, shots=2, strategy="chain_of_thought")
    shown = [turn.text for turn in example.turns[:-2] if turn.speaker == "assistant"]
    references = {one.id: one.reference for one in CASES if one.kind == case.kind and one.id != case.id}
    assert len(shown) == 2
    assert all(document_of(text, "chain_of_thought") in references.values() for text in shown)
    assert case.given in example.question and REASON in example.question
    assert put(case, CASES, shots=2) == put(case, CASES, shots=2)


@pytest.mark.parametrize(
    ("said", "strategy", "document"),
    [
        ("Facts:\n- a\nDocument:\nDear all", "chain_of_thought", "Dear all"),
        ("Facts\n**Document:** Dear all", "chain_of_thought", "Dear all"),
        ("Dear all", "chain_of_thought", "Dear all"),
        ("Document: Dear all", "direct", "Document: Dear all"),
    ],
)
def test_the_document_stands_below_its_line(said: str, strategy: Any, document: str) -> None:
    assert document_of(said, strategy) == document


@pytest.fixture
def scribes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Scribe]:
    known = {"a": Scribe(spoiled=True), "b": Scribe()}
    monkeypatch.setattr(module, "opened_when_asked", lambda arm, folder: (known[arm.checkpoint], arm.checkpoint))
    return known


def never(arguments: list[str]) -> None:
    raise AssertionError(arguments)


@pytest.mark.network
def test_the_arm_that_writes_passes_what_the_arm_that_does_not_fails(
    tmp_path: Path, scribes: dict[str, Scribe]
) -> None:
    described = read_writing(experiment_file(tmp_path))
    outcome = run_writing(described, tmp_path / "out", fit=never)
    alone = {(row.metric, row.arm): row for row in read_results(tmp_path / "out" / "results.json") if not row.baseline}
    assert alone[ALL, "reasoned"].value == alone[ALL, CAREFUL].value == 1
    assert alone[ALL, "plain"].value < 0.7 and alone["elements", "plain"].value == 0
    assert alone["key", "plain"].n == 8 and alone["key", "plain"].value == 0, "what cannot be read has no right key"
    (difference,) = [row for row in outcome.rows if row.metric == ALL and row.baseline]
    assert (difference.arm, difference.baseline) == ("reasoned", "plain")
    assert difference.delta_low is not None and difference.delta_low > 0
    page = publish_writing(described, outcome, command="mmmed experiment run x").read_text("utf-8")
    assert "src=" not in page and "not said: diagnosis" in page and page.count('class="written"') == 3 * len(CASES)
    assert any("reasoned against plain" in line for line in summary_of_writing(outcome, tmp_path))
    assert (tmp_path / "out" / "rating" / "rater_2" / "form.html").is_file()
    asked = {name: len(scribe.asked) for name, scribe in scribes.items()}
    run_writing(described, tmp_path / "out", fit=never)
    assert {name: len(scribe.asked) for name, scribe in scribes.items()} == asked, "answers are kept"


@pytest.mark.network
def test_processes_write_for_an_arm_each_and_what_takes_longest_first(
    tmp_path: Path, scribes: dict[str, Scribe], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, int]] = []

    def in_turn(work: Callable[..., object], *arguments: Any, processes: int) -> None:
        for number in range(processes):
            work(*arguments, Share(number, processes))
            asked.append({name: len(scribe.asked) for name, scribe in scribes.items()})

    described = read_writing(experiment_file(tmp_path))
    with pytest.raises(ConfigError, match="processes is 0; expected 1 or more"):
        run_writing(described, tmp_path / "none", fit=never, processes=0)
    monkeypatch.setattr(module, "in_processes", in_turn)
    run_writing(described, tmp_path / "shared", fit=never, processes=2)
    assert asked == [{"a": 0, "b": len(CASES)}, {"a": len(CASES), "b": len(CASES)}]
    assert {name: len(scribe.asked) for name, scribe in scribes.items()} == asked[-1], "what was written is read back"
    run_writing(described, tmp_path / "alone", fit=never)
    results = [(tmp_path / name / "results.json").read_bytes() for name in ("shared", "alone")]
    assert results[0] == results[1]


def test_an_arm_that_learns_from_cases_is_trained_for_each_fold_and_never_on_what_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Path] = []
    writers: dict[Path, Scribe] = {}

    def fit(arguments: list[str]) -> None:
        (override,) = [Path(one) for one in arguments if one.endswith("override.yaml")]
        folder = Path(arguments[arguments.index("--output") + 1])
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "model.json").write_text(override.read_text())
        trained.append(folder / "model")

    def opened(arm: object, folder: Path) -> tuple[Scribe, str]:
        return writers.setdefault(folder, Scribe()), str(folder)

    monkeypatch.setattr(module, "opened_when_asked", opened)
    monkeypatch.setattr(module, "check", lambda text, case: {})
    monkeypatch.setattr(module, "rows", lambda *arguments, **settings: [])
    monkeypatch.chdir(ROOT)
    arms = {"tuned": {"stages": ["configs/experiment/language_writing.yaml"]}}
    described = read_writing(experiment_file(tmp_path, arms=arms, against={}))
    run_writing(described, tmp_path / "out", fit=fit)
    assert len(trained) == 2 and sum(len(one.asked) for one in writers.values()) == len(CASES)
    for folder, fold in zip(trained, (0, 1), strict=True):
        assert f"fold: {fold}" in (folder / "model.json").read_text()
        source = module.ClinicalWriting(str(ROOT / "data" / "clinical_writing"), folds=2, fold=fold)
        learned = {one.id for one in source.records() if isinstance(one, Example) and one.split != "test"}
        assert not learned & {one.id for one in writers[folder].asked}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"a": {}}}, "expected a checkpoint, or stages"),
        ({"arms": {"a": {"checkpoint": "x", "shot": 1}}}, r"unknown key 'shot' \(did you mean 'shots'\?\)"),
        ({"arms": {NOTES: {"checkpoint": "x"}}, "against": {}}, "is an arm of every experiment"),
        ({"against": {"other": "plain"}}, "against names 'other'"),
        ({"case": "x"}, r"unknown key 'case' \(did you mean 'cases'\?\)"),
        ({"rated": 0}, "rated is 0"),
    ],
)
def test_an_experiment_that_cannot_be_meant_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_writing(experiment_file(tmp_path, **changes))


def test_rates_count_only_cases_that_have_something_to_check() -> None:
    def verdicts(*, passed: bool) -> dict[str, dict[str, Verdict]]:
        said = Verdict(1, () if passed else ("wrong",))
        return {case.id: {"sides": said} if case.sides else {"length": Verdict(1, ())} for case in CASES}

    found = rows({"a": verdicts(passed=True), "b": verdicts(passed=False)}, CASES, against=[("a", "b")])
    sides = next(row for row in found if row.metric == "sides" and row.baseline)
    assert sides.n == sum(bool(case.sides) for case in CASES) and sides.delta == 1
