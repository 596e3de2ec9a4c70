"""All assumptions of the simulation, with their sources; values that k8s/ defines are read from its manifests.

Prices are list prices as of 2025, the same as in infra/README.md. Compare them with current ones.
"""

from dataclasses import dataclass

from app.config import Settings

from .manifests import Rules, drain_seconds, rules

MOST_OPEN: int = Settings.model_fields["max_open_jobs"].default  # in PixTools for both pools together, here for each

SPOT = 0.4  # of the on-demand price
DISK = 60 * 0.08 / 730  # dollars an hour: 60 GiB of gp3


@dataclass(frozen=True)
class Pool:
    """A kind of worker. All pods of a node come and go with it, so the simulation treats them as one pod."""

    name: str
    rules: Rules
    #: vCPUs of a node
    cores: int
    #: CPU seconds that a task gets per second of wall-clock time
    speed: float
    #: on-demand price in dollars an hour, without the disk
    on_demand: float
    #: share of all jobs
    share: float

    @property
    def pods(self) -> int:
        """The number of pods that fit on a node."""
        return int(self.cores // self.rules.cpu)

    @property
    def slots(self) -> int:
        """The number of tasks that a node runs at the same time."""
        return self.rules.slots * self.pods

    @property
    def target(self) -> int:
        """The number of messages per node that KEDA aims for."""
        return self.rules.target * self.pods

    @property
    def shipped(self) -> int:
        """The number of nodes for the most pods that the manifests allow."""
        return max(1, self.rules.most // self.pods)

    @property
    def spot_price(self) -> float:
        return self.on_demand * SPOT + DISK

    @property
    def fixed_price(self) -> float:
        return self.on_demand + DISK


# c6a.xlarge: 4 vCPUs, each half a core; a task runs on one of them.
STANDARD = Pool("standard", rules("worker-standard"), cores=4, speed=1.0, on_demand=0.153, share=0.98)
# c7i.2xlarge: 8 vCPUs, four for each of two images; the network does not use them fully.
ML = Pool("ml", rules("worker-ml"), cores=8, speed=4 * 0.7, on_demand=0.357, share=0.02)
POOLS = (STANDARD, ML)

# Seconds. Kubernetes' defaults, except for the cluster autoscaler, which infra/addons/ configures.
HPA_SYNC = 15
TOLERANCE = 0.1  # the HPA ignores smaller relative differences
AUTOSCALER_SCAN = 10
NODE_UNNEEDED = 300
NODE_BOOT = 150  # "boot takes two to three minutes" (infra/asg.tf)
POD_START = 20  # to pull the image and start Celery

# Interruptions: far more than usual, as on a bad day.
INTERRUPTIONS = 0.05  # per node and hour; AWS publishes below 5 % to above 20 % a month
UNANNOUNCED = 0.05  # share of them without notice
# A storm, to see redelivery at work: nodes live for some minutes, and half of them end without notice.
STORM_INTERRUPTIONS, STORM_UNANNOUNCED = 5.0, 0.5
NOTICE = 120  # seconds
DRAIN = drain_seconds()
REDELIVERY = 75  # seconds until a lost worker's lease has expired (60) and the reconciler has run (15)

# An unpredictable load: a Poisson process with a burst in each hour.
BURST = (1800, 2400)  # start and end, in seconds of the hour
BURST_FACTOR = 3.0  # times the hourly average
UTILIZATION = 0.8  # for which fixed fleets are sized
