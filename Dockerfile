# syntax=docker/dockerfile:1
# The image of one worker: Debian 12, GStreamer, ONNX Runtime, the program and nothing to build with.
#   docker build -t eyewitness .
#   docker run --rm eyewitness doctor
# Debian packages come as they are on the day, with their security updates; what else is fetched is pinned.
# It runs as 10001, with a root that may be read-only: it writes to /var/lib/eyewitness and /tmp alone.
ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-slim-bookworm AS build
# hadolint ignore=DL3008
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked \
    apt-get update && apt-get install -y --no-install-recommends \
    build-essential clang libclang-dev cmake pkg-config libssl-dev libzstd-dev zlib1g-dev \
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstreamer-plugins-bad1.0-dev libgstrtspserver-1.0-dev
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY base base
COPY ingest ingest
COPY inference inference
COPY sinks sinks
COPY examples examples
COPY media media
COPY models models
COPY src src
# The tests' entry, because the manifest names it.
COPY tests/main.rs tests/main.rs
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin eyewitness && cp target/release/eyewitness /usr/local/bin/eyewitness

# The library out of PyPI's wheel, by its checksum: the same as scripts/setup.sh takes.
FROM debian:bookworm-slim AS onnxruntime
ARG ORT_VERSION=1.31.1
SHELL ["/bin/bash", "-eu", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked \
    apt-get update && apt-get install -y --no-install-recommends ca-certificates python3-pip unzip
WORKDIR /ort
RUN arch=$(uname -m); \
    case "$arch" in \
      x86_64)  lib_sha=fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3 ;; \
      aarch64) lib_sha=8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467 ;; \
      *) echo "no pinned ONNX Runtime for $arch" >&2; exit 1 ;; \
    esac; \
    python3 -m pip download --no-cache-dir --no-deps --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 \
      --platform "manylinux_2_28_$arch" --dest wheel "onnxruntime==$ORT_VERSION"; \
    unzip -q -j wheel/*.whl "onnxruntime/capi/libonnxruntime.so.$ORT_VERSION" onnxruntime/LICENSE onnxruntime/ThirdPartyNotices.txt -d lib; \
    echo "$lib_sha  lib/libonnxruntime.so.$ORT_VERSION" | sha256sum --check; \
    chmod 0644 lib/*

FROM debian:bookworm-slim
ARG ORT_VERSION=1.31.1
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="eyewitness" \
      org.opencontainers.image.description="Attach a camera or any live stream; detections, captions and alerts arrive on Kafka" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# GStreamer's sources, parsers and decoders without its tools; TLS for its HTTP and for RTSP.
# hadolint ignore=DL3008
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked \
    apt-get update && apt-get install -y --no-install-recommends \
    ca-certificates glib-networking gstreamer1.0-libav gstreamer1.0-plugins-bad gstreamer1.0-plugins-base \
    gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly libgstreamer-plugins-bad1.0-0 libgstreamer-plugins-base1.0-0 \
    libgstreamer1.0-0 libgstrtspserver-1.0-0 libssl3 libstdc++6 \
    && groupadd --gid 10001 eyewitness \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/eyewitness --create-home --shell /usr/sbin/nologin eyewitness
COPY --from=onnxruntime /ort/lib /usr/local/lib/onnxruntime
COPY --from=build /usr/local/bin/eyewitness /usr/local/bin/eyewitness
COPY LICENSE /usr/share/doc/eyewitness/LICENSE
COPY models/licenses /usr/share/doc/eyewitness/models
# GStreamer's list of plugins is made here, so that no start has to, nor to write one.
ENV GST_REGISTRY=/usr/local/share/eyewitness/gstreamer-registry.bin \
    GST_REGISTRY_FORK=no \
    ORT_DYLIB_PATH=/usr/local/lib/onnxruntime/libonnxruntime.so.${ORT_VERSION} \
    EYEWITNESS_MODELS=/var/lib/eyewitness/models
RUN mkdir -p /usr/local/share/eyewitness && eyewitness doctor && chmod 0644 "$GST_REGISTRY"
ENV GST_REGISTRY_UPDATE=no
USER 10001:10001
WORKDIR /var/lib/eyewitness
EXPOSE 8642
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/eyewitness"]
CMD ["run", "--config", "/etc/eyewitness/config/eyewitness.toml"]
