"""What benchmarks/speed.py measures, a module for each kind of work."""
