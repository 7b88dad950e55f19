"""How every source puts one question about its images, so that sources differ in content and not in form."""

from mmmed.records import IMAGE_PLACEHOLDER, Turn

YES_NO = ("yes", "no")


def about_image(question: str, answer: str, *, images: int = 1) -> tuple[Turn, Turn]:
    """The image or images, then the question on a line of its own, then the answer held to be right."""
    return Turn("user", f"{IMAGE_PLACEHOLDER}\n" * images + question), Turn("assistant", answer)


def about_text(question: str, answer: str) -> tuple[Turn, Turn]:
    """A question without a picture, then the answer held to be right."""
    return Turn("user", question), Turn("assistant", answer)


def yes_no(truth: bool) -> str:
    """The option that says so."""
    return YES_NO[0] if truth else YES_NO[1]
