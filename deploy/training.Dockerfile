# The image with torch, for hours rather than for ever: training, exporting, adopting, retraining.
#   docker build -f deploy/training.Dockerfile -t dqn-training .
#   docker run --rm -v dqn-data:/data dqn-training train --preset cartpole --out /data/training/mine
# TORCH_INDEX is PyTorch's index of CPU builds; https://download.pytorch.org/whl/cu128 has CUDA's.
FROM python:3.11-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS="service recorder training exporter client"
WORKDIR /build
RUN python -m venv /opt/dqn
ENV PATH=/opt/dqn/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

# Box2D's wheel is a source archive on some platforms, and needs these to build.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ swig \
    && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml deploy/requirements.py ./
RUN python requirements.py pyproject.toml $EXTRAS > requirements.txt \
    && pip install --quiet --extra-index-url "$TORCH_INDEX" "$(grep '^torch==' requirements.txt)" \
    && pip install --quiet --requirement requirements.txt

COPY README.md LICENSE ./
COPY . .
RUN pip install --quiet --no-deps . && pip uninstall --quiet --yes pip setuptools

FROM python:3.11-slim
COPY --from=build /opt/dqn /opt/dqn
ENV PATH=/opt/dqn/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin dqn \
    && install --directory --owner dqn --group dqn /data
USER 10001:10001
WORKDIR /data
VOLUME /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["dqn"]
CMD ["--help"]
