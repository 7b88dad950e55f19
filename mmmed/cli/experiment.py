"""The commands about experiments: run one, hold two of them against each other, read raters' forms back."""

from __future__ import annotations

from pathlib import Path

from mmmed.cli.lists import listed
from mmmed.cli.training import main as train
from mmmed.errors import ConfigError
from mmmed.evaluation.experiment import run
from mmmed.evaluation.experiment_file import MAIN, read_experiment
from mmmed.evaluation.folders import compare_folders
from mmmed.evaluation.model_arms import experiment_file, kind_of
from mmmed.evaluation.publish import log_results, publish, publish_difference, summary
from mmmed.evaluation.results import write_results


def experiment_run(experiment: str, output: str | None = None, processes: int = 1) -> None:
    """Train, score and compare the arms of an experiment, and write its report.

    Args:
        experiment: Folder with an experiment.yaml, or the file.
        output: Folder of the results; outputs/NAME unless named. An interrupted run goes on where it was.
        processes: How many answer together, once all is trained; in experiments of models and of writing they train
            side by side too.
    """
    words = f" --output {output}" * (output is not None) + f" --processes {processes}" * (processes != 1)
    command = f"mmmed experiment run {experiment}{words}"
    if (kind := kind_of(Path(experiment))) is not None:
        _run_other(kind, experiment, output, processes=processes, command=command)
        return
    described = read_experiment(Path(experiment))
    outcome = run(described, Path(output or f"outputs/{described.name}"), fit=train, processes=processes)
    page = publish(described, outcome, command=command)
    log_results(described, outcome)
    print("\n".join(summary(outcome, page)))


def experiment_compare(
    first: str,
    second: str,
    output: str = "outputs/comparison",
    arm: str = MAIN,
    against: str | None = None,
) -> None:
    """Hold the answers of two results folders against each other, item by item and patient by patient.

    Args:
        first: Folder that `mmmed experiment run` or `mmmed evaluate` left.
        second: Another.
        output: Folder of the table (results.json) and the page (report.html).
        arm: The arm of both whose answers are compared.
        against: The arm of the second, where it is another one.
    """
    if Path(output).resolve() in (Path(first).resolve(), Path(second).resolve()):
        raise ConfigError(f"--output {output} holds the results that are compared; name another folder")
    difference = compare_folders(Path(first), Path(second), arm=arm, against=against)
    write_results(Path(output) / "results.json", difference.rows)
    words = f" --arm {arm}" * (arm != MAIN) + (f" --against {against}" if against else "")
    command = f"mmmed experiment compare {first} {second} --output {output}{words}"
    page = publish_difference(difference, Path(output), command=command)
    print("\n".join(difference.table()))
    print(f"report      {page}")
    print(f"results     {Path(output) / 'results.json'}")


def experiment_rate(output: str, forms: str) -> None:
    """Read filled rating forms back: how far the raters agree, and what they gave to each arm.

    Args:
        output: Folder of an experiment of clinical writing.
        forms: The tables that raters saved, separated by commas.
    """
    from mmmed.evaluation.writing.page import lines_of_ratings
    from mmmed.evaluation.writing.rating import read_ratings

    files = [Path(name) for name in listed(forms)]
    print("\n".join(lines_of_ratings(read_ratings(Path(output) / "rating", files))))


def _run_other(kind: str, experiment: str, output: str | None, *, processes: int, command: str) -> None:
    """Run an experiment whose arms are models of their own."""
    file = experiment_file(Path(experiment))
    if processes != 1 and kind not in ("models", "writing"):
        raise ConfigError(f"an experiment of kind {kind} is run by one process; leave --processes out")
    if kind == "writing":
        from mmmed.evaluation.writing.experiment import read_writing, run_writing
        from mmmed.evaluation.writing.page import publish_writing, summary_of_writing

        writing = read_writing(file)
        written = run_writing(writing, Path(output or f"outputs/{writing.name}"), fit=train, processes=processes)
        page = publish_writing(writing, written, command=command)
        print("\n".join(summary_of_writing(written, page)))
    elif kind == "models":
        from mmmed.evaluation.models_experiment import run_models
        from mmmed.evaluation.models_file import read_models
        from mmmed.evaluation.models_page import publish_models, summary_of_models

        models = read_models(file)
        outcome = run_models(models, Path(output or f"outputs/{models.name}"), fit=train, processes=processes)
        page = publish_models(models, outcome, command=command)
        print("\n".join(summary_of_models(outcome, page)))
    elif kind == "bias":
        from mmmed.safety.experiment import publish_bias, read_bias, run_bias, summary_of_bias

        bias = read_bias(file)
        folder = Path(output or f"outputs/{bias.name}")
        audited = run_bias(bias, folder, fit=train, tell=print)
        page = publish_bias(bias, audited, folder, command=command)
        print("\n".join(summary_of_bias(audited, page)))
    else:
        raise ConfigError(f"experiment {experiment}: kind is {kind!r}; expected writing, models, bias, or no kind")
