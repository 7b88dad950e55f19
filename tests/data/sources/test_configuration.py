"""Every source of files can be named in a configuration, with typed arguments."""

import pytest
from jsonargparse import ArgumentParser

from mmmed.data.source import Source

SOURCES = {
    "covid_chestxray.CovidChestXray": {"questions": ["report"], "fractions": [0.5, 0.25, 0.25], "seed": 3},
    "nih_cxr.NihCxr": {"questions": "all", "fractions": {"train": 0.5, "validation": 0.25, "test": 0.25}},
    "pneumonia_mnist.PneumoniaMnist": {},
    "vqa_rad.VqaRad": {"questions": ["closed"]},
    "ham10000.Ham10000": {"questions": ["malignant"]},
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_built_from_its_class_path(name: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--sources", type=list[Source])
    entry = {"class_path": f"mmmed.data.sources.{name}", "init_args": {"root": "somewhere", **SOURCES[name]}}
    (source,) = parser.instantiate(parser.parse_object({"sources": [entry]})).sources
    assert source.name == name.partition(".")[0]
    assert str(source.root) == "somewhere"
    source.prepare()
    if "fractions" in SOURCES[name]:
        assert source.fractions.train == 0.5
