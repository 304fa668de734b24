# monitor as a container: not root, and its root file system may be read-only. State lies in /var/lib/monitor.
#
#   docker build -t monitor .
#   docker build -t monitor:panns --build-arg EXTRAS=panns .         # with torch, for the PANNs embedder
#   docker run --rm --read-only --tmpfs /tmp monitor demo            # the whole job, on streams of its own
#
# docker-compose.yml runs it beside real servers. --build-arg PIP_EXTRA_INDEX_URL=... names a further package index,
# such as the one of PyTorch's builds without CUDA, which are gigabytes smaller.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ARG EXTRAS=""
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
RUN python -m venv /opt/monitor && /opt/monitor/bin/pip uninstall --yes setuptools
COPY LICENSE README.md pyproject.toml ./
COPY tests/constraints.txt tests/
COPY monitor monitor
RUN /opt/monitor/bin/pip install --constraint tests/constraints.txt ".${EXTRAS:+[${EXTRAS}]}" \
    && /opt/monitor/bin/pip uninstall --yes pip

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="monitor" \
    org.opencontainers.image.description="Which of your recordings does each live stream play, since when, and may it?" \
    org.opencontainers.image.licenses="Apache-2.0"
# tini reaps what outlives its parent, such as the keeper of the embedded servers. PostgreSQL wants a user with a name.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 monitor \
    && useradd --uid 10001 --gid monitor --home-dir /var/lib/monitor --no-create-home --shell /usr/sbin/nologin monitor \
    && install --directory --owner monitor --group monitor --mode 0700 /var/lib/monitor
COPY --from=build /opt/monitor /opt/monitor
ENV MONITOR_DATA_DIR=/var/lib/monitor PATH=/opt/monitor/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/monitor
VOLUME /var/lib/monitor
EXPOSE 8710
HEALTHCHECK --interval=15s --timeout=5s --start-period=3m --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8710/-/healthy', timeout=4)"]
ENTRYPOINT ["tini", "--", "monitor"]
CMD ["run", "-c", "/etc/monitor/monitor.yaml"]
