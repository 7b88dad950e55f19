"""Every source of files can be named in a configuration, with typed arguments."""

import pytest
from jsonargparse import ArgumentParser

from mmmed.data.observations import ObservationLabels
from mmmed.data.source import Source
from mmmed.data.study import StudyQuestions

SOURCES = {
    "covid_chestxray.CovidChestXray": {"questions": ["report"], "fractions": [0.5, 0.25, 0.25], "seed": 3},
    "nih_cxr.NihCxr": {"questions": "all", "fractions": {"train": 0.5, "validation": 0.25, "test": 0.25}},
    "pneumonia_mnist.PneumoniaMnist": {},
    "vqa_rad.VqaRad": {"questions": ["closed"]},
    "ham10000.Ham10000": {"questions": ["malignant"]},
    "iu_xray.IuXray": {"ask": {"questions": ["report"], "images": "each", "without": ["XXXX"]}},
    "mimic_cxr.MimicCxr": {"labeller": "negbio", "labels": {"uncertain": "yes"}, "ask": {"views": ["PA", "AP"]}},
    "chexpert.CheXpert": {"splits": "hash", "labels": {"blank": "leave out"}, "fractions": [0.5, 0.5, 0.0]},
    "chexpert_plus.CheXpertPlus": {"read_from": "findings", "ask": {"findings": "all"}},
    "padchest.PadChest": {"physicians": True, "ask": {"most_images": 2}},
    "roco.Roco": {"fewest_words": 5},
    "pmc_oa.PmcOa": {"seed": 2},
    "medpix.MedPix": {"questions": ["caption"]},
    "pocus.Pocus": {"questions": ["reading"], "findings": "all"},
    "medmnist.MedMnist": {"flag": "organmnist3d", "size": 64, "slices": 6, "axis": 1},
    "isic.Isic": {"edition": 2019, "splits": "official"},
    "fitzpatrick17k.Fitzpatrick17k": {"questions": ["category"]},
    "slake.Slake": {"languages": ["en", "zh"], "questions": ["closed"], "images": "absent"},
    "path_vqa.PathVqa": {"questions": ["open"]},
    "pmc_vqa.PmcVqa": {"edition": "1_clean", "validation": 0.1},
    "vqa_med.VqaMed": {"year": 2021, "questions": ["open"]},
    "llava_med.LlavaMed": {"images": "elsewhere", "fractions": [0.5, 0.5, 0.0]},
    "pubmedqa.PubMedQa": {"context": False, "fold": 3},
    "medmcqa.MedMcqa": {"validation": 0.1},
    "medqa.MedQa": {},
    "counterfactual_medqa.CounterfactualMedQa": {},
    "fhir_records.FhirRecords": {"longest": 4000, "fractions": [0.5, 0.5, 0.0]},
    "mmlu_medical.MmluMedical": {"subjects": ["anatomy"]},
    "medquad.MedQuad": {"fractions": [0.5, 0.25, 0.25]},
    "mts_dialog.MtsDialog": {"questions": ["header"]},
    "aci_bench.AciBench": {},
    "medhallu.MedHallu": {"knowledge": False},
    "medec.Medec": {"questions": ["flag"]},
    "text_corpus.TextCorpus": {"field": "note", "patient": "mrn", "longest": 100, "fractions": [0.5, 0.5, 0.0]},
    "pubmed_abstracts.PubMedAbstracts": {"without": "pmids.txt"},
    "clinical_writing.ClinicalWriting": {"kinds": ["handout"], "folds": 2, "fold": 1},
    "preferences.Preferences": {"fractions": [0.5, 0.5, 0.0]},
}


# The file itself is given, and not the folder of a release.
OF_ONE_FILE = ("llava_med", "text_corpus", "preferences")


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_built_from_its_class_path(name: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--sources", type=list[Source])
    place = "path" if name.partition(".")[0] in OF_ONE_FILE else "root"
    entry = {"class_path": f"mmmed.data.sources.{name}", "init_args": {place: "somewhere", **SOURCES[name]}}
    (source,) = parser.instantiate(parser.parse_object({"sources": [entry]})).sources
    assert source.name == name.partition(".")[0]
    assert str(getattr(source, place)) == "somewhere"
    source.prepare()
    if "fractions" in SOURCES[name]:
        assert source.fractions.train == 0.5


def test_what_is_asked_about_studies_is_set_from_a_file() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--sources", type=list[Source])
    arguments = {"root": "x", **SOURCES["mimic_cxr.MimicCxr"]}
    entry = {"class_path": "mmmed.data.sources.mimic_cxr.MimicCxr", "init_args": arguments}
    (source,) = parser.instantiate(parser.parse_object({"sources": [entry]})).sources
    assert source.ask == StudyQuestions(views=("PA", "AP"))
    assert source.labels == ObservationLabels(uncertain="yes")
