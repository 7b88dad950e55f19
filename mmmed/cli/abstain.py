"""The command that teaches a model when to be silent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mmmed.errors import ConfigError
from mmmed.inference.abstaining import NEVER, fit_abstaining
from mmmed.inference.session import model_folder, open_session
from mmmed.safety.calibration import answered, confidence_of
from mmmed.safety.check import Subject


def abstain(checkpoint: str, task: str, risk: float = 0.1) -> None:
    """Find the least confidence at which a model keeps a stated risk, and keep it beside the model.

    From then on its answers to closed questions say whether it abstains, wherever it is opened. The threshold is fitted
    on the validation split, never on what is judged.

    Args:
        checkpoint: Folder of a run, or its `model` folder.
        task: Task file of closed questions.
        risk: Greatest share of wrong answers among those given, on average over patients.
    """
    session, folder = open_session(checkpoint), model_folder(checkpoint)
    identity = session.identity()
    with TemporaryDirectory() as answers:
        subject = Subject(session=session, identity=identity, output=Path(answers))
        asked = subject.task(task)
        if asked.split == "validation":
            raise ConfigError(f"task {asked.name} judges the validation split, which the threshold is fitted on")
        said = confidence_of(answered(subject, replace(asked, split="validation")))
    fitted = fit_abstaining(
        said.sure.tolist(),
        [bool(one) for one in said.right],
        said.patients,
        risk=risk,
        task=asked.name,
        identity=identity,
    )
    path = fitted.write(folder)
    if fitted.threshold == NEVER:
        print(
            f"{fitted.patients} patients do not show a risk of {risk:g} at any confidence: it abstains from all. {path}"
        )
    else:
        print(f"answers from a confidence of {fitted.threshold:.3f} on, {fitted.coverage:.0%} of the questions. {path}")
