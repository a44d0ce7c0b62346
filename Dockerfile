# Two images: `coordinator` (docker-compose.yml) and `hospital` (docker-compose.hospital.yml).
# Before production, pin by a digest that you verified: --build-arg BASE=python:…@sha256:….
ARG BASE=python:3.11.15-slim-bookworm

FROM ${BASE} AS build
# Where packages come from: by default where pip looks. Give an index with CPU builds of torch as
# PIP_EXTRA_INDEX_URL for images without CUDA. Neither is kept in an image.
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/medpole
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY sml sml
COPY privacy privacy
COPY ledger ledger
COPY migrations migrations
COPY consortium consortium
COPY hospital_agent hospital_agent
COPY ui ui

FROM build AS build-coordinator
RUN /opt/medpole/bin/pip install --constraint constraints.txt '.[coordinator,portal]'

FROM build AS build-hospital
RUN /opt/medpole/bin/pip install --constraint constraints.txt '.[agent]'

# A root file system that can be read-only: state is under /var/lib/medpole, the rest in /tmp.
FROM ${BASE} AS runtime
RUN groupadd --gid 10001 medpole \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
      --shell /usr/sbin/nologin medpole \
 && install -d -m 0700 -o 10001 -g 10001 /var/lib/medpole
ENV PATH=/opt/medpole/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 RAY_USAGE_STATS_ENABLED=0
WORKDIR /var/lib/medpole
USER 10001:10001
STOPSIGNAL SIGTERM

FROM runtime AS coordinator
COPY --from=build-coordinator /opt/medpole /opt/medpole
ENV MEDPOLE_HOME=/var/lib/medpole
ENTRYPOINT ["consortium"]
CMD ["--help"]

FROM runtime AS hospital
COPY --from=build-hospital /opt/medpole /opt/medpole
ENV MEDPOLE_HOSPITAL=/var/lib/medpole
ENTRYPOINT ["hospital-agent"]
CMD ["start"]
