"""The command that evaluates a contrastive model."""

from pathlib import Path

from mmmed.evaluation.predictions import write_jsonl
from mmmed.evaluation.results import write_results
from mmmed.evaluation.zero_shot import evaluate_zero_shot, load_zero_shot
from mmmed.inference.embedding import embedder_of, open_embedder
from mmmed.models.contrastive import ContrastiveModel

TRAINED, UNTRAINED = "model", "untrained"


def zero_shot(
    checkpoint: str, task: str, untrained: ContrastiveModel | None = None, output: str = "outputs/zero_shot"
) -> None:
    """Score a contrastive model on findings by prompts, on retrieval and by a linear probe, against chance.

    Args:
        checkpoint: Folder of a contrastive run or its `model` folder.
        task: File such as configs/zero_shot/phantom.yaml: data set, prompts, and the topic of its reports.
        untrained: A model configuration as in configs/model, held against the checkpoint as it was before training.
        output: Folder of predictions and results.json.
    """
    described = load_zero_shot(task)
    embedders = {TRAINED: open_embedder(checkpoint)}
    if untrained is not None:
        embedders[UNTRAINED] = embedder_of(untrained)
    outcome = evaluate_zero_shot(embedders, described)
    for arm, predictions in outcome.predictions.items():
        write_jsonl(Path(output) / "predictions" / described.name / f"{arm}.jsonl", predictions)
    if described.audit.checked:
        described.audit.write(Path(output) / "privacy.jsonl")
    write_results(Path(output) / "results.json", outcome.rows)
    for row in outcome.rows:
        if row.arm == TRAINED and row.baseline is not None:
            figure = f"{row.metric} {row.value:.3f} ({row.low:.3f} to {row.high:.3f}), n = {row.n}"
            difference = f"{row.delta:+.3f} ({row.delta_low:+.3f} to {row.delta_high:+.3f}) on {row.baseline}"
            print(f"{row.task:<32} {figure}; {difference}")
    print(f"results     {Path(output) / 'results.json'}")
