"""Windows computed by several GPUs or machines, over Ray."""

from ..samplers.adapters.sent import NODE
from ..samplers.adapters.workers import MOST_WORKERS, WorkerSettings, apply_workers, cluster_address
from ._api import io
from ._checks import bounded, verdict
from ._search import described
from ._widgets import Float


class LongTakeWorkers(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeWorkers",
            display_name="Workers (Ray)",
            category="LongTake",
            **described(
                "Computes the windows of each step on several GPUs or machines at once, by Ray. On machines alike the "
                "video is the same as without. 0 workers: nothing changes, and Ray is not needed.",
                "multi gpu", "distributed", "parallel", "cluster", "raylight",
            ),
            inputs=[
                io.Model.Input(
                    "model", tooltip="A model with the Global/Local Window Scheduler, or one that a SynCoS sampler "
                    "cuts into chunks; this node may stand before or after the scheduler.",
                ),
                io.Int.Input(
                    "workers", default=0, min=0, max=MOST_WORKERS,
                    tooltip="Processes that compute windows, each with the model of its own. 0: off. One per GPU; more "
                    "than the windows of a step (the report of the scheduler says it) have nothing to do.",
                ),
                io.String.Input(
                    "address", default="local",
                    tooltip="local: on this machine alone, Ray is started for the run and ended with it. host:port: a "
                    "Ray cluster that you have started, of which this machine is a part. Whoever reaches a cluster's "
                    "ports can run programs on it: keep it in a private network.",
                ),
                Float(
                    "gpus_per_worker", default=1.0, min=0.0, max=16.0, step=0.25,
                    tooltip="GPUs of each worker. 1: one each; 0.5: two workers share one, where its memory holds the "
                    "model twice; 0: workers compute on the CPU.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, address):
        return verdict(cls, NODE, cluster_address, address=address)

    @classmethod
    @bounded(NODE)
    def execute(cls, model, workers, address, gpus_per_worker) -> io.NodeOutput:
        return io.NodeOutput(apply_workers(model, WorkerSettings(workers, address.strip(), gpus_per_worker)))


NODES = [LongTakeWorkers]
