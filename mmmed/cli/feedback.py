"""`mmmed feedback export | report`: what was amended at the desk trains the next model, and tests it."""

from pathlib import Path
from typing import Literal

from mmmed.errors import ConfigError
from mmmed.page.wording import percent, points


def export(to: str, database: str | None = None, privacy: Literal["rules", "model"] = "rules", seed: int = 0) -> None:
    """Write amended reports as pairs to learn from and as a regression task, with identifiers taken out.

    Args:
        to: Folder to write to.
        database: URL of the database; `MMMED_DATABASE` where none is given.
        privacy: Recognisers of identifiers: rules, or rules and a small language model.
        seed: Changes which patients are tested on.
    """
    try:
        from mmmed.serving.database.engine import open_database
        from mmmed.serving.database.upgrade import upgrade
        from mmmed.serving.desk.desk import Desk
        from mmmed.serving.feedback.export import export_feedback
    except ImportError as error:
        raise ConfigError(f"feedback needs {error.name}; install it with: pip install 'mmmed[serve]'") from error
    from mmmed.data.deidentify.privacy import Privacy

    engine = open_database(database)
    upgrade(engine)
    done = export_feedback(Desk(engine), Path(to), privacy=Privacy(text=privacy), seed=seed)
    print(f"{done.train} pairs to learn from, {done.test} of other patients to test on; {done.redactions} redactions")
    for reason, count in done.left_out.items():
        print(f"left out: {count} ({reason})")


def report(
    feedback: str,
    checkpoint: str,
    before: str | None = None,
    split: Literal["train", "test"] = "test",
    max_new_tokens: int = 192,
) -> None:
    """Say how many corrected errors a model makes again, beside the model before it learned.

    Args:
        feedback: Folder that `mmmed feedback export` wrote.
        checkpoint: The model.
        before: The model that the drafts are of, or any other to compare with.
        split: `test` asks about patients that are not learned from.
        max_new_tokens: Longest answer, in tokens.
    """
    from mmmed.data.sources.preferences import Preferences
    from mmmed.inference.session import open_session
    from mmmed.records import Example
    from mmmed.serving.feedback.export import PREFERENCES
    from mmmed.serving.feedback.repeats import repeats

    records = Preferences(str(Path(feedback) / PREFERENCES)).records()
    examples = [one for one in records if isinstance(one, Example) and one.split == split]
    answers = []
    for name in (checkpoint, before) if before else (checkpoint,):
        written = open_session(name).write(examples, max_new_tokens=max_new_tokens)
        answers.append([answer.text for answer in written])
    found = repeats(examples, answers[0], answers[1] if before else None)
    print(f"{found.questions} questions of {found.patients} patients ({split}); corrected errors made again:")
    for name, rate in (("now", found.rate), ("before", found.before)):
        if rate is not None:
            print(f"  {name:<7} {percent(rate.value)} % (95 % interval {percent(rate.low)} to {percent(rate.high)})")
    if (difference := found.difference) is not None:
        limits = f"{points(difference.low)} to {points(difference.high)}"
        print(f"  change  {points(difference.value)} points (95 % interval {limits})")
