from shmetrics import PerformanceMetrics

shared_metrics = PerformanceMetrics()

from shmetrics import CustomMetrics

# Create custom metrics tracker
custom_metrics = CustomMetrics(shared_metrics)

# Define custom metrics
custom_metrics.define_metric(
    name="model_accuracy",
    metric_type="gauge",
    description="Current model accuracy",
    unit="percentage"
)

custom_metrics.define_metric(
    name="data_freshness",
    metric_type="histogram",
    description="Age of training data",
    unit="hours",
    buckets=[1, 6, 12, 24, 48, 168]  # 1h, 6h, 12h, 1d, 2d, 1w
)

custom_metrics.define_metric(
    name="feature_drift",
    metric_type="counter",
    description="Feature drift detection events",
    labels=["feature_name", "drift_type"]
)

# Update custom metrics
custom_metrics.update_gauge("model_accuracy", 0.945)
custom_metrics.observe_histogram("data_freshness", 8.5)  # 8.5 hours
custom_metrics.increment_counter("feature_drift", labels={"feature_name": "age", "drift_type": "statistical"})

# Get custom metrics
custom_stats = custom_metrics.get_all_metrics()
print("Custom Metrics:")
for metric_name, metric_data in custom_stats.items():
    print(f"  {metric_name}: {metric_data}")
