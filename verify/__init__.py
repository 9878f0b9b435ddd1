"""Whether it is right: reference activations of the source framework, compared with ours, layer by layer."""
