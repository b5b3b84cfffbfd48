# The suite with exact versions, whose hashes are checked, as a user who is not root:
#   docker build --target cpu -t ogm-bench .     docker run --rm -v "$PWD/results:/suite/results" ogm-bench list methods
#   docker build --target cuda -t ogm-bench .    docker run --rm --gpus all ...
# The first has torch for CPUs alone. The second has CUDA's libraries, and lets NVIDIA's container toolkit hand the host's
# driver in.
FROM python:3.11-slim-bookworm AS base

# make does the set-up; git tells which commit made a record. Debian keeps one version of each, so they are not pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 suite \
    && install --directory --owner suite --group suite /suite
USER 1000
WORKDIR /suite

ENTRYPOINT [".venv/bin/python", "-m", "benchmarks"]
CMD ["--help"]

# The environment before the code: it is made again only when the versions change.
COPY --chown=suite:suite Makefile requirements.txt requirements-cpu.txt ./
COPY --chown=suite:suite benchmarks/torch_build.py benchmarks/

FROM base AS cpu
RUN make setup TORCH_BUILD=cpu
COPY --chown=suite:suite . .

FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN make setup TORCH_BUILD=cuda
COPY --chown=suite:suite . .
