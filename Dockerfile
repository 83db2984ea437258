# Code server, runs, webserver and daemon of docs/deployment.md, from one image:
#   docker build -t dedup-assets .
# For NVIDIA GPUs, whose CUDA libraries come as wheels with the extra:
#   docker build -t dedup-assets --build-arg EXTRAS=postgres,k8s,gpu-cu12 .
# BASE may be an image of CUDA instead, such as nvidia/cuda:12.9.1-base-ubuntu24.04.
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG EXTRAS=postgres,k8s

# Only in a base without Python.
RUN command -v python3 >/dev/null || ( \
    apt-get update && apt-get install -y --no-install-recommends python3-venv ca-certificates \
    && rm -rf /var/lib/apt/lists/* )

RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# In place, not into site-packages: Dagster finds dedup_assets/defs from pyproject.toml.
WORKDIR /opt/dedup-assets
COPY pyproject.toml README.md LICENSE ./
COPY dedup_assets dedup_assets
RUN pip install --no-cache-dir -e ".[${EXTRAS}]"

RUN useradd --create-home --uid 10001 dagster && chown dagster . \
    && install -d -o dagster /opt/dagster/dagster_home
USER dagster
EXPOSE 4000
CMD ["dagster", "code-server", "start", "-h", "0.0.0.0", "-p", "4000", "-m", "dedup_assets.definitions", "--location-name", "dedup_assets"]
