"""What makes rank pooling fast: sorting, recurrence, Triton kernels."""
