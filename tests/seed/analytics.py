from shmetrics import PerformanceMetrics

shared_metrics = PerformanceMetrics()
for _ in range(50):
    shared_metrics.update_inference(inference_time=0.01, batch_size=8, preprocessing_time=0.008)
    shared_metrics.record_cache_miss()

from shmetrics import PerformanceAnalyzer
import matplotlib.pyplot as plt
import pandas as pd

# Create performance analyzer
analyzer = PerformanceAnalyzer(shared_metrics)

# Generate comprehensive performance analysis
analysis = analyzer.analyze_performance_trends()

print("Performance Trend Analysis:")
print(f"  Throughput trend: {analysis['throughput_trend']}")  # increasing/decreasing/stable
print(f"  Latency trend: {analysis['latency_trend']}")
print(f"  Error trend: {analysis['error_trend']}")
print(f"  System stability: {analysis['stability_rating']}")

# Performance bottleneck analysis
bottlenecks = analyzer.identify_bottlenecks()
print("\nBottleneck Analysis:")
for bottleneck in bottlenecks:
    print(f"  {bottleneck['component']}: {bottleneck['impact']} impact")
    print(f"    Recommendation: {bottleneck['recommendation']}")

# Generate performance dashboard data
dashboard_data = analyzer.generate_dashboard_data()

# Export to different formats
# JSON for APIs
json_export = analyzer.export_json()
print(f"JSON export size: {len(json_export)} characters")

# CSV for analysis
csv_export = analyzer.export_csv()
print(f"CSV export: {len(csv_export.split(','))} columns")

# Prometheus metrics
prometheus_export = analyzer.export_prometheus()
print("Prometheus metrics:")
print(prometheus_export[:500] + "..." if len(prometheus_export) > 500 else prometheus_export)
