"""What ships inside NanoClaw, but comes in through the hooks like anybody's plugin."""
