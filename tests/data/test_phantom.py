import re
from itertools import islice

import numpy as np
import pytest

from mmmed.data.phantom.anatomy import MIDLINE, SIZE, chest_grid, place
from mmmed.data.phantom.case import Case, Planted, make_case, recorded, tagged
from mmmed.data.phantom.findings import GRADED, KINDS, SIDES, Kind
from mmmed.data.phantom.grammar import NAMES, report
from mmmed.data.phantom.outlines import heart_outline
from mmmed.data.phantom.render import render
from mmmed.errors import ConfigError

CASES = [make_case(3, index) for index in range(400)]


def bare(case: Case) -> Case:
    for kind in KINDS:
        case = case.counterfactual(kind, present=False)
    return case


def change(case: Case, kind: Kind) -> np.ndarray:
    """Grey levels by which a finding alone changes the film, [SIZE, SIZE]."""
    without = bare(case)
    shown = render(without.counterfactual(kind, present=True))
    return np.abs(np.asarray(shown, dtype=float) - np.asarray(render(without), dtype=float))


def test_a_case_depends_on_seed_and_index_alone() -> None:
    assert make_case(3, 17) == CASES[17]
    assert make_case(4, 17) != CASES[17]


def test_a_film_is_the_same_on_every_run() -> None:
    films = [render(make_case(3, 5)).tobytes() for _ in range(2)]
    assert films[0] == films[1]
    assert films[0] != render(make_case(3, 6)).tobytes()


def test_a_film_is_eight_bit_grey_and_uses_its_range() -> None:
    film = render(CASES[0])
    assert (film.mode, film.size) == ("L", (SIZE, SIZE))
    low, high = np.percentile(np.asarray(film), [1, 99])
    assert low < 40
    assert high > 200


def test_each_finding_is_present_in_nearly_half_of_the_films() -> None:
    for kind in KINDS:
        assert 0.37 < np.mean([case.finding(kind).present for case in CASES]) < 0.53


def test_findings_are_independent_of_each_other() -> None:
    present = np.array([[finding.present for finding in case.findings] for case in CASES], dtype=float)
    correlation = np.corrcoef(present.T) - np.eye(len(KINDS))
    assert np.abs(correlation).max() < 0.17


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_holds_a_visible_change(kind: Kind) -> None:
    for case in CASES[:6]:
        difference = change(case, kind)
        inside = np.zeros_like(difference, dtype=bool)
        for box in case.counterfactual(kind, present=True).boxes(kind):
            window = np.s_[box.y0 : box.y1, box.x0 : box.x1]
            inside[window] = True
            assert np.percentile(difference[window], 99) > 25
        strong = difference > 20
        assert strong[inside].sum() > 0.97 * strong.sum()


def test_an_absent_finding_has_no_box() -> None:
    assert all(bare(CASES[0]).boxes(kind) == () for kind in KINDS)


def test_switching_a_finding_off_leaves_everything_else_as_it_was() -> None:
    case = CASES[0]
    present = not case.finding("nodule").present
    switched = case.counterfactual("nodule", present=present)
    assert [one.present for one in switched.findings if one.kind != "nodule"] == [
        one.present for one in case.findings if one.kind != "nodule"
    ]
    assert switched.counterfactual("nodule", present=not present) == case


@pytest.mark.parametrize("kind", ["effusion", "opacity", "nodule", "pneumothorax"])
def test_the_side_is_the_side_of_the_patient(kind: Kind) -> None:
    seen = set()
    for case in CASES:
        side = case.finding(kind).side
        if side is None or side in seen:
            continue
        seen.add(side)
        difference = change(case, kind)
        on_the_right_of_the_film = chest_grid(case.anatomy)[0] > MIDLINE
        patients_left, patients_right = difference[on_the_right_of_the_film], difference[~on_the_right_of_the_film]
        assert ((patients_left > 25).sum() > 40) == (side in ("left", "both"))
        assert ((patients_right > 25).sum() > 40) == (side in ("right", "both"))
    assert seen == set(SIDES[kind])


def test_only_cardiomegaly_widens_the_heart_beyond_half_of_the_chest() -> None:
    for case in CASES:
        normal, enlarged = case.anatomy.heart_ratio, case.finding("cardiomegaly").lesions[0].size
        assert normal < 0.49
        assert enlarged > 0.54
        outline = heart_outline(case.anatomy, enlarged)
        assert np.ptp(outline[:, 0]) == pytest.approx(enlarged * 2 * case.anatomy.half_width, rel=0.03)


