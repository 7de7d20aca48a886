# Two images from one file: `gateway` (the default) and `demo`, the transcriber that docker-compose.yml puts behind it.
#
#     docker build --tag tahoe-gateway .
#     docker build --tag tahoe-gateway-demo --target demo .
#
# The gateway runs as user 65532, without capabilities, on a read-only file system; /var/lib/tahoe-gateway is its state
# (the usage journal), /tmp may be a tmpfs:
#
#     docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#       --volume tahoe-state:/var/lib/tahoe-gateway --env-file gateway.env --publish 9200:9200 tahoe-gateway
#
# The tag below moves with Debian's security updates. For a build that can be repeated bit for bit give the digest too:
#
#     docker buildx imagetools inspect python:3.11-slim-bookworm --format '{{.Manifest.Digest}}'
#     docker build --build-arg PYTHON=3.11-slim-bookworm@sha256:... --tag tahoe-gateway .

# The version that the test suite runs on.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements-build.lock requirements-image.lock ./
# Without pip in it: what serves has no use for an installer.
RUN python3 -m venv --without-pip /opt/venv \
 && python3 -m pip --python /opt/venv/bin/python install --require-hashes --no-deps -r requirements-image.lock \
 && python3 -m venv /opt/builder \
 && /opt/builder/bin/pip install --require-hashes --no-deps -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY policies policies
COPY storage storage
COPY gateway gateway
RUN /opt/builder/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /dist . \
 && python3 -m pip --python /opt/venv/bin/python install --no-deps --no-index /dist/*.whl

FROM build AS build-demo
COPY requirements-image-demo.lock ./
RUN python3 -m pip --python /opt/venv/bin/python install --require-hashes --no-deps -r requirements-image-demo.lock

FROM python:${PYTHON} AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# -P and PYTHONSAFEPATH: a stray storage.py in the working directory must not hide ours.
ENV PATH=/opt/venv/bin:$PATH PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --gid 65532 gateway \
 && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gateway
WORKDIR /
STOPSIGNAL SIGTERM

FROM base AS demo
LABEL org.opencontainers.image.title="tahoe-gateway-demo" \
      org.opencontainers.image.description="The gateway's demo transcriber: real speech to text, English, small."
COPY --from=build-demo /opt/venv /opt/venv
USER 65532:65532
EXPOSE 9300
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-P", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9300/health', timeout=3)"]
ENTRYPOINT ["python", "-P", "-m", "gateway.demo.transcriber"]
CMD ["--host", "0.0.0.0", "--port", "9300"]

FROM base AS gateway
LABEL org.opencontainers.image.title="tahoe-gateway" \
      org.opencontainers.image.description="Authentication, limits and truthful audio metering for transcription services."
COPY --from=build /opt/venv /opt/venv
RUN install --directory --owner 65532 --group 65532 --mode 0700 /var/lib/tahoe-gateway
ENV GATEWAY_STATE_DIR=/var/lib/tahoe-gateway
VOLUME /var/lib/tahoe-gateway
USER 65532:65532
EXPOSE 9200 9201
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-P", "-m", "gateway", "healthcheck"]
ENTRYPOINT ["python", "-P", "-m", "gateway"]
CMD ["serve"]
