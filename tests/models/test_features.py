"""A frozen encoder looks at each picture once."""

import pickle
from pathlib import Path

import pytest
import torch

from mmmed.errors import ConfigError, OutputError
from mmmed.models.encoders.transformers import TransformersEncoder
from mmmed.models.features import FrozenFeatures, Kept

CONFIG = {"model_type": "clip_vision_model", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def encoder(seed: int = 0) -> TransformersEncoder:
    torch.manual_seed(seed)
    return TransformersEncoder(weights=None, config=CONFIG | {"image_size": 32, "patch_size": 16}).eval()


def test_features_are_those_of_the_encoder_at_first_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, pixels = encoder(), torch.randn(3, 3, 32, 32)
    frozen = FrozenFeatures(encoder(), folder=str(tmp_path))
    expected = plain(pixels)
    torch.testing.assert_close(frozen(pixels[:2]), expected[:2])
    torch.testing.assert_close(frozen(pixels), expected)
    monkeypatch.setattr(frozen.encoder, "forward", None)  # it is not run again
    torch.testing.assert_close(frozen(pixels.flip(0)), expected.flip(0))
    assert (frozen.tokens, frozen.width) == (plain.tokens, plain.width)


def test_other_pixels_and_other_weights_are_looked_at_anew(tmp_path: Path) -> None:
    pixels = torch.randn(1, 3, 32, 32)
    first = FrozenFeatures(encoder(0), folder=str(tmp_path))(pixels)
    other = FrozenFeatures(encoder(1), folder=str(tmp_path))
    assert not torch.equal(other(pixels), first)
    assert not torch.equal(other(pixels + 1e-3), other(pixels))
    assert len(list(tmp_path.iterdir())) == 2
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.features")) == 3 * 4 * first.numel()


def test_weights_that_are_loaded_later_and_other_precisions_are_looked_at_anew(tmp_path: Path) -> None:
    pixels = torch.randn(2, 3, 32, 32)
    frozen = FrozenFeatures(encoder(0), folder=str(tmp_path))
    before = frozen(pixels)
    with torch.autocast("cpu", torch.bfloat16):
        half = frozen(pixels)
        torch.testing.assert_close(half, frozen.encoder(pixels).float(), rtol=0, atol=0)
    assert not torch.equal(half, before)
    assert torch.equal(frozen(pixels), before)
    frozen.encoder.load_state_dict(encoder(1).state_dict())
    torch.testing.assert_close(frozen(pixels), encoder(1)(pixels))
    for parameter in frozen.encoder.parameters():
        parameter.data = parameter.data.double()
    assert frozen.store("").folder not in [
        FrozenFeatures(encoder(one), folder=str(tmp_path)).store("").folder for one in (0, 1)
    ]


def test_a_picture_that_stands_twice_is_looked_at_once(tmp_path: Path) -> None:
    one, other = torch.randn(2, 3, 32, 32)
    frozen = FrozenFeatures(encoder(), folder=str(tmp_path))
    seen = frozen(torch.stack([one, other, one]))
    assert torch.equal(seen[0], seen[2])
    assert frozen.store("").bytes_kept() == 2 * frozen.store("").bytes_each


def test_a_batch_is_completed_and_features_of_another_encoder_are_refused(tmp_path: Path) -> None:
    pixels = torch.randn(3, 3, 32, 32)
    frozen = FrozenFeatures(encoder(), folder=str(tmp_path))
    expected = encoder()(pixels)
    kept = Kept(
        folder=frozen.store("").folder,
        keys=("0a" * 16, "0b" * 16, "0c" * 16),
        found_N=torch.tensor([False, True, False]),
        features_KPW=expected[1:2],
    )
    completed = frozen.complete(kept, pixels[[0, 2]])
    torch.testing.assert_close(completed, expected)
    found = frozen.store("").find(kept.keys)
    assert found[1] is None, "what was brought is kept by whoever computed it"
    assert torch.equal(found[0], completed[0])
    assert torch.equal(found[2], completed[2])
    with pytest.raises(ConfigError, match="another encoder or precision"), torch.autocast("cpu", torch.bfloat16):
        frozen.complete(kept, pixels[[0, 2]])


def test_what_another_process_sends_is_read_from_disk_and_refused_where_it_is_gone(tmp_path: Path) -> None:
    pixels = torch.randn(3, 3, 32, 32)
    frozen = FrozenFeatures(encoder(), folder=str(tmp_path))
    expected, store = encoder()(pixels).detach(), frozen.store("")
    store.keep(["0b" * 16], expected[1:2])
    kept = Kept.of(store.folder, ("0a" * 16, "0b" * 16, "0c" * 16), [None, expected[1], None])
    sent = pickle.loads(pickle.dumps(kept)).to(torch.device("cpu"))
    assert sent.features_KPW is None
    torch.testing.assert_close(frozen.complete(sent, pixels[[0, 2]]), expected)
    alone = pickle.loads(pickle.dumps(Kept.of(store.folder, ("0b" * 16,), [expected[1]])))
    assert torch.equal(frozen.complete(alone, pixels[:0])[0], expected[1])
    gone = pickle.loads(pickle.dumps(Kept.of(store.folder, ("0d" * 16,), [expected[1]])))
    with pytest.raises(ConfigError, match="features of 1 pictures are gone from"):
        frozen.complete(gone, pixels[:0])


def test_it_never_learns_and_never_drops(tmp_path: Path) -> None:
    frozen = FrozenFeatures(encoder(), folder=str(tmp_path)).train()
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert not any(module.training for module in frozen.modules())


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    frozen = FrozenFeatures(encoder(), folder=str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot keep image features in"):
        frozen(torch.randn(1, 3, 32, 32))
