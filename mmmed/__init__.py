"""Medical vision-language models: trained, compared with text-only baselines, and told the truth about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmmed.version import VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from mmmed.inference.session import Session

__version__ = VERSION


def load(checkpoint: str | Path, *, device: str | None = None, chat: bool = False) -> Session:
    """Open a model to ask it: ours, a LLaVA of another project, or a language model; see `mmmed.inference.loading`.

    Args:
        checkpoint: Path, hub id, or name of `mmmed weights list`.
        device: Where to compute; None takes a GPU where there is one.
        chat: Put questions to a plain language model in its tokenizer's chat template.
    """
    # Imported here, so that `import mmmed` stays light.
    from mmmed.inference.loading import load as open_checkpoint

    return open_checkpoint(checkpoint, device=device, chat=chat)
