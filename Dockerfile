# ostcal with all that a night needs: cameras, the simulated observatory, clusters, raw files, object stores.
#   docker build --tag ostcal .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/data" ostcal masters frames
FROM python:3.11-slim-bookworm AS build

WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY ostcal ostcal
# Layers keep times of files in whole seconds, and compiled kernels belong to the time of their source.
RUN python -m venv /opt/ostcal \
    && /opt/ostcal/bin/pip install --no-cache-dir --no-compile '.[capture,cluster,raw,s3]' \
    && find /opt/ostcal -name '*.py' -exec touch --date=@1700000000 '{}' + \
    && /opt/ostcal/bin/python -m compileall -q /opt/ostcal/lib

# For the processor of the machine that builds the image; on another kind they are compiled again, once per container.
# The folder is writable for every --user, or numba would not look into it.
COPY scripts/compile_kernels.py ./
ENV NUMBA_CACHE_DIR=/opt/ostcal/kernels
RUN /opt/ostcal/bin/python compile_kernels.py \
    && chmod -R a+rwX /opt/ostcal/kernels

FROM python:3.11-slim-bookworm

RUN useradd --uid 10001 ostcal \
    && install --directory --owner=ostcal --group=ostcal /data
COPY --from=build /opt/ostcal /opt/ostcal
ENV PATH=/opt/ostcal/bin:$PATH \
    NUMBA_CACHE_DIR=/opt/ostcal/kernels

USER 10001
WORKDIR /data
VOLUME /data
ENTRYPOINT ["ostcal"]
CMD ["--help"]
