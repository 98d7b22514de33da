"""What the machine itself does: the limit that the other numbers stand against."""

from benchmarks.speeds.bench import Measured, Size, interleave, waiter


def products(size: Size, device) -> Measured:
    """Square float32 matrix products."""
    import torch

    n = 256 if size.quick else 2048 if device.type == "cpu" else 8192
    a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
    seconds, _ = interleave(lambda: a @ b, lambda: None, 5 * size.repeats, waiter(device))
    return Measured(f"float32 product of {n} x {n} matrices", "GFLOP/s", [2 * n**3 / 1e9 / s for s in seconds], seconds)


def copies(size: Size, device) -> Measured:
    """Copying memory larger than the caches; bytes read and written both count."""
    import torch

    numbers = 2**20 if size.quick else 2**26
    source = torch.ones(numbers, device=device)
    target = torch.empty_like(source)
    seconds, _ = interleave(lambda: target.copy_(source), lambda: None, 5 * size.repeats, waiter(device))
    return Measured(f"copy of {source.nbytes / 1e6:.0f} MB", "GB/s", [2 * source.nbytes / 1e9 / s for s in seconds], seconds)
