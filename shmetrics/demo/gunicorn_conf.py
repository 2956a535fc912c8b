"""The demonstration's gunicorn configuration: four workers, and shmetrics' hooks."""

import shmetrics.workers.gunicorn
from shmetrics.demo import WORKERS

workers = WORKERS
worker_class = "sync"
loglevel = "error"

shmetrics.workers.gunicorn.install(globals())
