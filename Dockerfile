# Not built here, as no machine with docker was at hand. PIP_EXTRA_INDEX_URL may name an index with the CPU build of torch.
#   docker build --build-arg PIP_EXTRA_INDEX_URL=... -t memae .
#   docker run --rm -v "$PWD:/data" memae score flows.model today.csv --out scores.csv
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends g++
COPY pyproject.toml setup.py README.md LICENSE /memae/
COPY src /memae/src
RUN pip wheel --no-deps --wheel-dir /dist /memae

FROM python:3.11-slim
ARG PIP_EXTRA_INDEX_URL
COPY constraints.txt /tmp/
COPY --from=build /dist /dist
RUN pip install --no-cache-dir -c /tmp/constraints.txt "$(ls /dist/*.whl)[video,openvino,serve,live,hub]"
RUN useradd --create-home memae
USER memae
WORKDIR /data
ENTRYPOINT ["memae"]
