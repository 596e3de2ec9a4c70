"""Everything that the simulation takes for granted, in one place, with where it comes from.

Prices are list prices as of 2025, to be checked against the day's: infra/README.md has the same ones.
"""

from dataclasses import dataclass

SPOT = 0.4  # of the price on demand
DISK = 60 * 0.08 / 730  # dollars an hour: 60 GiB of gp3


@dataclass(frozen=True)
class Pool:
    """One kind of worker: a pod fills a node, and takes so many tasks at once."""

    name: str
    #: tasks that a pod works on at the same time
    slots: int
    #: CPU seconds of a task that pass in a second of the clock
    speed: float
    #: messages, waiting or being worked on, for which KEDA wants one pod
    target: int
    #: pods that are always there
    least: int
    #: dollars an hour on demand, without the disk
    on_demand: float
    #: of all jobs
    share: float

    @property
    def spot_price(self) -> float:
        return self.on_demand * SPOT + DISK

    @property
    def fixed_price(self) -> float:
        return self.on_demand + DISK


# c6a.xlarge: 4 vCPU, each half a core; a task runs on one of them. 8 messages are two for each slot.
STANDARD = Pool("standard", slots=4, speed=1.0, target=8, least=1, on_demand=0.153, share=0.98)
# c7i.2xlarge: 8 vCPU, all of them for one image; the network does not quite use them.
ML = Pool("ml", slots=1, speed=8 * 0.7, target=2, least=0, on_demand=0.357, share=0.02)
POOLS = (STANDARD, ML)

# Seconds. KEDA's and Kubernetes' defaults, but for the cluster autoscaler's, which infra/addons/ sets.
HPA_SYNC = 15
KEDA_POLLING = 30  # how often KEDA looks at an empty queue; the HPA asks by itself
KEDA_COOLDOWN = 300  # an empty queue for so long ends the last pod
STABILIZATION = 300  # the HPA follows the most that it wanted within this time
TOLERANCE = 0.1  # of the HPA: smaller differences change nothing
SCALE_UP_PODS = 4  # or twice as many, every HPA_SYNC
AUTOSCALER_SCAN = 10
NODE_UNNEEDED = 300
NODE_BOOT = 150  # "boot takes two to three minutes" (infra/asg.tf)
POD_START = 20  # to pull the image and start Celery

# Interruptions: far more than usual, as a hostile day.
INTERRUPTIONS = 0.05  # of a node in an hour; AWS tells of below 5 % to above 20 % a month
UNANNOUNCED = 0.05  # of them end without the notice
# A storm, to see redelivery at work: no node lives longer than some minutes, and half get no notice.
STORM_INTERRUPTIONS, STORM_UNANNOUNCED = 5.0, 0.5
NOTICE = 120  # seconds
DRAIN = 80  # seconds, PIXTOOLS_DRAIN_SECONDS: what runs then is handed back
REDELIVERY = 75  # seconds until the lease of a lost worker is over (60) and the reconciler has looked (15)

# A load that no schedule foresees: Poisson, with a burst in each hour.
BURST = (1800, 2400)  # seconds of the hour
BURST_FACTOR = 3.0  # times the average of the hour
UTILIZATION = 0.8  # that fixed fleets are sized for
