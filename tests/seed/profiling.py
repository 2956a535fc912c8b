from shmetrics import PerformanceMetrics

shared_metrics = PerformanceMetrics()

from shmetrics import PerformanceProfiler
import cProfile
import pstats

# Create performance profiler
profiler = PerformanceProfiler(shared_metrics)

# Profile a function
@profiler.profile_function
def complex_ml_operation(data_size=10000):
    """Complex ML operation for profiling"""
    import numpy as np
    
    # Simulate feature extraction
    features = np.random.rand(data_size, 100)
    
    # Simulate model inference
    weights = np.random.rand(100, 50)
    intermediate = np.dot(features, weights)
    
    # Simulate post-processing
    result = np.mean(intermediate, axis=1)
    
    return result

# Run profiled operation
result = complex_ml_operation(50000)

# Get profiling results
profile_results = profiler.get_profile_results('complex_ml_operation')
print("Profiling Results:")
print(f"  Function calls: {profile_results['total_calls']}")
print(f"  Total time: {profile_results['total_time']:.4f}s")
print(f"  Average time per call: {profile_results['avg_time_per_call']:.6f}s")
print(f"  Time breakdown:")
for component, time_spent in profile_results['time_breakdown'].items():
    print(f"    {component}: {time_spent:.4f}s ({time_spent/profile_results['total_time']:.1%})")

# Generate detailed profile report
profiler.generate_detailed_report("performance_profile.html")
