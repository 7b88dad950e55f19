# The page and the OpenAI-compatible endpoint of one model. Nothing secret and no model is inside: the token comes from
# the environment and the model from a folder that is mounted. How to start it: docs/deployment.md.
FROM python:3.12-slim-bookworm AS build
# PIP_EXTRA_INDEX_URL may name an index of smaller builds of torch, for processors alone.
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY mmmed ./mmmed
RUN python -m venv /opt/mmmed && /opt/mmmed/bin/pip install --no-cache-dir ".[serve]"

FROM python:3.12-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /state --shell /usr/sbin/nologin mmmed \
    && install -d -o mmmed -g mmmed -m 0700 /state
COPY --from=build /opt/mmmed /opt/mmmed
ENV PATH=/opt/mmmed/bin:$PATH \
    HOME=/state \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OMP_WAIT_POLICY=passive \
    HF_HUB_OFFLINE=1 \
    WANDB_MODE=offline
USER 10001:10001
WORKDIR /state
VOLUME /state
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/health', timeout=4).read()"]
ENTRYPOINT ["mmmed"]
# All addresses of the container, which is reached only through what is published; it then asks for MMMED_TOKEN.
CMD ["demo", "--checkpoint", "/model", "--host", "0.0.0.0", "--port", "7860"]
