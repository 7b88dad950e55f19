"""Where a model looks: maps over an image, by hiding, by gradient and by attention, drawn and held against boxes.

Shape letters: B batch, T tokens, D language width, P tokens of an image, W vision width, H heads, V vocabulary.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmmed.data.collate import pad
from mmmed.errors import ConfigError, DataError, did_you_mean
from mmmed.evaluation.metrics.tally import FloatArray
from mmmed.inference.session import Session
from mmmed.models.fusion import splice
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.records import Example
from mmmed.safety.check import Subject
from mmmed.safety.grounding import Place, boxes_of, overlay, pointing, squares_of
from mmmed.safety.measure import Measure

Method = Literal["gradient", "attention"]


@dataclass(kw_only=True)
class LookingMaps:
    """Measures whether the part of the image that an answer depends on lies on the finding, and draws it.

    Args:
        task: Task file of yes/no questions about images that know the place of what is asked about.
        method: `gradient`, features times the gradient of the answer by them, or `attention`, attention of the
            decoder's layers multiplied through.
        images: Most images that are tried.
        at_least: Least share of hits beyond that of a place drawn at random.

    Source: Selvaraju et al. 2017, ICCV, Grad-CAM, section 3; Abnar & Zuidema 2020, ACL, Quantifying Attention Flow,
    section 3 (rollout); Zhang et al. 2018, Int. J. Comput. Vis. 126:1084-1102 (the pointing game). Maps are no proof of
    what a model uses (Adebayo et al. 2018, NeurIPS): hiding, which `Occlusion` does, is the stronger test.
    """

    task: str
    method: Method = "gradient"
    images: int = 24
    at_least: float | None = None

    def __post_init__(self) -> None:
        if self.method not in _MAPS:
            raise ConfigError(f"unknown method {self.method!r}{did_you_mean(self.method, _MAPS)}")

    @property
    def title(self) -> str:
        """What is asked."""
        return f"Does what the answer depends on lie on the finding? ({self.method})"

    def examine(self, subject: Subject) -> list[Measure]:
        """The hits of the strongest place minus those of chance.

        Raises:
            DataError: No image says where a finding lies, or the model has no map of its image.
        """
        task = subject.task(self.task)
        chosen = [one for one in task.examples() if one.reference == "yes" and boxes_of(one)][: self.images]
        if not chosen:
            raise DataError(f"task {task.name}: no image says where a finding lies; leave the check out")
        subject.answers(task, chosen)
        places = [_place(subject.session, one, self.method) for one in chosen]
        for place in places:
            subject.evidence.maps[f"{place.example.source}:{place.example.id}"] = overlay(place)
        return [pointing(places, at_least=self.at_least)]


class _Question(NamedTuple):
    """A question as the model reads it, and the first tokens of the right answer and of the others."""

    model: VisionLanguageModel
    batch: Batch
    right: int
    others: list[int]


def _place(session: Session, example: Example, method: Method) -> Place:
    map_GG = _MAPS[method](session, example)
    grid = len(map_GG)
    size = example.images[0].open().size
    fit = session.processor.transform.fit if session.processor.transform is not None else "stretch"
    return Place(example, map_GG, squares_of(size, grid, fit=fit))


def gradient_map(session: Session, example: Example) -> FloatArray:
    """How much each place of the image speaks for the right answer (grid, grid): features times their gradient.

    Raises:
        DataError: The model has no grid of image tokens in its sequence.
    """
    model, batch, right, others = _question(session, example)
    assert model.projector is not None
    with torch.enable_grad():
        features_NPW = model.look(batch.pixels_NCHW, kept=batch.kept).detach().float().requires_grad_()
        seen_NKD = model.projector(features_NPW)
        embeddings_BTD = splice(model.language.embed(batch.ids_BT), seen_NKD, batch.is_image_BT)
        hidden_BTD = model.language(embeddings_BTD, batch.attention_BT)
        logits_V = model.language.head(hidden_BTD[:, -1]).float()[0]
        (slope_NPW,) = torch.autograd.grad(logits_V[right] - logits_V[others].logsumexp(0), features_NPW)
    support_P = (features_NPW.detach() * slope_NPW)[0].sum(-1)
    return _grid(support_P)


def attention_map(session: Session, example: Example) -> FloatArray:
    """How much the place of the answer attends to each place of the image, through all layers (grid, grid).

    Raises:
        DataError: The model has no grid of image tokens in its sequence, or does not tell its attention.
    """
    model, batch, *_ = _question(session, example)
    decoder = getattr(model.language, "model", None)
    if decoder is None or not hasattr(decoder, "set_attn_implementation"):
        raise DataError("the language model does not tell its attention; use method gradient")
    usual = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            read = decoder.base_model(
                inputs_embeds=model.embed(batch), attention_mask=batch.attention_BT, output_attentions=True
            )
    finally:
        decoder.set_attn_implementation(usual)
    if not read.attentions or read.attentions[0] is None:
        raise DataError("the language model does not tell its attention; use method gradient")
    rolled_TT = torch.eye(batch.ids_BT.shape[1])
    for attention_BHTT in read.attentions:
        mixed_TT = attention_BHTT[0].float().mean(0).cpu() + torch.eye(len(rolled_TT))
        rolled_TT = mixed_TT / mixed_TT.sum(-1, keepdim=True) @ rolled_TT
    return _grid(rolled_TT[-1][batch.is_image_BT[0].cpu()])


def _question(session: Session, example: Example) -> _Question:
    model, processor = session.model, session.processor
    if model.vision is None or model.cross_attention is not None or len(example.images) != 1:
        raise DataError("maps are made of models with one image in their sequence; leave the check out")
    if model.order is not None or getattr(model.language, "soft_prompt", None) is not None:
        raise DataError("maps are not made of models that mark the order of images, or have a soft prompt")
    right = processor.answer_ids(example, example.reference)[0]
    others = [processor.answer_ids(example, one)[0] for one in example.options if one != example.reference]
    if right in others:
        raise DataError(
            f"{example.source}:{example.id}: two options begin with the same token, so no map tells them apart"
        )
    batch = pad([processor.question(example)], image_id=processor.image_id, left=True).to(session.device)
    return _Question(model, batch, right, others)


def _grid(values_P: Tensor) -> FloatArray:
    """The values of an image's tokens as they lie on it; a first token that stands for the whole image is left out."""
    side = math.isqrt(len(values_P))
    if side * side != len(values_P) and math.isqrt(len(values_P) - 1) ** 2 == len(values_P) - 1:
        return _grid(values_P[1:])
    if side * side != len(values_P):
        raise DataError(f"{len(values_P)} tokens of an image are no square grid, so no map can be drawn of them")
    map_GG: FloatArray = values_P.reshape(side, side).double().cpu().numpy()
    return map_GG


_MAPS: Mapping[Method, Callable[[Session, Example], FloatArray]] = {
    "gradient": gradient_map,
    "attention": attention_map,
}
