from mmmed.data.question import YES_NO, about_image, yes_no
from mmmed.records import Turn


def test_the_image_stands_before_the_question() -> None:
    assert about_image("Normal?", "yes") == (Turn("user", "<image>\nNormal?"), Turn("assistant", "yes"))


def test_truth_is_one_of_the_options() -> None:
    assert (yes_no(True), yes_no(False)) == YES_NO == ("yes", "no")
