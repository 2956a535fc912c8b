from shmetrics import PerformanceMetrics
import time
import threading
import numpy as np

# Initialize performance metrics tracker
metrics = PerformanceMetrics(
    window_size=1000,
    enable_detailed_stats=True,
    track_percentiles=True
)

# Example: Tracking inference performance
def simulate_inference_workload():
    """Simulate ML inference with performance tracking"""
    
    for i in range(100):
        # Simulate preprocessing
        preprocessing_start = time.time()
        time.sleep(0.001)  # 1ms preprocessing
        preprocessing_time = time.time() - preprocessing_start
        
        # Simulate inference
        inference_start = time.time()
        batch_size = np.random.randint(1, 64)  # Variable batch size
        time.sleep(0.01 * batch_size / 32)  # Inference time scales with batch size
        inference_time = time.time() - inference_start
        
        # Simulate quantization (optional)
        quantization_time = 0.0
        if np.random.random() > 0.5:  # 50% of requests use quantization
            quantization_start = time.time()
            time.sleep(0.0005)  # 0.5ms quantization
            quantization_time = time.time() - quantization_start
        
        # Update metrics
        metrics.update_inference(
            inference_time=inference_time,
            batch_size=batch_size,
            preprocessing_time=preprocessing_time,
            quantization_time=quantization_time
        )
        
        # Occasionally record errors
        if np.random.random() < 0.01:  # 1% error rate
            metrics.record_error()
        
        # Record cache hits/misses
        if np.random.random() > 0.2:  # 80% cache hit rate
            metrics.record_cache_hit()
        else:
            metrics.record_cache_miss()

# Run simulation
simulate_inference_workload()

# Get performance statistics
stats = metrics.get_statistics()
print("Performance Statistics:")
print(f"  Total requests: {stats['total_requests']}")
print(f"  Average inference time: {stats['avg_inference_time']:.4f}s")
print(f"  Median inference time: {stats['median_inference_time']:.4f}s")
print(f"  P95 inference time: {stats['p95_inference_time']:.4f}s")
print(f"  P99 inference time: {stats['p99_inference_time']:.4f}s")
print(f"  Throughput: {stats['throughput']:.1f} requests/sec")
print(f"  Error rate: {stats['error_rate']:.3%}")
print(f"  Cache hit rate: {stats['cache_hit_rate']:.3%}")
