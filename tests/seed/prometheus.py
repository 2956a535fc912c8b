from shmetrics import PerformanceMetrics

shared_metrics = PerformanceMetrics()

from shmetrics import PrometheusExporter
from prometheus_client import start_http_server

# Create Prometheus exporter
prometheus_exporter = PrometheusExporter(shared_metrics)

# Start Prometheus metrics server
start_http_server(8000)
print("Prometheus metrics available at http://localhost:8000/metrics")

# The exporter automatically creates these metrics:
# - inference_duration_seconds (histogram)
# - batch_size_total (histogram) 
# - requests_total (counter)
# - errors_total (counter)
# - cache_hits_total (counter)
# - cache_misses_total (counter)
# - throughput_requests_per_second (gauge)

# Custom Prometheus metrics
prometheus_exporter.add_custom_metric(
    "model_memory_usage_bytes",
    "Memory usage of loaded models",
    metric_type="gauge"
)

# Update custom metrics
prometheus_exporter.set_custom_metric("model_memory_usage_bytes", 1024*1024*512)  # 512MB
