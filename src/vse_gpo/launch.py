"""What the processes of one run agree on before Lightning connects them."""

import os


def run_id(now: str) -> str:
    """What tells a run from others, the same in each of its processes on any machine.

    It is the time, and where torchrun started several processes the time of the first one. Where SLURM did, it is the
    job's step: a job that is queued again finds its folder, and Lightning the checkpoint that it left there.

    Args:
        now: the time in this process.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:  # inside a SLURM job too
        from torch.distributed.rendezvous import rendezvous

        store, rank, _ = next(rendezvous("env://"))
        if rank == 0:
            store.set("vse_gpo/run_id", now)
        first: bytes = store.get("vse_gpo/run_id")  # waits for it
        return first.decode()
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        return f"slurm_{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
    return now
