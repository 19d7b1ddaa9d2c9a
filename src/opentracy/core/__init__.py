"""Knowledge only: values in, values out. No sockets, clock, environment or randomness in this package."""
