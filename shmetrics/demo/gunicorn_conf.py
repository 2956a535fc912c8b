"""The demonstration's gunicorn configuration: four workers, and shmetrics' hooks."""

import shmetrics.workers.gunicorn
from shmetrics.demo import WORKERS

workers = WORKERS
worker_class = "sync"
loglevel = "error"
control_socket_disable = True  # a socket in the home directory, shared with the user's own servers (gunicorn 25+)

shmetrics.workers.gunicorn.install(globals())
