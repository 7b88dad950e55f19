"""Medical vision-language models: trained, compared with text-only baselines, and told the truth about."""

__version__ = "0.1.0"
