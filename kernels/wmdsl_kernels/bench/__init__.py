"""The workloads of published systems, and the command that times executors on them."""
