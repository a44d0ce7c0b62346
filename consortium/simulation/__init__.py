"""A whole consortium on one machine: the same apps as in deployment, on Flower's simulation engine.

`hospital` says what a simulated hospital does (the hospital's agent provides it), `home` where
everything is kept, `engine` runs a job's rounds, `demo` is the main job from start to end.
"""
