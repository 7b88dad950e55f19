"""Every recipe is read in both sizes and built in both; the tiny ones train, stage after stage."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import gallery
from mmmed.models.outline import built
from mmmed.models.weights import catalogue, is_cached

RECIPES = gallery.recipes()
STAGES = [stage for recipe in RECIPES for stage in gallery.stages(recipe)]
MODELS = sorted((gallery.RECIPES / "model").glob("*.yaml"))
TINY_MODELS = [path for path in MODELS if path.stem.startswith("tiny_")]


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture
def _weights() -> None:
    """The package index's weights, where they are already in the cache."""
    needed = ("smollm2-135m-instruct", "dinov2-small", "efficientnet-lite0")
    for entry in catalogue():
        if entry.name in needed and not is_cached(entry):
            pytest.skip(f"no {entry.name} in the cache; run `mmmed weights pull {entry.name}`")


def described(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = gallery.read(path)
    return content


def values(content: object, key: str) -> Iterator[Any]:
    if isinstance(content, dict):
        yield from (value for name, value in content.items() if name == key)
        for one in content.values():
            yield from values(one, key)
    elif isinstance(content, list):
        for one in content:
            yield from values(one, key)


def test_the_review_s_systems_are_there() -> None:
    assert [recipe.name for recipe in RECIPES] == [
        "llava_med_v1",
        "llava_med_v15",
        "llava_rad",
        "llava_v15",
        "med_flamingo",
        "med_moe",
        "minigpt4",
        "nanovlm",
        "skingpt4",
        "xraygpt",
    ]


@pytest.mark.parametrize("stage", STAGES, ids=name_of)
def test_a_stage_starts_from_an_earlier_one_of_its_recipe_in_both_sizes(stage: Path) -> None:
    before = [one.stem for one in gallery.stages(stage.parent) if one.stem[0] < stage.stem[0]]
    for size, path in (("recipe", stage), ("tiny", gallery.tiny(stage))):
        given = described(path)
        assert given["output"] == f"outputs/{size}/{stage.parent.name}/{stage.stem}"
        start = given["model"]["init_args"].get("init_from")
        assert (start is None) == (not before)
        if start is not None:
            root, kind, recipe, earlier, model = Path(start).parts
            assert (root, kind, recipe, model) == ("outputs", size, stage.parent.name, "model")
            assert earlier in before


@pytest.mark.parametrize("stage", STAGES, ids=name_of)
def test_the_head_of_a_stage_names_its_paper(stage: Path) -> None:
    head = "".join(line for line in stage.read_text().splitlines() if line.startswith("#"))
    assert "arXiv" in head or "repository" in head


@pytest.mark.usefixtures("_weights")
@pytest.mark.parametrize("stage", STAGES, ids=name_of)
def test_the_full_size_can_be_built_and_trains_what_its_files_say(stage: Path) -> None:
    size = gallery.full_size(stage)
    assert size is not None
    rates = described(stage)["model"]["init_args"]["learning_rates"]
    learns_much = bool({"language", "cross_attention"} & set(rates))
    assert learns_much == (size.learns > 0.02 * size.has), "a projector alone is small"
    assert size.has > 4e8


@pytest.mark.usefixtures("_weights")
@pytest.mark.parametrize(
    ("stage", "learns", "tokens"),
    [
        # One linear layer from 1024 to 4096, and with it the 6,738,415,616 parameters of a LLaMA of 7B.
        ("llava_med_v1/1_align", 1024 * 4096 + 4096, 256),
        ("llava_med_v1/2_instruct", 1024 * 4096 + 4096 + 6_738_415_616, 256),
        ("llava_v15/1_align", 1024 * 4096 + 4096 + 4096 * 4096 + 4096, 576),
        ("minigpt4/1_align", 768 * 5120 + 5120, 32),
        ("xraygpt/1_mimic", 768 * 4096 + 4096, 32),
        ("llava_rad/1_align", 768 * 4096 + 4096 + 4096 * 4096 + 4096, 1369),
    ],
)
def test_full_sizes_are_those_of_the_papers(stage: str, learns: int, tokens: int) -> None:
    size = gallery.full_size(gallery.RECIPES / f"{stage}.yaml")
    assert size is not None
    assert (size.learns, size.tokens) == (learns, tokens)


@pytest.mark.usefixtures("_weights")
@pytest.mark.parametrize("path", TINY_MODELS, ids=lambda path: path.stem)
def test_every_tiny_model_is_built_with_its_weights(path: Path) -> None:
    model = built(described(path))
    assert model.tokens_per_image in (1, 16)
    assert model.language.width == 576


def test_tiny_and_full_models_share_the_distinguishing_part() -> None:
    for stage in STAGES:
        folder = stage.parent
        full = described(folder / described(stage)["model"]["init_args"]["model"])["init_args"]
        small = described(folder / described(gallery.tiny(stage))["model"]["init_args"]["model"])["init_args"]
        for part in ("language", "projector", "cross_attention"):
            assert (part in full) == (part in small)
            if part in full:
                assert full[part]["class_path"] == small[part]["class_path"], f"{part} of {name_of(stage)}"
        kinds = [set(values(one, "kind")) for one in (full, small)]
        assert kinds[0] == kinds[1], "adapters"
        queried = ["QueriedEncoder" in yaml.safe_dump(one) for one in (full, small)]
        assert queried[0] == queried[1]


def test_a_table_of_the_same_rows_is_the_same_page(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{gallery.BEGIN}\n{gallery.END}\nafter\n")
    size, run = gallery.Size(4_198_400, 7_030_000_000, 256), gallery.Run(2048.4, 0.512, 3.0, 1.25)
    row = gallery.row("llava_med_v1", full=[size, None], tiny=[size], runs=[run])
    assert "| 4.2 M / 7.03 B<br>not computed | 256 | 4.2 M / 7.03 B | 256 | 2048 | 0.51 | 3.00 → 1.25 |" in row
    gallery.write(page, [row])
    once = page.read_text()
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert gallery.rows_of(once) == {"llava_med_v1": row}
    gallery.write(page, list(gallery.rows_of(once).values()))
    assert page.read_text() == once
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_a_page_without_marks_is_one_line() -> None:
    with pytest.raises(SystemExit, match="lacks <!-- gallery: begin -->"):
        gallery.between("nothing")


def test_the_page_names_and_measures_every_recipe() -> None:
    page = gallery.PAGE.read_text(encoding="utf-8")
    named = [recipe.name for recipe in RECIPES]
    assert [one for one in named if f"| [{one}](recipe/{one}) | " in page.partition(gallery.BEGIN)[0]] == named
    assert list(gallery.rows_of(page)) == named


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.shared
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("_weights", "shared_data")
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_the_stages_of_a_tiny_recipe_train_one_after_another(recipe: Path, tmp_path: Path) -> None:
    for stage in gallery.stages(recipe):
        run = gallery.train(stage, tmp_path)
        assert run.last < run.first, f"{stage.stem}: {run}"
        assert (tmp_path / recipe.name / stage.stem / "model" / "model.safetensors").is_file()
