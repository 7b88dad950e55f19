"""The commands that put a model behind a page."""

from __future__ import annotations

from mmmed.errors import ConfigError


def demo(checkpoint: str, host: str = "127.0.0.1", port: int = 7860, names: str = "") -> None:
    """Open a local page on which a model is asked about pictures.

    Args:
        checkpoint: Folder of a run or its `model` folder, or a LLaVA of transformers, by folder or hub name.
        host: Address to listen on; anything but this machine's own needs accounts or a token (`MMMED_TOKEN`).
        port: Port to listen on; 0 takes a free one.
        names: Other host names that the server answers to, such as that of a proxy, with commas between.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"the page needs {error.name}; install it with: pip install 'mmmed[serve]'") from error
    from mmmed.serving.demo import demo_part
    from mmmed.serving.web.application import make_application
    from mmmed.serving.web.server import serve
    from mmmed.serving.web.settings import Settings

    settings = Settings(host=host, port=port, names=tuple(name for one in names.split(",") if (name := one.strip())))
    serve(make_application(settings, [demo_part(checkpoint)]), settings)
