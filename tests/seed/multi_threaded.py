from shmetrics import PerformanceMetrics
import threading
import time
import random

# Shared metrics instance
shared_metrics = PerformanceMetrics(
    window_size=5000,
    enable_detailed_stats=True
)

def worker_thread(thread_id, duration_seconds=30):
    """Worker thread that generates load and tracks metrics"""
    print(f"Worker {thread_id} started")
    start_time = time.time()
    
    while time.time() - start_time < duration_seconds:
        # Simulate varying workload
        batch_size = random.randint(1, 128)
        
        # Simulate inference with varying complexity
        complexity_factor = random.uniform(0.5, 2.0)
        inference_time = 0.01 * complexity_factor * (batch_size / 32)
        
        # Simulate actual work
        time.sleep(inference_time)
        
        # Update shared metrics (thread-safe)
        shared_metrics.update_inference(
            inference_time=inference_time,
            batch_size=batch_size,
            preprocessing_time=random.uniform(0.001, 0.005),
            quantization_time=random.uniform(0.0, 0.002)
        )
        
        # Random errors and cache events
        if random.random() < 0.02:  # 2% error rate
            shared_metrics.record_error()
        
        if random.random() > 0.15:  # 85% cache hit rate
            shared_metrics.record_cache_hit()
        else:
            shared_metrics.record_cache_miss()
        
        # Small delay between requests
        time.sleep(random.uniform(0.001, 0.01))
    
    print(f"Worker {thread_id} finished")

# Start multiple worker threads
threads = []
num_workers = 8

for i in range(num_workers):
    thread = threading.Thread(target=worker_thread, args=(i, 60))  # 60 seconds each
    threads.append(thread)
    thread.start()

# Monitor performance in real-time
def performance_monitor():
    """Monitor and report performance every 5 seconds"""
    for _ in range(12):  # Monitor for 60 seconds (12 * 5 seconds)
        time.sleep(5)
        
        stats = shared_metrics.get_statistics()
        print(f"\n=== Performance Update ===")
        print(f"Total requests: {stats['total_requests']}")
        print(f"Current throughput: {stats['current_throughput']:.1f} req/sec")
        print(f"Average latency: {stats['avg_total_time']:.4f}s")
        print(f"Error rate: {stats['error_rate']:.2%}")
        print(f"Workers active: {sum(1 for t in threads if t.is_alive())}")

# Start monitoring
monitor_thread = threading.Thread(target=performance_monitor)
monitor_thread.start()

# Wait for all workers to complete
for thread in threads:
    thread.join()

monitor_thread.join()

# Final performance report
final_stats = shared_metrics.get_comprehensive_statistics()
print("\n=== Final Performance Report ===")
print(f"Total runtime: {final_stats['total_runtime']:.1f} seconds")
print(f"Total requests processed: {final_stats['total_requests']}")
print(f"Average throughput: {final_stats['average_throughput']:.1f} req/sec")
print(f"Peak throughput: {final_stats['peak_throughput']:.1f} req/sec")
print(f"Overall error rate: {final_stats['error_rate']:.3%}")
print(f"Performance stability: {final_stats['stability_score']:.2f}")
