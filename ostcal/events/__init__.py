"""Events of a night, and the hooks that are told of them: a command, a webhook."""
