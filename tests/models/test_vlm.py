"""The whole model equals LLaVA as transformers computes it, and runs without eyes as well."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from mmmed.data.collate import pad
from mmmed.errors import ConfigError, RecordError
from mmmed.models.projector import MLPProjector
from mmmed.models.vision import Select
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example

MakeModel = Callable[..., VisionLanguageModel]
MakeProcessor = Callable[..., Processor]


def batch_of(processor: Processor, examples: Sequence[Example], *, left: bool = False) -> Batch:
    make = processor.question if left else processor.training
    return pad([make(example) for example in examples], image_id=processor.image_id, left=left)


def llava_of(model: VisionLanguageModel, *, image_id: int, select: Select) -> LlavaForConditionalGeneration:
    """LLaVA with the same weights; its vision tower has the layers that ours has dropped, at random."""
    vision, language = model.vision.recipe()["init_args"]["config"], model.language.model.config
    torch.manual_seed(1)
    llava = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(**{key: vision[key] for key in vision if key != "model_type"}),
            text_config=LlamaConfig(**language.to_diff_dict()),
            image_token_id=image_id,
            projector_hidden_act="gelu",
            vision_feature_layer=-2,
            vision_feature_select_strategy="default" if select == "patch" else "full",
            image_seq_length=model.tokens_per_image,
        )
    ).eval()
    parts = {
        "model.vision_tower.": model.vision.model,
        "model.language_model.": model.language.model.model,
        "model.multi_modal_projector.": model.projector,
        "lm_head.": model.language.model.lm_head,
    }
    state = {f"{prefix}{key}": value for prefix, part in parts.items() for key, value in part.state_dict().items()}
    missing, unexpected = llava.load_state_dict(state, strict=False)
    assert not unexpected
    last = vision["num_hidden_layers"] - 1
    assert all(f"layers.{last}." in key or "post_layernorm" in key for key in missing), missing
    return llava


@pytest.mark.parametrize("select", ["patch", "cls_patch"])
def test_logits_equal_those_of_llava(
    make_model: MakeModel, make_processor: MakeProcessor, examples: list[Example], select: Select
) -> None:
    model = make_model(select=select)
    processor = make_processor(model)
    batch = batch_of(processor, [examples[0], examples[2]])  # one image, and two
    assert batch.attention_BT.min() == 0
    llava = llava_of(model, image_id=processor.image_id, select=select)
    with torch.no_grad():
        ours = model(batch)
        theirs = llava(input_ids=batch.ids_BT, attention_mask=batch.attention_BT, pixel_values=batch.pixels_NCHW).logits
    seen = batch.attention_BT.bool()
    torch.testing.assert_close(ours[seen], theirs[seen], atol=1e-4, rtol=0)
    assert ours[seen].std() > 0.01


def test_greedy_answers_equal_those_of_llava(
    make_model: MakeModel, make_processor: MakeProcessor, examples: list[Example]
) -> None:
    model = make_model()
    processor = make_processor(model)
    batch = batch_of(processor, [examples[0], examples[2]], left=True)
    llava = llava_of(model, image_id=processor.image_id, select="patch")
    tokenizer = processor.prompt.tokenizer
    theirs = llava.generate(
        input_ids=batch.ids_BT,
        attention_mask=batch.attention_BT,
        pixel_values=batch.pixels_NCHW,
        max_new_tokens=6,
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    assert torch.equal(model.generate(batch, max_new_tokens=6), theirs[:, batch.ids_BT.shape[1] :])


def test_without_vision_it_is_its_own_text_only_baseline(
    make_model: MakeModel, make_processor: MakeProcessor, examples: list[Example]
) -> None:
    model = make_model(vision=False)
    batch = batch_of(make_processor(model), examples)
    assert model.tokens_per_image == 0
    assert model.transform is None
    with torch.no_grad():
        ours = model(batch)
        theirs = model.language.model(input_ids=batch.ids_BT, attention_mask=batch.attention_BT).logits
    seen = batch.attention_BT.bool()
    torch.testing.assert_close(ours[seen], theirs[seen])
    assert len(model.generate(batch_of(make_processor(model), examples, left=True), max_new_tokens=3)) == len(examples)


def test_an_image_changes_the_answer_to_its_own_question_only(
    make_model: MakeModel, make_processor: MakeProcessor, examples: list[Example]
) -> None:
    model = make_model()
    batch = batch_of(make_processor(model), [examples[0], examples[4], examples[3]])
    other = batch.pixels_NCHW.clone()
    other[1] = -other[1]
    with torch.no_grad():
        change = (model(batch) - model(replace(batch, pixels_NCHW=other))).abs().amax((1, 2))
    assert change[0] == change[1] == 0
    assert change[2] > 1e-4


def test_placeholders_without_pixels_are_refused(
    make_model: MakeModel, make_processor: MakeProcessor, examples: list[Example]
) -> None:
    model = make_model()
    batch = batch_of(make_processor(model), examples[:1])
    with pytest.raises(RecordError, match="16 image places in the text for 0 image features"):
        model(replace(batch, pixels_NCHW=batch.pixels_NCHW[:0]))


def test_a_text_only_model_refuses_to_look(make_model: MakeModel) -> None:
    with pytest.raises(ConfigError, match="text-only model"):
        make_model(vision=False).see(torch.zeros(1, 3, 32, 32))


def test_vision_without_projector_is_refused(make_model: MakeModel) -> None:
    model = make_model()
    with pytest.raises(ConfigError, match="vision and projector go together"):
        VisionLanguageModel(model.language, model.vision, None)
    with pytest.raises(ConfigError, match="vision and projector go together"):
        VisionLanguageModel(model.language, None, MLPProjector)
