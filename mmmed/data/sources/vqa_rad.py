"""VQA-RAD: questions that clinicians asked about radiology images (Lau et al., Scientific Data 2018)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from mmmed.data.question import YES_NO, about_image
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign
from mmmed.data.tabular import Row, image_in, no_layout, present, quarantine, read_json
from mmmed.records import Example, Quarantined

Question = Literal["closed", "open"]


class _Layout(NamedTuple):
    """Where a version of the data set keeps what; the other fields have the same names in both."""

    file: str
    folder: str
    image: str
    case: str
    organ: str

    def lies_in(self, root: Path) -> bool:
        return (root / self.file).is_file() and (root / self.folder).is_dir()

    def columns(self) -> tuple[str, ...]:
        return (
            self.image,
            self.case,
            self.organ,
            "qid",
            "question",
            "answer",
            "answer_type",
            "question_type",
            "phrase_type",
        )


_SAMPLE = _Layout("vqa_rad.jsonl", "images", "image", "case_url", "organ")
_RELEASE = _Layout("VQA_RAD Dataset Public.json", "VQA_RAD Image Folder", "image_name", "image_case_url", "image_organ")


class VqaRad:
    """Reads the release of the Open Science Framework, or a sample of it as vqa_rad.jsonl.

    The official test questions are about images that are also trained on; here the splits go by case, and the
    official split is kept as an attribute. "closed" are the yes/no questions, all others are "open".

    Args:
        root: Folder with the annotation file.
        seed: Changes which cases fall into which split.
        fractions: Share of the cases in each split.
        questions: Which kinds of question are read; the others are left out without a count.
    """

    name = "vqa_rad"

    def __init__(
        self,
        root: str,
        *,
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
        questions: Sequence[Question] = ("closed", "open"),
    ) -> None:
        self.root = Path(root)
        self.seed = seed
        self.fractions = fractions
        self.questions = tuple(questions)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions in the order of the file.

        Raises:
            DataError: The annotations are missing or lack a field.
        """
        layout = next((layout for layout in (_RELEASE, _SAMPLE) if layout.lies_in(self.root)), None)
        if layout is None:
            raise no_layout(
                self.name,
                root=self.root,
                expected=f"{_RELEASE.file!r} with {_RELEASE.folder!r}/, or {_SAMPLE.file!r} with images/",
            )
        rows = read_json(self.root / layout.file, columns=layout.columns())
        cases = one_case_per_image((row.maybe(layout.image), row.maybe(layout.case)) for row in rows)
        yield from quarantine(self.name, rows, lambda row: self._examples(row, layout, cases))

    def _examples(self, row: Row, layout: _Layout, cases: Mapping[str, str]) -> Iterator[Example]:
        identifier = row.text("qid")
        name = row.text(layout.image)
        image = image_in(self.root / layout.folder, Path(name).name)
        answer = " ".join(row.text("answer").split())
        kind = row.one_of("answer_type", ("OPEN", "CLOSED"))
        closed = kind == "CLOSED" and answer.lower() in YES_NO
        topic: Question = "closed" if closed else "open"
        if topic not in self.questions:
            return
        case = cases[name]
        yield Example(
            id=identifier,
            patient=case,
            turns=about_image(" ".join(row.text("question").split()), answer.lower() if closed else answer),
            images=(image,),
            options=YES_NO if closed else (),
            topic=topic,
            split=assign(case, seed=self.seed, fractions=self.fractions),
            source=self.name,
            attributes=present(
                {
                    "organ": row.maybe(layout.organ),
                    "question_type": row.maybe("question_type"),
                    "phrase_type": row.maybe("phrase_type"),
                    "answer_type": kind,
                    "official_split": "test" if row.text("phrase_type").startswith("test") else "train",
                }
            ),
        )


def one_case_per_image(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name the case of each image: the first address of all that are tied to it, or the image where none is given.

    One address may stand beside several images, and a few images stand beside several addresses (numbers counted
    up by a spreadsheet). Whatever is tied together by either must not be split.

    Args:
        pairs: Image name and case address of each question.
    """
    parent: dict[str, str] = {}

    def root_of(node: str) -> str:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    images: dict[str, None] = {}
    for image, case in pairs:
        images[image] = None
        first, second = sorted((root_of(f"1 {image}"), root_of(f"0 {case}" if case else f"1 {image}")))
        # The smaller name leads, and addresses ("0 ") come before images ("1 ").
        parent[second] = first
    return {image: root_of(f"1 {image}")[2:] for image in images}
