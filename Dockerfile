# The suite with the exact versions of requirements.txt, as a user who is not root:
#   docker build --target cpu -t ogm-bench .     docker run --rm -v "$PWD/results:/suite/results" ogm-bench list methods
#   docker build --target cuda -t ogm-bench .    docker run --rm --gpus all ...
# Both have the same wheels, whose hashes are checked: torch's bring CUDA's libraries along. The second lets
# NVIDIA's container toolkit hand the host's driver in.
FROM python:3.11-slim-bookworm AS cpu

# make does the set-up; git tells which commit made a record. Debian keeps one version of each, so they are not pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 suite \
    && install --directory --owner suite --group suite /suite
USER 1000
WORKDIR /suite

# The environment first: it is made again only when the versions change.
COPY --chown=suite:suite Makefile requirements.txt ./
RUN make setup
COPY --chown=suite:suite . .

ENTRYPOINT [".venv/bin/python", "-m", "benchmarks"]
CMD ["--help"]

FROM cpu AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
