"""What leaves the workstation: a bundle that a device builds and proves by itself, a Triton model repository, scripts."""
