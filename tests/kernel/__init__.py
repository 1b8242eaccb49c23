"""What happens in real kernels."""
