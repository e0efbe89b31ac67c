"""`spp` with faults in its way (see `tests.faults`), in its own process and in Ray's workers.

SPP_FAULTS='[{"step": "create_record", "do": "kill"}]' python -m tests.chaos extract RECIPE …
"""

import os
import sys

from tests import faults

RAY_FOLDER = "SPP_CHAOS_RAY"  # where a run without --serial keeps what belongs to its cluster


def main() -> None:
    """Run the command line with the faults of the environment."""
    from jobs import __main__ as cli

    faults.install_from_environment()
    if "--serial" not in sys.argv:
        import ray

        ray.init(
            num_cpus=2,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=90_000_000,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=os.environ[RAY_FOLDER],
            runtime_env={
                "worker_process_setup_hook": "tests.faults.install_from_environment",
                "env_vars": {faults.VARIABLE: os.environ.get(faults.VARIABLE, "[]")},
            },
        )
    cli.main()


if __name__ == "__main__":
    main()
