"""The command that audits a checkpoint."""

from __future__ import annotations

from pathlib import Path

from mmmed.inference.loading import load
from mmmed.safety.audit import audit as run_audit
from mmmed.safety.audit import load_suite, verdict_of_all, write_json
from mmmed.safety.card import log_card, write_card
from mmmed.safety.check import Subject
from mmmed.safety.measure import Verdict


def audit(checkpoint: str, suite: str = "configs/audit/full.yaml", output: str = "outputs/audit") -> int:
    """Run the checks of a suite over a checkpoint and write its safety card.

    What is answered is kept, so that a stopped audit goes on. The exit code is 0 only if every check passed.

    Args:
        checkpoint: Folder of a run or its `model` folder, or a LLaVA of transformers, by folder or hub name.
        suite: File of checks and limits.
        output: Folder of the card (safety_card.html, .md and .json) and of the answers.
    """
    described = load_suite(suite)
    session, folder = load(checkpoint), Path(output)
    identity = session.identity()
    examined = run_audit(described, Subject(session=session, identity=identity, output=folder / "answers"), tell=print)
    write_json(folder / "safety_card.json", described, examined, checkpoint=checkpoint, identity=identity)
    command = f"mmmed audit --checkpoint {checkpoint} --suite {suite} --output {output}"
    page = write_card(folder, described, examined, checkpoint=checkpoint, command=command)
    log_card(described, examined, output=folder, checkpoint=checkpoint)
    verdict = verdict_of_all(examined)
    print(f"{verdict}: {page}")
    return 0 if verdict is Verdict.PASSED else 1
