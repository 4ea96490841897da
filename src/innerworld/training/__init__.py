"""The one training loop, alone or in many processes. To understand it, read in this order:

`loop.py` the loop · `learner.py` one step · `optimisers.py` what a gradient does to the weights · `config.py` the
settings · `parallel.py` many processes · `keeper.py` what is saved, when, and what is done when that fails.
(`requests.py` is signals, `launch.py` begins processes.)
"""

from innerworld.training.config import FREE_ON_RESUME, TrainConfig, choose_device, learning_rate
from innerworld.training.launch import launch, this_program
from innerworld.training.loop import Clips, Interrupted, Parted, Traceable, train
from innerworld.training.parallel import Strategy

__all__ = [
    "FREE_ON_RESUME",
    "Clips",
    "Interrupted",
    "Parted",
    "Strategy",
    "Traceable",
    "TrainConfig",
    "choose_device",
    "launch",
    "learning_rate",
    "this_program",
    "train",
]
