"""Fixtures shared by all tests: development data, and a model small enough to be built in every test."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from mmmed.records import IMAGE_PLACEHOLDER, Example, Turn

if TYPE_CHECKING:
    from mmmed.models.contrastive import ContrastiveModel
    from mmmed.models.vlm import VisionLanguageModel
    from mmmed.processing.processor import Processor

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = (
    "user assistant system Is there a pleural effusion on this film ? yes no Where does it lie left right "
    "What is shown Normal heart size . Question: Answer: USER: ASSISTANT: [INST] [/INST] cardiomegaly absent present"
)
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}

BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


@dataclass(frozen=True)
class Film:
    """A picture in memory; its shade tells films apart."""

    shade: int
    width: int = 40
    height: int = 30

    @property
    def name(self) -> str:
        return f"film:{self.shade}"

    def open(self) -> Image.Image:
        film = Image.linear_gradient("L").resize((self.width, self.height))
        return film.point([(value + self.shade * 37) % 256 for value in range(256)])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless it is asked for."""
    if not os.environ.get("MMMED_LONG"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; set MMMED_LONG=1 to run it"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Root of the real development data; tests that need it skip where it is absent."""
    root = Path(os.environ.get("MMMED_SHARED", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no development data at {root}; set MMMED_SHARED to its folder")
    return root


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer with a ChatML template, in a folder as transformers writes it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 3, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|im_end|>", pad_token="<pad>", chat_template=CHATML
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture
def make_model(tokenizer_folder: Path) -> Callable[..., VisionLanguageModel]:
    """Makes tiny models of random weights: Llama, and with `vision` CLIP and an MLP projector in front of it."""
    import torch

    from mmmed.models.encoders.transformers import TransformersEncoder
    from mmmed.models.language import CausalLanguageModel
    from mmmed.models.projector import MLPProjector
    from mmmed.models.vlm import VisionLanguageModel

    def make(
        *,
        seed: int = 0,
        vision: bool = True,
        select: Any = "patch",
        adapter: dict[str, Any] | None = None,
        attention: str | None = None,
        **settings: Any,
    ) -> VisionLanguageModel:
        torch.manual_seed(seed)
        config = LLAMA | {"vocab_size": 420} | settings
        language = CausalLanguageModel(
            None, config=config, tokenizer=str(tokenizer_folder), adapter=adapter, attention=attention
        )
        if not vision:
            return VisionLanguageModel(language, None, None).eval()
        encoder = TransformersEncoder(weights=None, config=CLIP, layer=-2, select=select)
        return VisionLanguageModel(language, encoder, MLPProjector).eval()

    return make


@pytest.fixture
def make_towers(tokenizer_folder: Path) -> Callable[..., ContrastiveModel]:
    """Makes tiny contrastive models of random weights: CLIP's image encoder beside BERT, or beside Llama."""
    import torch

    from mmmed.models.contrastive import ContrastiveModel
    from mmmed.models.encoders.transformers import TransformersEncoder
    from mmmed.models.language import CausalLanguageModel
    from mmmed.models.text import LanguageText, TransformerText

    def make(*, seed: int = 0, llama: bool = False, dropout: float = 0.0, **settings: Any) -> ContrastiveModel:
        torch.manual_seed(seed)
        encoder = TransformersEncoder(weights=None, config=CLIP, layer=-2)
        if llama:
            config = LLAMA | {"vocab_size": 420}
            text: Any = LanguageText(CausalLanguageModel(None, config=config, tokenizer=str(tokenizer_folder)))
        else:
            config = BERT | {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
            text = TransformerText(None, config=config, tokenizer=str(tokenizer_folder))
        return ContrastiveModel(encoder, text, width=16, **settings).eval()

    return make


@pytest.fixture
def make_processor() -> Callable[..., Processor]:
    """Makes the processor of a model."""
    from mmmed.processing.processor import Processor

    def make(model: VisionLanguageModel, **settings: Any) -> Processor:
        return Processor(
            model.language.tokenizer, transform=model.transform, tokens_per_image=model.tokens_per_image, **settings
        )

    return make


def ask(id: str, question: str, answer: str, *shades: int, **settings: Any) -> Example:
    """One question about films of these shades."""
    text = f"{IMAGE_PLACEHOLDER}\n" * len(shades) + question
    settings = {"patient": f"patient {shades}", "source": "phantom"} | settings
    return Example(
        id=id,
        turns=(Turn("user", text), Turn("assistant", answer)),
        images=tuple(Film(shade) for shade in shades),
        **settings,
    )


@pytest.fixture
def make_example() -> Callable[..., Example]:
    """Makes one question about films: `make_example("id", "question", "answer", *shades)`."""
    return ask


@pytest.fixture
def examples() -> list[Example]:
    """Closed and open questions about no, one and two films, with options of one token and of several."""
    yes_no, sides = ("yes", "no"), ("left lung", "right", "left and right")
    return [
        ask("effusion", "Is there a pleural effusion?", "yes", 1, options=yes_no),
        ask("side", "Where does it lie?", "left and right", 1, options=sides),
        ask("both", "Is there cardiomegaly on this film?", "no", 2, 3, options=yes_no),
        ask("again", "Is there a pleural effusion?", "no", 2, options=yes_no),
        ask("text", "Is a normal heart size normal?", "yes", options=yes_no),
        ask("report", "What is shown?", "Normal heart size. no effusion.", 3),
    ]
