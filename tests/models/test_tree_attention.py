"""Packed conversations teach exactly what the same conversations teach when each has a padded row of its own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from mmmed.data.collate import pack, pad
from mmmed.errors import ConfigError
from mmmed.models import tree_attention as attention
from mmmed.models.cross_attention import GatedCrossAttention
from mmmed.models.packing import SHORTEST_ROOT, Layout, dense_mask, lay
from mmmed.models.projector import MLPProjector
from mmmed.models.tree_reading import by_tree
from mmmed.models.tree_row import block_mask, tree_row
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example, Turn
from mmmed.training.objectives import AnswerLoss

MakeModel = Callable[..., VisionLanguageModel]
SLIDING = ["sliding_attention", "full_attention"]
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": {"model_type": "gpt2"},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3", "head_dim": 8},
    "mistral": {"model_type": "mistral", "sliding_window": 4096},
    "neox": {"model_type": "gpt_neox"},
    "gemma2": {"model_type": "gemma2", "head_dim": 8},
    # Some layers look back over fewer tokens than a conversation has, or than all of them begin with.
    "gemma3": {"model_type": "gemma3_text", "head_dim": 8, "sliding_window": 20, "layer_types": SLIDING},
    "mistral short": {"model_type": "mistral", "sliding_window": 9},
    "qwen2 short": {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
}
QUESTIONS = (
    ("Is there a pleural effusion?", "yes"),
    ("Is there a pleural effusion on the left?", "no"),
    ("Is there a pleural effusion?", "yes"),
    ("What is shown?", "Normal heart size."),
    ("Where", "left"),
    ("W", "r"),
)


def asked(make_example: Callable[..., Example], *shades: int, questions: int = 6) -> list[Example]:
    return [make_example(f"{shades} {n}", *QUESTIONS[n % 6], *shades) for n in range(questions)]


@pytest.fixture
def forest(make_example: Callable[..., Example]) -> list[Example]:
    """Several questions about one film and about two, one question about a film, and texts without a film."""
    return [
        *asked(make_example, 1),
        *asked(make_example, 2, 3, questions=3),
        *asked(make_example, 2, questions=1),
        *asked(make_example, questions=2),
    ]


def taught(model: VisionLanguageModel, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of all that learns."""
    model.zero_grad()
    loss = AnswerLoss().loss(model, batch)
    loss.backward()
    return loss.detach(), {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def assert_equally_taught(model: VisionLanguageModel, packed: Batch, padded: Batch) -> None:
    (loss, gradients), (expected, references) = taught(model, packed), taught(model, padded)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    assert gradients.keys() == references.keys()
    whole = torch.cat([one.flatten() for one in references.values()]).norm()
    difference = torch.cat([(gradients[name] - one).flatten() for name, one in references.items()]).norm()
    assert difference / whole < 4e-6


def batches(processor: Processor, examples: list[Example]) -> tuple[Batch, Batch]:
    inputs = [processor.training(example) for example in examples]
    return pack(inputs, image_id=processor.image_id), pad(inputs, image_id=processor.image_id)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_forest_teaches_what_its_conversations_teach_one_by_one(
    make_model: MakeModel, make_processor: Callable[..., Processor], forest: list[Example], family: str
) -> None:
    model = make_model(initializer_range=0.2, **FAMILIES[family])
    packed, padded = batches(make_processor(model), forest)
    assert packed.ids_BT.numel() < int(padded.attention_BT.sum()) < padded.ids_BT.numel()
    assert len(packed.pixels_NCHW) == 4 < len(padded.pixels_NCHW)
    assert packed.conversations == padded.conversations == len(forest)
    assert_equally_taught(model, packed, padded)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_system_prompt_that_all_trees_share_is_exact(
    make_model: MakeModel, make_processor: Callable[..., Processor], forest: list[Example], family: str
) -> None:
    model = make_model(initializer_range=0.2, **FAMILIES[family])
    packed, padded = batches(make_processor(model, system="You answer questions about films."), forest)
    assert packed.layout.root > len("You answer questions about films.") // 2
    assert len(packed.layout.trees) == 5
    assert_equally_taught(model, packed, padded)


def test_attention_without_a_kernel_takes_the_dense_mask(
    make_model: MakeModel, make_processor: Callable[..., Processor], forest: list[Example]
) -> None:
    model = make_model(initializer_range=0.2)
    model.language.model.set_attn_implementation("eager")
    assert_equally_taught(model, *batches(make_processor(model), forest))
    assert model.language.model.config._attn_implementation == "eager"


@pytest.mark.parametrize("count", [1, 2, 11])
def test_a_tree_of_any_number_of_branches_is_exact(
    make_model: MakeModel,
    make_processor: Callable[..., Processor],
    make_example: Callable[..., Example],
    count: int,
) -> None:
    model = make_model(initializer_range=0.2)
    packed, padded = batches(make_processor(model, system="You are"), asked(make_example, 1, questions=count))
    assert len(packed.layout.trees) == 1
    assert_equally_taught(model, packed, padded)


def test_branches_of_one_learned_token_are_exact(
    make_model: MakeModel, make_processor: Callable[..., Processor], make_example: Callable[..., Example]
) -> None:
    model = make_model(initializer_range=0.2)
    one = make_processor(model).training(make_example("a", "What is shown?", "yes", 1))
    inputs = []
    for token in (5, 6, 7):
        ids = torch.cat([one.ids, torch.tensor([token])])
        inputs.append(replace(one, ids=ids, supervised=torch.arange(len(ids)) == len(one.ids)))
    image_id = make_processor(model).image_id
    packed, padded = pack(inputs, image_id=image_id), pad(inputs, image_id=image_id)
    assert packed.ids_BT.numel() == len(one.ids) + 3
    assert_equally_taught(model, packed, padded)


def test_images_within_a_branch_are_seen_there(
    make_model: MakeModel, make_processor: Callable[..., Processor], make_example: Callable[..., Example]
) -> None:
    """The film stands after the question, so that each branch needs its own."""
    model = make_model(initializer_range=0.2)
    examples = [
        replace(one, turns=(Turn("user", f"{text}\n<image>"), one.turns[1]))
        for one, (text, _) in zip(asked(make_example, 1), QUESTIONS, strict=True)
    ]
    packed, padded = batches(make_processor(model), examples)
    assert 1 < len(packed.pixels_NCHW) < 6, "alike questions share even so"
    assert_equally_taught(model, packed, padded)


def test_pictures_know_their_place_in_their_own_conversation(
    make_model: MakeModel, make_processor: Callable[..., Processor], forest: list[Example]
) -> None:
    plain = make_model(initializer_range=0.2)
    model = VisionLanguageModel(plain.language, plain.vision, MLPProjector, order=2).eval()
    torch.nn.init.normal_(model.order.embedding.weight)
    packed, padded = batches(make_processor(model), forest)
    assert packed.layout.numbers_N.tolist() == [0, 0, 1, 0]
    assert_equally_taught(model, packed, padded)


def test_what_is_dropped_and_recomputed_is_recomputed_alike(
    make_model: MakeModel, make_processor: Callable[..., Processor], forest: list[Example]
) -> None:
    model = make_model(initializer_range=0.2)
    packed, padded = batches(make_processor(model), forest)
    model.language.recompute()
    model.train()
    assert_equally_taught(model, packed, padded)


def test_a_padded_batch_is_read_as_before_once_a_packed_one_was(
    make_model: MakeModel, make_processor: Callable[..., Processor], forest: list[Example]
) -> None:
    model = make_model(initializer_range=0.2)
    packed, padded = batches(make_processor(model), forest)
    with torch.no_grad():
        before = model.read(padded)
        model.read(packed)
        assert torch.equal(model.read(padded), before)
    assert "mmmed_tree" not in str(model.recipe())


def row_of(seed: int, alike: int = 3) -> tuple[Layout, list[Tensor]]:
    """A random forest of ids that begin alike, and random queries, keys and values of two heads for one."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 40, (6,), generator=generator).tolist()
    conversations = [[*range(alike), *range(100 + n, 100 + n + length)] for n, length in enumerate(lengths)]
    layout = lay(conversations, shareable=[alike] * 6, groups=[0, 0, 0, 0, 1, 2]).layout
    assert layout.root == alike * (alike >= SHORTEST_ROOT)
    shape = len(layout.ends_T), 8
    heads = [torch.randn(1, count, *shape, generator=generator) for count in (4, 2, 2)]
    return layout, heads


def one_mask(layout: Layout, window: int | None) -> Tensor:
    """Which token sees which, over the whole row."""
    mask, places_T = dense_mask(layout.ends_T), layout.positions_T
    return mask if window is None else mask & (places_T[:, None] - places_T < window)


@pytest.mark.parametrize("window", [None, 1, 7, 18, 30])
@pytest.mark.parametrize("alike", [3, 20])
@pytest.mark.parametrize("seed", range(5))
def test_trees_read_one_by_one_give_what_one_mask_gives(seed: int, alike: int, window: int | None) -> None:
    layout, (query, key, value) = row_of(seed, alike)
    read = by_tree(query, key, value, tree_row(layout, dtype=torch.float32, window=window))
    mask = one_mask(layout, window)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(read, expected)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("alike", [3, 20])
def test_the_mask_for_flex_attention_is_the_dense_one(alike: int, window: int | None) -> None:
    layout, (query, key, value) = row_of(0, alike)
    blocks = block_mask(layout, window=window)
    length = len(layout.ends_T)
    places = torch.arange(length)
    by_rule = blocks.mask_mod(0, 0, places[:, None], places[None, :])
    assert torch.equal(by_rule, one_mask(layout, window))
    read = flex_attention(query, key, value, block_mask=blocks, enable_gqa=True)
    row = tree_row(layout, dtype=torch.float32, window=window)
    torch.testing.assert_close(read, by_tree(query, key, value, row))


def test_layers_that_reach_over_the_whole_row_share_its_masks() -> None:
    layout, _ = row_of(0)
    row = tree_row(layout, dtype=torch.float32)
    longest = int(layout.positions_T.max()) + 1
    assert row.within(None, dtype=torch.float32) is row.within(longest, dtype=torch.float32) is row
    narrow = row.within(longest - 1, dtype=torch.float32)
    assert narrow is not row and narrow is row.within(longest - 1, dtype=torch.float32)


def test_a_model_whose_layers_do_not_say_how_far_they_look_back_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    make_model: MakeModel,
    make_processor: Callable[..., Processor],
    forest: list[Example],
) -> None:
    model = make_model(model_type="mistral", sliding_window=20)
    packed, _ = batches(make_processor(model), forest)
    monkeypatch.setattr(model.language.model.config, "sliding_window", None)
    model.read(packed)  # its layers read their window from the configuration
    monkeypatch.setattr(attention, "window_of", lambda config: 20)
    with pytest.raises(ConfigError, match="mistral does not hand its layers what packed conversations need"):
        model.read(packed)
    assert not model.language.reads_rows


@pytest.mark.gpu
def test_on_a_gpu_a_forest_teaches_what_its_conversations_teach(
    make_model: MakeModel, make_processor: Callable[..., Processor], forest: list[Example]
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda")
    model = make_model(initializer_range=0.2, hidden_size=64).to(device)
    packed, padded = (batch.to(device) for batch in batches(make_processor(model), forest))
    (loss, gradients), (expected, references) = taught(model, packed), taught(model, padded)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    for name, reference in references.items():
        torch.testing.assert_close(gradients[name], reference, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adapter": {"kind": "prompt"}}, "a soft prompt stands in front of one conversation"),
        ({"model_type": "bloom", "n_head": 2, "n_layer": 1}, "bloom reads no positions"),
        (
            {"model_type": "mistral", "sliding_window": 20, "attention": "eager"},
            "mistral looks back 20 tokens, fewer than the [0-9]+ of a conversation, which eager attention cannot",
        ),
    ],
)
def test_what_cannot_be_packed_is_refused(
    make_model: MakeModel,
    make_processor: Callable[..., Processor],
    forest: list[Example],
    settings: dict[str, Any],
    message: str,
) -> None:
    model = make_model(**settings)
    packed, _ = batches(make_processor(model), forest)
    with pytest.raises(ConfigError, match=message):
        model.read(packed)


def test_a_model_that_looks_beside_its_text_is_refused(
    make_model: MakeModel, make_processor: Callable[..., Processor], forest: list[Example]
) -> None:
    plain = make_model()
    model = VisionLanguageModel(plain.language, plain.vision, MLPProjector, GatedCrossAttention)
    packed, _ = batches(make_processor(model), forest)
    with pytest.raises(ConfigError, match="a model with cross_attention reads each conversation in a row of its own"):
        model.read(packed)
