from pathlib import Path

import pytest
from PIL import Image

from mmmed.data.sources.vqa_med import VqaMed
from mmmed.data.splits import check_disjoint
from mmmed.errors import ConfigError, DataError
from mmmed.records import Example, Quarantined


def write(root: Path, file: str, text: str, *, images: str) -> str:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    folder = root / images
    folder.mkdir(parents=True, exist_ok=True)
    for line in text.splitlines():
        Image.new("L", (4, 4)).save(folder / f"{line.partition('|')[0].strip()}.jpg")
    return str(root)


def train_2019(root: Path, text: str) -> str:
    folder = "ImageClef-2019-VQA-Med-Training"
    return write(root, f"{folder}/All_QA_Pairs_train.txt", text, images=f"{folder}/Train_images")


def of_2019(root: Path, text: str) -> str:
    name = "VQAMed2019_Test_Questions_w_Ref_Answers.txt"
    return write(root, f"VQAMed2019Test/{name}", text, images="VQAMed2019Test/VQAMed2019_Test_Images")


def of_2021(root: Path, questions: str, answers: str) -> str:
    folder = "Task1-VQA-2021-TestSet-w-GroundTruth"
    images = f"{folder}/images/VQA-500-Images"
    write(root, f"{folder}/Task1-VQA-2021-TestSet-ReferenceAnswers.txt", answers, images=images)
    return write(root, f"{folder}/Task1-VQA-2021-TestSet-Questions.txt", questions, images=images)


def split(source: VqaMed) -> tuple[list[Example], list[Quarantined]]:
    records = list(source.records())
    return (
        [record for record in records if isinstance(record, Example)],
        [record for record in records if isinstance(record, Quarantined)],
    )


def test_the_training_set_of_2019_with_categories_by_image_and_question(tmp_path: Path) -> None:
    text = "synpic41148|what kind of image is this?|cta - ct angiography\nsynpic41148|is this a ct?|Yes\n"
    root = train_2019(tmp_path, text)
    folder = tmp_path / "ImageClef-2019-VQA-Med-Training" / "QAPairsByCategory"
    folder.mkdir()
    (folder / "C1_Modality_train.txt").write_text("synpic41148|is this a ct?|yes\n")
    (kind, yes), bad = split(VqaMed(root))
    assert not bad
    assert (kind.id, kind.patient, kind.split) == ("2019:train:1", "synpic41148", "train")
    assert (kind.topic, kind.reference, kind.options) == ("open", "cta - ct angiography", ())
    assert kind.turns[0].text == "<image>\nwhat kind of image is this?"
    assert (yes.topic, yes.reference, yes.options) == ("closed", "yes", ("yes", "no"))
    assert yes.attributes == {"category": "modality", "official_split": "train"}
    assert kind.images == yes.images and kind.images[0].open().size == (4, 4)
    assert [one.id for one in split(VqaMed(root, questions=["closed"]))[0]] == ["2019:train:2"]


def test_the_test_set_of_2019_names_categories_and_several_answers(tmp_path: Path) -> None:
    text = (
        "synpic54143|abnormality|what is abnormal?|anaplastic oligodendroglioma#multi-cystic complex mass\n"
        "synpic35171|abnormality|what is abnormal?|(invasive aspergillosis with) septic emboli\n"
    )
    (several, optional), bad = split(VqaMed(of_2019(tmp_path, text)))
    assert not bad and several.split == optional.split == "test"
    assert several.reference == "anaplastic oligodendroglioma"
    assert several.attributes == {
        "category": "abnormality",
        "also": "multi-cystic complex mass",
        "official_split": "test",
    }
    assert optional.reference == "(invasive aspergillosis with) septic emboli"


def test_questions_and_answers_of_2021_are_joined_by_image_and_not_by_line(tmp_path: Path) -> None:
    questions = "synpic2|what is abnormal?\nsynpic1|what is the abnormality?\n"
    answers = 'synpic1|avascular necrosis|Avascular necrosis of both hips\nsynpic2|"the lobe is ""drowned"""\n'
    (two, one), bad = split(VqaMed(of_2021(tmp_path, questions, answers), year=2021))
    assert not bad
    assert (one.id, one.reference) == ("2021:test:2", "avascular necrosis")
    assert one.attributes["also"] == "Avascular necrosis of both hips"
    assert two.reference.startswith("the lobe is")


def test_a_question_without_an_answer_is_set_aside(tmp_path: Path) -> None:
    root = of_2021(tmp_path, "synpic1|what?\nsynpic2|what?\n", "synpic1|empyema\n")
    good, bad = split(VqaMed(root, year=2021))
    assert len(good) == 1
    assert [fault.reason for fault in bad] == ["'answers' holds an empty text"]


def test_images_that_are_tested_on_are_not_learned_from(tmp_path: Path) -> None:
    of_2019(tmp_path, "synpic1|plane|which plane?|axial\n")
    root = train_2019(tmp_path, "synpic1|which organ?|lung\nsynpic2|which organ?|lung\nsynpic3\n")
    good, bad = split(VqaMed(root))
    check_disjoint(good)
    assert [one.patient for one in good] == ["synpic1", "synpic2"]
    assert [fault.reason for fault in bad] == [
        "its image stands in the official test split as well (synpic1)",
        "1 fields where 3 are expected, separated by '|'",
    ]


def test_missing_images_years_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected VQAMed2019Test/.*card data/vqa_med\.md"):
        list(VqaMed(str(tmp_path)).records())
    with pytest.raises(ConfigError, match="there is no edition of 2018 here; known: 2019, 2021"):
        VqaMed(str(tmp_path), year=2018)
    (tmp_path / "ImageClef-2019-VQA-Med-Training").mkdir()
    file = tmp_path / "ImageClef-2019-VQA-Med-Training" / "All_QA_Pairs_train.txt"
    file.write_text("synpic1|which organ?|lung\n")
    with pytest.raises(DataError, match=r"no folder Train_images under .*; unpack the images there"):
        list(VqaMed(str(tmp_path)).records())
    (file.parent / "Train_images").mkdir()
    assert split(VqaMed(str(tmp_path)))[1] == [
        Quarantined("vqa_med", "All_QA_Pairs_train.txt:1", "image 'synpic1.jpg' is missing")
    ]
    file.write_bytes(b"synpic1|which organ?|caf\xe9\n")
    with pytest.raises(DataError, match=r"All_QA_Pairs_train\.txt cannot be read as UTF-8"):
        list(VqaMed(str(tmp_path)).records())
