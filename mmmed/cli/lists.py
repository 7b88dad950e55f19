"""Several values in one option."""


def listed(text: str) -> tuple[str, ...]:
    """The words that stand in a text with commas between; empty ones are left out."""
    return tuple(word for one in text.split(",") if (word := one.strip()))