def test_placing_points_and_reading_the_grid_are_inverse() -> None:
    anatomy = CASES[1].anatomy
    x, y = chest_grid(anatomy)
    row, column = 60, 200
    placed = place(anatomy, np.array([[x[row, column], y[row, column]]]))
    assert placed[0] == pytest.approx((column + 0.5, row + 0.5), abs=0.05)


def stated(text: str) -> dict[Kind, bool]:
    """What a report says of each finding: true where it is affirmed, false where it is denied."""
    said: dict[Kind, bool] = {}
    for sentence in re.split(r"(?<=\.)\s+", text):
        denied = re.match(r"(No|There is no|No evidence of)\b", sentence) is not None
        for kind in KINDS:
            if NAMES[kind] in sentence.lower():
                assert kind not in said, f"{kind} is said twice in {text!r}"
                said[kind] = not denied
    return said


def test_a_report_affirms_the_present_and_denies_the_absent_findings() -> None:
    for case in CASES:
        text = report(case, case.findings)
        assert stated(text) == {finding.kind: finding.present for finding in case.findings}
        for finding in case.findings:
            if finding.present and finding.kind in GRADED:
                assert str(finding.severity) in text.lower()
    assert 25 <= np.mean([len(report(case, case.findings).split()) for case in CASES]) <= 50


def test_reports_of_the_same_findings_vary_in_wording() -> None:
    normal = {report(case, case.findings) for case in map(bare, CASES[:60])}
    assert len(normal) > 15


def test_label_noise_turns_the_labels_of_one_group_in_train_only() -> None:
    planted = Planted(label_noise=0.3, label_noise_group="sex=F", label_noise_finding="effusion")

    def turned(case: Case, split: str) -> bool:
        labels = recorded(case, split=split, planted=planted)
        differing = {one.kind for one, true in zip(labels, case.findings, strict=True) if one.present != true.present}
        assert differing <= {"effusion"}
        return bool(differing)

    rate = np.mean([turned(case, "train") for case in CASES if case.sex == "F"])
    assert 0.2 < rate < 0.4
    assert not any(turned(case, "train") for case in CASES if case.sex == "M")
    assert not any(turned(case, "test") for case in CASES)


def test_the_shortcut_goes_with_its_finding_in_train_only() -> None:
    planted = Planted(shortcut="nodule", shortcut_strength=0.9)
    present = [case.finding("nodule").present for case in CASES]
    train = [tagged(case, split="train", planted=planted) for case in CASES]
    test = [tagged(case, split="test", planted=planted) for case in CASES]
    assert np.corrcoef(present, train)[0, 1] > 0.8
    assert abs(np.corrcoef(present, test)[0, 1]) < 0.15
    assert not any(tagged(case, split="train") for case in CASES)


def test_the_tag_shows_only_in_the_corner() -> None:
    plain, marked = (np.asarray(render(CASES[0], tag=tag), dtype=int) for tag in (False, True))
    rows, columns = np.nonzero(plain != marked)
    assert rows.min() > 220
    assert columns.max() < 45


def test_a_planted_prevalence_holds_for_its_group() -> None:
    planted = Planted(prevalence={"": {"device": 0.0}, "sex=F": {"effusion": 0.9}})
    cases = [make_case(3, index, planted) for index in range(300)]
    women = [case.finding("effusion").present for case in cases if case.sex == "F"]
    men = [case.finding("effusion").present for case in cases if case.sex == "M"]
    assert np.mean(women) > 0.82
    assert np.mean(men) < 0.6
    assert not any(case.finding("device").present for case in cases)


def test_planted_prevalence_moves_no_finding_and_no_body() -> None:
    planted = Planted(prevalence={"": {"nodule": 1.0}})
    for case in islice(CASES, 30):
        assert make_case(3, case.index, planted) == case.counterfactual("nodule", present=True)


def test_groups_name_real_attributes() -> None:
    old = next(case for case in CASES if case.age >= 50)
    assert old.belongs_to("age=>=50")
    assert not old.belongs_to("age=<50")
    assert old.belongs_to("")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shortcut": "nodul"}, r"no finding 'nodul' \(did you mean 'nodule'\?\)"),
        ({"label_noise": 1.5}, r"1\.5 is not a probability"),
        ({"label_noise_group": "sex=W"}, r"no group 'sex=W'"),
        ({"prevalence": {"": {"mass": 0.5}}}, r"no finding 'mass'"),
    ],
)
def test_impossible_faults_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Planted(**arguments)


def test_an_unknown_finding_is_named_with_its_neighbour() -> None:
    with pytest.raises(ConfigError, match="did you mean 'effusion'"):
        CASES[0].finding("efusion")
