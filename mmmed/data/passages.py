"""Long documents cut into passages that a model can read."""

from collections.abc import Iterator

# Where a text is cut, from the best place to the worst.
_SEAMS = ("\n\n", "\n", ". ", " ")


def passages(text: str, *, longest: int) -> Iterator[str]:
    """Cut a text at the ends of paragraphs, else of lines, sentences or words, into parts of at most `longest`
    characters; nothing but white space is lost.
    """
    rest = text.strip()
    while len(rest) > longest:
        end = _end_of_passage(rest, longest=longest)
        yield rest[:end].rstrip()
        rest = rest[end:].lstrip()
    if rest:
        yield rest


def _end_of_passage(text: str, *, longest: int) -> int:
    for seam in _SEAMS:
        # A passage of less than half the length wastes more than a worse seam does harm.
        found = text.rfind(seam, longest // 2, longest)
        if found > 0:
            return found + len(seam.rstrip(" \n"))
    return longest
