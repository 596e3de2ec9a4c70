"""Everything that the simulation takes for granted, in one place, with where it comes from; k8s/ is read.

Prices are list prices as of 2025, to be checked against the day's: infra/README.md has the same ones.
"""

from dataclasses import dataclass

from app.config import Settings

from .manifests import Rules, drain_seconds, rules

MOST_OPEN: int = Settings.model_fields["max_open_jobs"].default  # of both pools together; here each may have so many

SPOT = 0.4  # of the price on demand
DISK = 60 * 0.08 / 730  # dollars an hour: 60 GiB of gp3


@dataclass(frozen=True)
class Pool:
    """One kind of worker. Its pods fill a node, and come and go with it: the simulation takes them for one pod."""

    name: str
    rules: Rules
    #: processors of a node
    cores: int
    #: CPU seconds of a task that pass in a second of the clock
    speed: float
    #: dollars an hour on demand, without the disk
    on_demand: float
    #: of all jobs
    share: float

    @property
    def pods(self) -> int:
        """That fit on a node."""
        return int(self.cores // self.rules.cpu)

    @property
    def slots(self) -> int:
        """Tasks that a node works on at the same time."""
        return self.rules.slots * self.pods

    @property
    def target(self) -> int:
        """Messages for which KEDA wants one node full of pods."""
        return self.rules.target * self.pods

    @property
    def shipped(self) -> int:
        """Nodes for as many pods as the manifests allow."""
        return max(1, self.rules.most // self.pods)

    @property
    def spot_price(self) -> float:
        return self.on_demand * SPOT + DISK

    @property
    def fixed_price(self) -> float:
        return self.on_demand + DISK


# c6a.xlarge: 4 vCPU, each half a core; a task runs on one of them.
STANDARD = Pool("standard", rules("worker-standard"), cores=4, speed=1.0, on_demand=0.153, share=0.98)
# c7i.2xlarge: 8 vCPU, four for each of two images; the network does not quite use them.
ML = Pool("ml", rules("worker-ml"), cores=8, speed=4 * 0.7, on_demand=0.357, share=0.02)
POOLS = (STANDARD, ML)

# Seconds. Kubernetes' defaults, but for the cluster autoscaler's, which infra/addons/ sets.
HPA_SYNC = 15
TOLERANCE = 0.1  # of the HPA: smaller differences change nothing
AUTOSCALER_SCAN = 10
NODE_UNNEEDED = 300
NODE_BOOT = 150  # "boot takes two to three minutes" (infra/asg.tf)
POD_START = 20  # to pull the image and start Celery

# Interruptions: far more than usual, as a hostile day.
INTERRUPTIONS = 0.05  # of a node in an hour; AWS publishes below 5 % to above 20 % a month
UNANNOUNCED = 0.05  # of them end without the notice
# A storm, to see redelivery at work: no node lives longer than some minutes, and half get no notice.
STORM_INTERRUPTIONS, STORM_UNANNOUNCED = 5.0, 0.5
NOTICE = 120  # seconds
DRAIN = drain_seconds()
REDELIVERY = 75  # seconds until the lease of a lost worker is over (60) and the reconciler has looked (15)

# A load that no schedule foresees: Poisson, with a burst in each hour.
BURST = (1800, 2400)  # seconds of the hour
BURST_FACTOR = 3.0  # times the average of the hour
UTILIZATION = 0.8  # that fixed fleets are sized for
