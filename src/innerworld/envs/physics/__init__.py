"""Films of a small world with the physics of a real engine, possible ones and impossible ones (extra: physics).

A room among the environments, for the world `physics_2d` is made of it, and environments may not know the rooms above.
"""
