"""Every configuration of the project is read by the parser that runs it, down to each argument of each class."""

import inspect
import re
import shlex
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from lightning.pytorch.cli import LightningArgumentParser
from PIL import Image

from benchmarks import gallery
from mmmed.cli import training
from mmmed.cli.data import read_sources
from mmmed.cli.index import index
from mmmed.data.sources.pairs import Pairs
from mmmed.errors import ConfigError
from mmmed.evaluation.experiment_file import read_experiment
from mmmed.evaluation.metrics.learned.files import read_metric
from mmmed.evaluation.model_arms import kind_of
from mmmed.evaluation.task import load_task
from mmmed.evaluation.text_classifier import load_reading_arm
from mmmed.evaluation.zero_shot import load_zero_shot
from mmmed.records import Example
from mmmed.safety.audit import load_suite
from mmmed.safety.experiment import read_bias
from mmmed.safety.harm import load_harm

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))
EXPERIMENTS = sorted((CONFIGS / "experiment").glob("*.yaml"))
# How a part is given with an experiment: a model in the place of its own, a trainer's settings on top of its own.
PLACES = {"model": "--model.init_args.model", "trainer": "--config"}
PARTS = sorted(path for folder in PLACES for path in (CONFIGS / folder).glob("*.yaml"))
OWN_DATA = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")
SHOWN_FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TASKS = sorted((CONFIGS / "task").glob("*.yaml"))
BASELINES = sorted((CONFIGS / "baseline").glob("*.yaml"))
DATA = sorted((CONFIGS / "data").glob("*.yaml"))
ZERO_SHOT = sorted((CONFIGS / "zero_shot").glob("*.yaml"))
AUDITS = sorted((CONFIGS / "audit").glob("*.yaml"))
BIAS_EXPERIMENTS = [one for one in sorted(ROOT.glob("experiments/*/*.yaml")) if kind_of(one) == "bias"]
HARMS = sorted((CONFIGS / "harm").glob("*.yaml"))
METRICS = sorted((CONFIGS / "metric").glob("*.yaml"))
INDEXES = sorted((CONFIGS / "index").glob("*.yaml"))
STAGES = [stage for recipe in gallery.recipes() for stage in gallery.stages(recipe)]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


class ParsesOnly(training.TrainingCLI):
    """Keeps its parser and builds nothing."""

    def before_instantiate_classes(self) -> None:
        pass

    def instantiate_classes(self) -> None:
        pass

    def _run_subcommand(self, subcommand: str) -> None:
        raise _Parsed(self.parser)


class _Parsed(Exception):
    def __init__(self, parser: LightningArgumentParser) -> None:
        self.parser = parser


