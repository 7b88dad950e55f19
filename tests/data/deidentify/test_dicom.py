"""DICOM files without identifiers: headers by table, pixels by reading them."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from mmmed.data.deidentify import burned_in
from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.burned_in import Box, find_text, is_text
from mmmed.data.deidentify.dicom import deidentify_dicom
from mmmed.data.deidentify.header_table import HeaderPolicy, action_for
from mmmed.data.deidentify.headers import clean_header, shift_dicom
from mmmed.data.deidentify.surrogates import Surrogates
from mmmed.errors import PrivacyError
from mmmed.processing.dicom import DicomImage

KEY = b"a key of sixteen bytes or more"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMMED_CACHE", str(tmp_path / "cache"))


def film(path: Path, pixels: np.ndarray, **values: object) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"secret" + b"\0" * 122)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.4", "1.2.3.5"
    dataset.PatientName, dataset.PatientID = "Abernathy^Zebulon", "00817263"
    dataset.PatientBirthDate, dataset.StudyDate, dataset.StudyTime = "19500102", "20240115", "112900"
    dataset.PatientAge, dataset.PatientSex, dataset.Modality = "094Y", "M", "CR"
    dataset.InstitutionName, dataset.ReferringPhysicianName = "Foxglove General Hospital", "Quillfeather^Ada"
    dataset.StudyDescription = "CHEST FOR DR QUILLFEATHER"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    block = dataset.private_block(0x0009, "MMMED TEST", create=True)
    block.add_new(0x01, "LO", "private note Abernathy")
    item = Dataset()
    item.ReferencedSOPInstanceUID, item.OperatorsName = "1.2.3.4", "Quillfeather^Ada"
    dataset.ReferencedImageSequence = pydicom.Sequence([item])
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def grey(value: int = 90, kind: type = np.uint8) -> np.ndarray:
    return np.full((64, 80), value, dtype=kind)


@pytest.fixture
def no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burned_in, "_read", lambda picture: [])


@pytest.mark.usefixtures("no_text")
def test_nothing_of_the_header_that_names_anybody_is_left(tmp_path: Path) -> None:
    audit = Audit()
    deidentify_dicom(film(tmp_path / "in.dcm", grey()), tmp_path / "out.dcm", key=KEY, audit=audit)
    raw = (tmp_path / "out.dcm").read_bytes()
    for word in (
        b"Abernathy",
        b"Zebulon",
        b"00817263",
        b"Quillfeather",
        b"QUILL",
        b"Foxglove",
        b"19500102",
        b"secret",
        b"1.2.3.4\0",
    ):
        assert word not in raw
    made = pydicom.dcmread(tmp_path / "out.dcm")
    assert made.PatientIdentityRemoved == "YES"
    assert (made.PatientAge, made.PatientSex, made.Modality) == ("090Y", "M", "CR")
    assert {item.CodeValue for item in made.DeidentificationMethodCodeSequence} == {
        "113100",
        "113101",
        "113107",
        "113108",
    }
    assert made.pixel_array.tobytes() == grey().tobytes()
    assert all("Abernathy" not in json.dumps(line) for line in audit.lines)
    assert {line["place"] for line in audit.lines} >= {"PatientName", "InstitutionName", "group 0009", "OperatorsName"}


@pytest.mark.usefixtures("no_text")
def test_uids_change_together_and_dates_keep_their_distance(tmp_path: Path) -> None:
    for name, date in (("a", "20240115"), ("b", "20240315")):
        deidentify_dicom(
            film(tmp_path / name, grey(), StudyDate=date), tmp_path / f"{name}.out", key=KEY, audit=Audit()
        )
    first, second = (pydicom.dcmread(tmp_path / f"{name}.out") for name in "ab")
    assert first.StudyInstanceUID == second.StudyInstanceUID != "1.2.3.4"
    assert first.ReferencedImageSequence[0].ReferencedSOPInstanceUID == first.StudyInstanceUID
    assert first.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    assert first.PatientID == second.PatientID
    dates = [np.datetime64(f"{one[:4]}-{one[4:6]}-{one[6:]}") for one in (first.StudyDate, second.StudyDate)]
    assert dates[1] - dates[0] == np.timedelta64(60, "D")
    assert first.StudyDate != "20240115"


@pytest.mark.usefixtures("no_text")
def test_options_of_the_profile_keep_or_remove_more(tmp_path: Path) -> None:
    source = film(tmp_path / "in.dcm", grey(), Manufacturer="Acme", StationName="ROOM4")
    policy = HeaderPolicy(dates="remove", characteristics=False, devices=True, descriptors="clean", uids="keep")
    deidentify_dicom(source, tmp_path / "out.dcm", key=KEY, audit=Audit(), policy=policy)
    made = pydicom.dcmread(tmp_path / "out.dcm")
    assert (made.StudyDate, made.StudyTime, made.PatientSex) == ("", "", "")
    assert "PatientAge" not in made
    assert (made.Manufacturer, made.StudyInstanceUID) == ("Acme", "1.2.3.4")
    assert "QUILLFEATHER" not in made.StudyDescription.upper()
    assert made.StudyDescription.startswith("CHEST")


def test_every_attribute_that_the_profile_names_goes_or_changes() -> None:
    tables = pytest.importorskip("dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c")
    # Their items are cleaned one by one, which E.1-1 allows (X/Z/U*).
    cleaned = {"ReferencedImageSequence", "SourceImageSequence"}
    kept = set()
    for tag in (tag for tag in tables.ALL_TAGS if len(tag) == 2 and dictionary_has_tag(Tag(tag))):
        vr = dictionary_VR(Tag(tag)).split(" or ")[0]
        element = DataElement(Tag(tag), vr, None)
        if action_for(element, HeaderPolicy(characteristics=False)) in ("keep", "items"):
            kept.add(element.keyword)
    assert len(tables.ALL_TAGS) > 600
    assert kept == cleaned


@pytest.mark.parametrize(
    "keyword", ["GPSLatitude", "EncapsulatedDocument", "MakerNote", "ReferringPhysicianIdentificationSequence"]
)
def test_places_and_packed_documents_go_though_their_kind_is_harmless(keyword: str) -> None:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    assert action_for(DataElement(tag, dictionary_VR(tag), None), HeaderPolicy()) == "remove"


def test_an_identifier_where_none_belongs_stops_the_run(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(film(tmp_path / "in.dcm", grey(), BodyPartExamined="ABERNATHY"))
    with pytest.raises(PrivacyError, match="left in BodyPartExamined"):
        clean_header(dataset, Surrogates(KEY, patient="1"), policy=HeaderPolicy(), audit=Audit(), record="r")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_only_boxes_are_painted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    rng = np.random.default_rng(0)
    for number, pixels in enumerate((rng.integers(5, 255, (64, 80)), rng.integers(5, 255, (64, 80, 3)))):
        if pixels.ndim == 3 and kind is np.uint16:
            continue
        monkeypatch.setattr(burned_in, "_read", lambda picture: [Box(4, 6, 30, 12)])
        stored = pixels.astype(kind)
        source = film(tmp_path / f"{number}.dcm", stored)
        deidentify_dicom(source, tmp_path / "out.dcm", key=KEY, audit=Audit())
        made = pydicom.dcmread(tmp_path / "out.dcm").pixel_array
        inside = np.zeros((64, 80), dtype=bool)
        inside[6:12, 4:30] = True
        assert np.array_equal(made[~inside], stored[~inside])
        assert (made[inside] == made[inside].flat[0]).all()


@pytest.mark.parametrize(
    ("written", "moved"), [("20240115", "20240122"), ("20240115112900.00", "20240122112900.00"), ("soon", ""), ("", "")]
)
def test_dicom_dates_move(written: str, moved: str) -> None:
    assert shift_dicom(written, 7) == moved


def test_a_line_of_text_is_told_from_a_letter_and_from_anatomy() -> None:
    def corners(width: int, height: int) -> np.ndarray:
        return np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)

    assert is_text("LEE, LAUREN", 0.98, corners(200, 16), (384, 384))
    assert is_text("", 0.1, corners(200, 16), (384, 384))  # a line, whatever it says
    assert is_text("I", 0.2, corners(16, 200), (384, 384))
    assert not is_text("r", 0.87, corners(21, 19), (384, 384))
    assert not is_text("O8", 0.57, corners(380, 380), (384, 384))


@pytest.mark.slow
def test_burned_in_text_is_found_and_the_marker_of_the_side_is_not() -> None:
    picture = Image.new("L", (512, 512), 60)
    drawing = ImageDraw.Draw(picture)
    drawing.text((8, 8), "ABERNATHY, ZEBULON 00817263", fill=255, font=ImageFont.load_default(18))
    drawing.text((450, 60), "L", fill=255, font=ImageFont.load_default(40))
    boxes = find_text(picture)
    assert boxes
    assert all(box.bottom < 50 for box in boxes)
    masked = np.asarray(burned_in.mask(picture, boxes))
    assert (masked[:40, :300] < 255).all()
    assert (masked[60:110, 440:490] == 255).any()


@pytest.mark.shared
@pytest.mark.slow
def test_no_planted_identifier_survives_and_no_other_pixel_changes(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "13_dicom" / "constructed_phi"
    for line in (folder / "phi_ground_truth.jsonl").read_text().splitlines():
        truth = json.loads(line)
        source, output = folder / truth["file"], tmp_path / truth["file"]
        masked = deidentify_dicom(source, output, key=KEY, audit=Audit())
        raw = output.read_bytes()
        for name, value in truth.items():
            if name not in ("file", "source_image", "burned_in_text"):
                for word in [value, *value.replace("^", " ").replace(",", " ").split()]:
                    assert len(word) < 4 or word.encode() not in raw, (name, word)
        before, after = pydicom.dcmread(source).pixel_array, pydicom.dcmread(output).pixel_array
        inside = np.zeros(before.shape, dtype=bool)
        for box in masked.boxes.get(0, []):
            inside[box.top : box.bottom, box.left : box.right] = True
        assert np.array_equal(before[~inside], after[~inside])
        assert inside.mean() < 0.06
        left = " ".join(burned_in._reader()(np.asarray(DicomImage(path=output).open().convert("RGB"))).txts or ())
        for word in truth["burned_in_text"].replace(",", " ").split():
            assert word not in left
