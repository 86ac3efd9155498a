"""What a step runs on: noise, elementary functions, matrix products, the compiler, replay, the device."""
