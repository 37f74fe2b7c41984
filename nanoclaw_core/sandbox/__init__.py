"""What keeps a worker inside its container: the spec, the runtime, the image, and what is left of the dead."""