@pytest.fixture(scope="module")
def parser() -> Iterator[LightningArgumentParser]:
    """The parser of `mmmed fit`, as the command itself makes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr("sys.argv", ["mmmed"])
        # Lightning 2.6 calls its parser in ways that jsonargparse has deprecated.
        patch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
        patch.setattr(training, "TrainingCLI", ParsesOnly)
        with pytest.raises(_Parsed) as parsed:
            training.main(["fit", "--config", name_of(EXPERIMENTS[0])])
        yield parsed.value.parser


def class_paths(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(path := value.get("class_path"), str):
            yield path
        for one in value.values():
            yield from class_paths(one)
    elif isinstance(value, list):
        for one in value:
            yield from class_paths(one)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_every_experiment_is_read_by_fit(parser: LightningArgumentParser, path: Path) -> None:
    parser.parse_args(["fit", "--config", name_of(path)])


@pytest.mark.parametrize("path", PARTS, ids=name_of)
def test_every_part_is_read_in_its_place(parser: LightningArgumentParser, path: Path) -> None:
    parser.parse_args(["fit", "--config", name_of(EXPERIMENTS[0]), PLACES[path.parent.name], str(path)])


@pytest.mark.parametrize("path", STAGES, ids=name_of)
def test_every_stage_of_a_recipe_is_read_by_fit_in_both_sizes(parser: LightningArgumentParser, path: Path) -> None:
    full = parser.parse_args(["fit", "--config", name_of(path)]).fit
    tiny = parser.parse_args(["fit", "--config", name_of(path), "--config", name_of(gallery.tiny(path))]).fit
    assert (full.trainer.max_steps == 50, tiny.trainer.max_steps) == (False, 50)
    assert full.model.init_args.template == tiny.model.init_args.template
    assert set(full.model.init_args.learning_rates) == set(tiny.model.init_args.learning_rates)


@pytest.mark.parametrize("path", TASKS, ids=name_of)
def test_every_task_is_built(path: Path) -> None:
    assert load_task(path).name == path.stem


@pytest.mark.parametrize("path", BASELINES, ids=name_of)
def test_every_baseline_is_read(path: Path) -> None:
    assert load_reading_arm(path).weights is not None


@pytest.mark.parametrize("path", ZERO_SHOT, ids=name_of)
def test_every_zero_shot_task_is_built(path: Path) -> None:
    assert load_zero_shot(path).name == path.stem


@pytest.mark.parametrize("path", AUDITS, ids=name_of)
def test_every_audit_and_the_tasks_of_its_checks_are_built(path: Path) -> None:
    suite = load_suite(str(path))
    assert suite.name == path.stem
    tasks = {vars(check)["task"] for check in suite.checks if "task" in vars(check)}
    assert tasks
    assert all(load_task(task) for task in tasks)


@pytest.mark.parametrize("path", HARMS, ids=name_of)
def test_every_harm_matrix_is_read(path: Path) -> None:
    assert load_harm(str(path)).name == path.stem


@pytest.mark.parametrize("path", METRICS, ids=name_of)
def test_every_metric_of_a_file_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    _, content = read_metric(path.stem)
    assert content.metric.class_path


@pytest.mark.parametrize("path", BIAS_EXPERIMENTS, ids=name_of)
def test_every_experiment_of_bias_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert read_bias(path).name == path.parent.name


@pytest.mark.parametrize("path", INDEXES, ids=name_of)
def test_every_index_names_arguments_of_its_command(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content.keys() <= inspect.signature(index).parameters.keys()
    assert content["output"] == f"outputs/index/{path.stem}"


@pytest.mark.parametrize("path", DATA, ids=name_of)
def test_every_list_of_sources_is_built(path: Path) -> None:
    assert read_sources(path)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_class_in_a_configuration_can_be_imported(path: Path) -> None:
    for class_path in class_paths(yaml.safe_load(path.read_text(encoding="utf-8"))):
        module, _, name = class_path.rpartition(".")
        assert callable(getattr(import_module(module), name))


def test_no_configuration_lies_where_nothing_reads_it() -> None:
    described = {*EXPERIMENTS, *PARTS, *TASKS, *BASELINES, *ZERO_SHOT, *AUDITS, *HARMS, *METRICS, *INDEXES, *DATA}
    assert set(FILES) == described | recipe_files()


def recipe_files() -> set[Path]:
    """Stages in both sizes, and what they name by relative path."""
    files = {*STAGES, *map(gallery.tiny, STAGES)}
    named = {path.parent / one for path in files for one in relative_paths(gallery.read(path))}
    return {*files, *(path.resolve() for path in named)}


def relative_paths(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from relative_paths(one)
    elif isinstance(value, str) and value.startswith("../") and value.endswith(".yaml"):
        yield value


def test_a_misspelt_argument_of_a_configuration_is_found(parser: LightningArgumentParser, tmp_path: Path) -> None:
    text = EXPERIMENTS[0].read_text(encoding="utf-8")
    content = yaml.safe_load(text.replace("../", f"{CONFIGS}/"))
    content["data"]["init_args"]["batchsize"] = 8
    (tmp_path / "misspelt.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        parser.parse_args(["fit", "--config", str(tmp_path / "misspelt.yaml")])


def test_the_files_that_own_data_shows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my" / "films").mkdir(parents=True)
    for path, text in SHOWN_FILE.findall(OWN_DATA):
        Path(path).write_text(text)
    for number in (1, 2):
        Image.new("L", (4, 4)).save(f"my/films/000{number}.png")
    shutil.copytree(CONFIGS / "experiment", "configs/experiment")
    shutil.copy("configs/experiment/own_data.yaml", "configs/experiment/mine.yaml")
    records = list(Pairs("my/pairs.csv").records())
    assert [one.topic for one in records if isinstance(one, Example)] == ["effusion", "side", "effusion"]
    (task,) = read_experiment(Path("my/experiment.yaml")).tasks
    assert load_task(task).topics == ["effusion", "side"]


def test_the_training_command_of_own_data_is_read(parser: LightningArgumentParser) -> None:
    (command,) = re.findall(r"^mmmed (fit .*)$", OWN_DATA, re.MULTILINE)
    (source,) = parser.parse_args(shlex.split(command)).fit.data.init_args.sources
    assert source.init_args.path == "my/pairs.csv"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_stage_begins_from_the_model_folder_of_a_run(path: Path) -> None:
    begun = re.findall(r"^ *init_from: *(outputs/\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert all(one.endswith("/model") for one in begun), "a run's own folder is none"
