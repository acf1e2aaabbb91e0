# after `make packages`, which makes dist/; untested, as no machine with docker was at hand:
# docker build -t memae . && docker run --rm -v "$PWD:/data" memae score /data/flows.model /data/today.csv
FROM python:3.11-slim
COPY constraints.txt /tmp/
COPY dist/*.whl /tmp/
RUN pip install --no-cache-dir -c /tmp/constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu \
    "$(ls /tmp/memae-*.whl)[video,openvino,serve]" && rm /tmp/*.whl
RUN useradd --create-home memae
USER memae
WORKDIR /data
ENTRYPOINT ["memae"]
