"""A map is total: nothing left over, nothing missing, nothing of another shape."""

import pytest
import torch

from mmmed.errors import CheckpointError
from mmmed.interop.layouts import detect, split_attention
from mmmed.interop.names import Move, Rule, carry_out, check_total, moves, rename


def test_the_first_rule_that_fits_renames() -> None:
    rules = [Rule(r"a\.(\d+)\.", r"b.\1."), Rule(r"a\.", "c.")]
    assert rename(["a.1.w", "a.x", "z"], rules) == {"a.1.w": "b.1.w", "a.x": "c.x"}


def test_two_sources_of_one_target_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"'x' and 'y' would both become 't'|'y' and 'x' would both become 't'"):
        moves({"x": "t", "y": "t"})


def test_every_kind_of_misfit_is_listed_with_its_count() -> None:
    plan = {"a": Move("x"), "b": Move("y")}
    sources = {"x": (2, 3), "y": (4,), "left": (1,), "model.layers.0.self_attn.rotary_emb.inv_freq": (2,)}
    with pytest.raises(CheckpointError) as caught:
        check_total(plan, sources=sources, targets={"a": (2, 3), "b": (5,), "c": (1,)}, what="file")
    told = str(caught.value)
    assert "1 unused (left)" in told
    assert "1 unfilled (c)" in told
    assert "1 of another shape (b (4,) for (5,))" in told


def test_what_is_set_aside_or_recomputed_is_not_left_over() -> None:
    sources = {"x": (1,), "kept": (9,), "vision_model.embeddings.position_ids": (1, 5)}
    check_total({"a": Move("x")}, sources=sources, targets={"a": (1,)}, what="file", set_aside=["kept"])


def test_joined_attention_is_split_in_three() -> None:
    plan = split_attention("qkv", "attn", kind="weight")
    joined = torch.arange(12.0).reshape(6, 2)
    parts = [carry_out(plan[f"attn.{part}_proj.weight"], lambda name: joined) for part in "qkv"]
    assert torch.equal(torch.cat(parts), joined)
    check_total(plan, sources={"qkv": (6, 2)}, targets=dict.fromkeys(plan, (2, 2)), what="file")


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (["language_model.model.x", "multi_modal_projector.linear_1.weight", "vision_tower.y"], "hf"),
        (["model.language_model.x", "model.multi_modal_projector.linear_1.weight", "lm_head.weight"], "hf"),
        (["model.embed_tokens.weight", "model.mm_projector.0.weight", "lm_head.weight"], "llava"),
        (["model.mm_projector.weight", "model.mm_projector.bias"], "mm_projector"),
        (["vision_encoder.x", "MP.proj.weight", "decoder.y"], "nanovlm"),
        (["projector.projector.0.weight", "llm_backbone.llm.x"], "prismatic"),
        (["llama_proj.weight", "llama_proj.bias"], "minigpt4"),
        (["vision.model.x", "projector.linear_1.weight", "language.model.y"], "mmmed"),
    ],
)
def test_a_layout_is_recognised_by_its_names(names: list[str], layout: str) -> None:
    assert detect(names, what="file") == layout


def test_unknown_names_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"of no known layout \(they begin encoder\)"):
        detect(["encoder.layer.weight"], what="file")
