"""A Ray cluster of this machine alone, apart from any other Ray that runs here."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def two_cpus() -> Iterator[str]:
    """Yield the address of two CPUs of Ray, started by this process; gone at the end."""
    import ray

    # Not pytest's own folder: a socket's path may have 107 characters, and Ray needs 60.
    folder = tempfile.mkdtemp(prefix="spp")
    try:
        told = ray.init(
            num_cpus=2,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=90_000_000,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
        )
        yield told.address_info["gcs_address"]
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
