"""What the gateway tells about itself: metrics, one access line a request, and its own log."""
