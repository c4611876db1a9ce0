"""What the tests share: nights of frames, servers, samples, strategies."""
