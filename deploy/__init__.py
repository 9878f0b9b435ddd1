"""What leaves the workstation: a bundle that a device builds and proves, a Triton model repository, scripts."""
