import time

from shmetrics import PerformanceMetrics

shared_metrics = PerformanceMetrics()

from shmetrics import PerformanceAlerting
import logging

# Configure alerting system
alerting = PerformanceAlerting(
    metrics=shared_metrics,
    alert_thresholds={
        'error_rate_threshold': 0.05,       # 5% error rate
        'latency_p95_threshold': 0.1,       # 100ms P95 latency
        'throughput_min_threshold': 100,    # 100 req/sec minimum
        'cache_hit_rate_threshold': 0.8     # 80% cache hit rate
    },
    alert_window_size=50,  # Check last 50 measurements
    cooldown_period=300    # 5 minutes between same alert types
)

# Custom alert handlers
def critical_error_handler(alert):
    """Handle critical performance alerts"""
    logging.critical(f"CRITICAL ALERT: {alert['message']}")
    # Send to monitoring system, page ops team, etc.
    print(f"🚨 CRITICAL: {alert['message']}")
    print(f"   Current value: {alert['current_value']}")
    print(f"   Threshold: {alert['threshold']}")

def warning_handler(alert):
    """Handle warning alerts"""
    logging.warning(f"WARNING: {alert['message']}")
    print(f"⚠️  WARNING: {alert['message']}")

def info_handler(alert):
    """Handle informational alerts"""
    logging.info(f"INFO: {alert['message']}")
    print(f"ℹ️  INFO: {alert['message']}")

# Register alert handlers
alerting.register_handler('critical', critical_error_handler)
alerting.register_handler('warning', warning_handler)
alerting.register_handler('info', info_handler)

# Start alert monitoring
alerting.start_monitoring()

# Simulate performance degradation
def simulate_performance_issues():
    """Simulate various performance issues to trigger alerts"""
    
    # Simulate high error rate
    for _ in range(20):
        shared_metrics.record_error()
        time.sleep(0.1)
    
    # Simulate slow requests
    for _ in range(10):
        shared_metrics.update_inference(
            inference_time=0.2,  # Very slow
            batch_size=1,
            preprocessing_time=0.05,
            quantization_time=0.01
        )
        time.sleep(0.1)
    
    # Simulate cache misses
    for _ in range(30):
        shared_metrics.record_cache_miss()
        time.sleep(0.05)

# Run performance issue simulation
simulate_performance_issues()

# Stop alert monitoring
time.sleep(2)  # Let alerts process
alerting.stop_monitoring()

# Get alert summary
alert_summary = alerting.get_alert_summary()
print("\nAlert Summary:")
print(f"  Total alerts: {alert_summary['total_alerts']}")
print(f"  Critical alerts: {alert_summary['critical_alerts']}")
print(f"  Warning alerts: {alert_summary['warning_alerts']}")
print(f"  Most frequent alert: {alert_summary['most_frequent_alert']}")
