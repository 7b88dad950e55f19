import json
import re
from pathlib import Path

import pytest
from PIL import Image

from mmmed.cli.data import read_sources
from mmmed.cli.main import main
from mmmed.errors import ConfigError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Six films of the user's own, the last two the same film under two names and in two splits."""
    rows = ["image,answer,patient,split"]
    films = [Image.effect_noise((48, 48), 60).resize((192, 192)) for _ in range(5)]
    for place, film in enumerate([*films, films[-1]]):
        film.save(tmp_path / f"{place}.png")
        rows.append(f"{place}.png,an answer,p{place},{'test' if place == 5 else 'train'}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    path = tmp_path / "sources.yaml"
    entry = {"class_path": "mmmed.data.sources.pairs.Pairs", "init_args": {"path": str(tmp_path / "pairs.csv")}}
    path.write_text(json.dumps({"sources": [entry]}))
    return path


def test_the_list_names_every_set_and_what_its_licence_forbids(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    listed = capsys.readouterr().out
    assert "ham10000: HAM10000" in listed
    assert "forbids      commercial use; use without attribution" in listed
    assert "data sets; 'mmmed data show NAME'" in listed


def test_a_card_is_shown_as_text_and_as_croissant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "ham10000"]) == 0
    assert "CC BY-NC 4.0" in capsys.readouterr().out
    assert main(["data", "show", "ham10000", "--croissant"]) == 0
    assert json.loads(capsys.readouterr().out)["@type"] == "sc:Dataset"


def test_an_unknown_set_is_answered_with_a_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "ham1000"]) == 2
    assert "did you mean 'ham10000'?" in capsys.readouterr().err


def test_a_leak_is_named_and_sets_the_exit_code(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = config.parent / "leakage.json"
    words = ["data", "check", "--config", str(config), "--output", str(output)]
    assert main([*words, "--cache", str(config.parent / "t.safetensors")]) == 1
    shown = capsys.readouterr().out
    assert "NOT CLEAN   two splits share 1 image\n" in shown
    # A set that may hold identifiers is told of in codes.
    (both,) = re.findall(r"image +train and test +picture (\w{16}) = picture (\w{16})\n", shown)
    assert both[0] != both[1]
    assert json.loads(output.read_text())["across_splits"] == {"image": 1}
    (config.parent / "5.png").unlink()
    assert main(words) == 0
    assert "clean       nothing stands in two splits" in capsys.readouterr().out


def test_a_page_is_drawn_for_each_set(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", "--config", str(config), "--output", str(config.parent / "pages")]) == 0
    assert (config.parent / "pages" / "pairs.html").is_file()
    assert "pairs: 6 examples, 0 set aside" in capsys.readouterr().out


def test_neither_page_nor_findings_name_a_patient(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMMED_CACHE", str(config.parent / "cache"))
    rows = ["image,answer,patient,split,referred"]
    for place in range(6):
        name = f"Abernathy Zebulon {place}.png"
        (config.parent / f"{place}.png").rename(config.parent / name)
        rows.append(f"{name},an answer,0081726{place},{'test' if place == 5 else 'train'},Dr. Quillfeather")
    rows.append("Abernathy gone.png,an answer,00817269,train,")
    (config.parent / "pairs.csv").write_text("\n".join(rows))
    output = config.parent / "leakage.json"
    assert main(["data", "check", "--config", str(config), "--output", str(output)]) == 1
    assert main(["data", "stats", "--config", str(config), "--output", str(config.parent / "pages")]) == 0
    told = capsys.readouterr().out + output.read_text() + (config.parent / "pages" / "pairs.html").read_text()
    assert not [word for word in ("Abernathy", "Zebulon", "0081726", "Quillfeather") if word in told]
    assert json.loads(output.read_text())["across_splits"] == {"image": 1}


def test_a_file_of_sources_is_read_and_a_missing_one_is_named(config: Path) -> None:
    (source,) = read_sources(config)
    assert source.name == "pairs"
    with pytest.raises(ConfigError, match=r"no file nowhere\.yaml"):
        read_sources(Path("nowhere.yaml"))


def test_no_sources_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none.yaml").write_text("sources: []\n")
    assert main(["data", "check", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "no sources; name at least one under `sources`" in capsys.readouterr().err


def test_a_set_is_prepared_and_its_folder_named(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMMED_PRIVACY_KEY", str(config.parent / "key"))
    output = config.parent / "prepared"
    words = ["data", "prepare", "--config", str(config), "--output", str(output)]
    assert main([*words, "--recipe.longest_side", "64", "--recipe.privacy.images", "keep"]) == 0
    shown = capsys.readouterr().out
    assert "5 train, 0 validation, 1 test; 0 set aside" in shown and str(output / "pairs") in shown
    index = json.loads((output / "pairs" / "index.json").read_text())
    assert (index["pictures"], index["gate"]) == (6, {"text": "rules", "images": "keep"})
    entry = {"class_path": "mmmed.data.shards.Shards", "init_args": {"root": str(output / "pairs")}}
    (output / "sources.yaml").write_text(json.dumps({"sources": [entry]}))
    assert main(["data", "stats", "--config", str(output / "sources.yaml"), "--output", str(output / "pages")]) == 0
    assert "pairs: 6 examples, 0 set aside" in capsys.readouterr().out
    assert main([*words, "--recipe.privacy", "null", "--recipe.stratify", "[sex]"]) == 2
    assert "no record of pairs has 'sex'" in capsys.readouterr().err
    assert json.loads((output / "pairs" / "index.json").read_text()) == index
