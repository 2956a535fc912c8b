import logging

from shmetrics import PerformanceMetrics

# Choose appropriate window sizes based on use case
realtime_metrics = PerformanceMetrics(window_size=100)    # Real-time monitoring
shortterm_metrics = PerformanceMetrics(window_size=1000)  # Short-term trends  
longterm_metrics = PerformanceMetrics(window_size=10000)  # Long-term analysis

# Always use thread-safe updates in multi-threaded environments
def safe_metric_update(metrics, inference_time, batch_size):
    """Thread-safe metric update with error handling"""
    try:
        metrics.update_inference(inference_time, batch_size)
    except Exception as e:
        logging.error(f"Failed to update metrics: {e}")
        # Don't let metric failures break the main application

# Minimize performance impact of metrics collection
class LightweightMetrics(PerformanceMetrics):
    """Lightweight metrics for high-frequency operations"""
    
    def __init__(self):
        super().__init__(
            window_size=50,           # Smaller window
            enable_detailed_stats=False,  # Disable expensive calculations
            track_percentiles=False       # Disable percentile tracking
        )
    
    def quick_update(self, inference_time):
        """Minimal overhead update"""
        with self.lock:
            if len(self.inference_times) >= self.window_size:
                self.inference_times.pop(0)
            self.inference_times.append(inference_time)
            self.total_requests += 1

safe_metric_update(realtime_metrics, 0.01, 4)
light = LightweightMetrics()
for _ in range(60):
    light.quick_update(0.002)
print(light.get_statistics()["total_requests"])
