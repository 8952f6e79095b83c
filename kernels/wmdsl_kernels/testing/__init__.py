"""What proves the kernels: mask families, error bounds and the patched Triton interpreter."""
