"""`innerworld agent run`: a whole mind around a trained run, let loose in its world, and what there was to see."""
