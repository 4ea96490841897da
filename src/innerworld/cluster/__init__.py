"""Run independent jobs somewhere: `Local` processes or a `Ray` cluster, behind one `Place`."""

from innerworld.cluster.connect import connect
from innerworld.cluster.local import Local
from innerworld.cluster.on_ray import Ray
from innerworld.cluster.place import Done, Failure, JobError, Place, Stopped

__all__ = ["Done", "Failure", "JobError", "Local", "Place", "Ray", "Stopped", "connect"]
