import pytest

from mmmed.data.sections import sections

MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with new onset ascites  // eval for infection

 TECHNIQUE:  Chest PA and lateral

 COMPARISON:  None.

 FINDINGS:

 There is no focal consolidation, pleural effusion or pneumothorax.  Bilateral
 nodular opacities that most likely represent nipple shadows.

 IMPRESSION:

 No acute cardiopulmonary process.
"""


def test_findings_and_impression_are_cut_out_and_laid_on_one_line() -> None:
    assert sections(MIMIC) == {
        "findings": "There is no focal consolidation, pleural effusion or pneumothorax. Bilateral nodular opacities "
        "that most likely represent nipple shadows.",
        "impression": "No acute cardiopulmonary process.",
    }


def test_windows_line_ends_change_nothing() -> None:
    assert sections(MIMIC.replace("\n", "\r\n")) == sections(MIMIC)


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("IMPRESSION:  1. Clear.\n 2. Normal heart.", {"impression": "1. Clear. 2. Normal heart."}),
        ("Findings: LUNGS: clear\nHEART: normal\nImpression: Normal", {
            "findings": "LUNGS: clear HEART: normal", "impression": "Normal"
        }),
        ("IMPRESSION:\n\nFINDINGS: Clear.", {"findings": "Clear."}),
        ("WET READ: effusion\nIMPRESSION: wet\n______\nFINAL REPORT\nIMPRESSION: final", {"impression": "final"}),
        ("IMPRESSION: Clear.\nRECOMMENDATION(S): none", {"impression": "Clear."}),
        ("IMPRESSION: Clear.\nReport electronically signed by someone", {"impression": "Clear."}),
        ("FINDINGS AND IMPRESSION: Clear.", {"findings": "Clear."}),
        ("PA and lateral views show clear lungs.", {}),
        ("INDICATION: cough. COMPARISON: none", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_reports_of_other_shapes(report: str, expected: dict[str, str]) -> None:
    assert sections(report) == expected
