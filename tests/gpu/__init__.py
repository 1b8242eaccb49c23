"""The story on a CUDA device, real or played (`make played`); skipped where there is none."""
