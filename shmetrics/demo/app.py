"""The served application: ``GET /predict?image=SEED&batch=N&precision=float32|int8`` answers with the classes.

It is what a user's own service looks like: a WSGI callable that says what it knows about a request, wrapped once.
"""

import json
import time
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import parse_qs

from shmetrics.demo import MAX_WORKERS, WINDOW
from shmetrics.demo.model import Batch, Model, preprocess, quantize
from shmetrics.metrics import PerformanceMetrics
from shmetrics.workers.wsgi import ENVIRON_KEY, Environ, MetricsMiddleware, StartResponse

metrics = PerformanceMetrics(window_size=WINDOW, max_workers=MAX_WORKERS)
model = Model()


@lru_cache(maxsize=128)
def prepared(seed: int, batch_size: int) -> Batch:
    """The preprocessed images, kept for a while."""
    return preprocess(seed, batch_size)


def predict(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answer one request; a request without an image is a server error, so that there are some."""
    query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    if "image" not in query:
        start_response("500 Internal Server Error", [("Content-Type", "text/plain"), ("Content-Length", "9")])
        return [b"no image\n"]
    request = environ[ENVIRON_KEY]
    request.batch_size = int(query.get("batch", "1"))

    start = time.perf_counter()
    hits = prepared.cache_info().hits
    images = prepared(int(query["image"]), request.batch_size)
    if prepared.cache_info().hits > hits:
        metrics.record_cache_hit()
    else:
        metrics.record_cache_miss()
    request.preprocessing_time = time.perf_counter() - start

    if query.get("precision") == "int8":
        start = time.perf_counter()
        small, scale = quantize(images)
        request.quantization_time = time.perf_counter() - start
        classes = model.predict_int8(small, scale)
    else:
        classes = model.predict(images)

    answer = json.dumps({"classes": classes}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]


app = MetricsMiddleware(predict, metrics)
