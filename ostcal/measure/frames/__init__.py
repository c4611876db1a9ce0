"""Series of frames: the survey of sampled rows, and checks of the frames against each other and against limits."""
