# Three images, one per process: --target api, worker or worker-ml. Each has the libraries of the one before and its own.

FROM python:3.13-slim-trixie AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

# hadolint ignore=DL3008
RUN apt-get update -q \
    && apt-get install -yq --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/*

# Migrations are looked for next to the package, so the source tree is the installation.
WORKDIR /srv/pixtools

COPY scripts/install-for-image /usr/local/bin/
COPY requirements-api.txt /tmp/
RUN python -m venv --without-pip /opt/venv \
    && install-for-image /tmp/requirements-api.txt /opt/api \
    && printf '%s\n' '#!/opt/venv/bin/python' 'import sys' 'from app.cli import main' 'sys.exit(main())' \
        >/opt/venv/bin/pixtools \
    && chmod +x /opt/venv/bin/pixtools

COPY LICENSE alembic.ini ./
COPY alembic alembic
COPY app app
COPY docs docs
COPY clients/python/pixtools_client pixtools_client
# Nothing can write bytecode later, and the copied files' times would not match it.
RUN python -m compileall -q --invalidation-mode unchecked-hash app alembic pixtools_client


FROM builder AS builder-worker
COPY requirements-worker.txt /tmp/
RUN install-for-image /tmp/requirements-worker.txt /opt/worker


FROM builder-worker AS builder-ml
COPY requirements.txt /tmp/
RUN install-for-image /tmp/requirements.txt /opt/ml


FROM python:3.13-slim-trixie AS runtime

RUN groupadd --gid 10001 pixtools \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /srv/pixtools \
        --shell /usr/sbin/nologin pixtools \
    && install -d -o pixtools -g pixtools -m 700 /var/lib/pixtools /var/spool/pixtools

COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /srv/pixtools /srv/pixtools

# The spool takes whole images: mount a disk there, not memory. glibc's default of 8 arenas per core multiplies what
# libvips' threads hold.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/srv/pixtools \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    MALLOC_ARENA_MAX=2 \
    TMPDIR=/var/spool/pixtools \
    PIXTOOLS_SPOOL_DIR=/var/spool/pixtools \
    PIXTOOLS_DATA_DIR=/var/lib/pixtools \
    PIXTOOLS_HOST=0.0.0.0 \
    PIXTOOLS_PORT=8000

WORKDIR /srv/pixtools
# By number: Kubernetes' runAsNonRoot cannot check a name.
USER 10001:10001
STOPSIGNAL SIGTERM

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="PixTools" \
      org.opencontainers.image.description="Self-hosted, asynchronous image processing" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"


FROM runtime AS api
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", "\
import http.client, os, sys\n\
connection = http.client.HTTPConnection('127.0.0.1', int(os.environ['PIXTOOLS_PORT']), timeout=4)\n\
connection.request('GET', '/health/live')\n\
sys.exit(connection.getresponse().status != 200)"]
CMD ["pixtools", "api"]


FROM runtime AS worker
COPY --from=builder-worker /opt/worker /opt/venv
# Where the processes of one worker keep their metrics together.
ENV PROMETHEUS_MULTIPROC_DIR=/tmp/pixtools-metrics \
    PIXTOOLS_METRICS_PORT=8001
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["python", "-c", "\
import http.client, os, sys\n\
connection = http.client.HTTPConnection('127.0.0.1', int(os.environ['PIXTOOLS_METRICS_PORT']), timeout=8)\n\
connection.request('GET', '/metrics')\n\
sys.exit(connection.getresponse().status != 200)"]
CMD ["celery", "-A", "app.tasks.celery_app", "worker", "-n", "worker@%h", "-Q", "default_queue", "-c", "2", "--spare", "--without-gossip", "--without-mingle"]


FROM runtime AS worker-ml
COPY --from=builder-worker /opt/worker /opt/venv
COPY --from=builder-ml /opt/ml /opt/venv
COPY models models
ENV PROMETHEUS_MULTIPROC_DIR=/tmp/pixtools-metrics \
    PIXTOOLS_METRICS_PORT=8001
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["python", "-c", "\
import http.client, os, sys\n\
connection = http.client.HTTPConnection('127.0.0.1', int(os.environ['PIXTOOLS_METRICS_PORT']), timeout=8)\n\
connection.request('GET', '/metrics')\n\
sys.exit(connection.getresponse().status != 200)"]
CMD ["celery", "-A", "app.tasks.celery_app", "worker", "-n", "ml@%h", "-Q", "ml_inference_queue", "-P", "prefork", "--concurrency=1", "--without-gossip", "--without-mingle"]
