"""The connection to an existing Dask scheduler."""

import logging

from distributed import Client

from m2hf.errors import UsageError, first_line

_CONNECT_S = 30


def quiet_loss() -> None:
    """If the scheduler is lost, m2hf reports it in one line; this logger would add a traceback."""
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)


def connect(scheduler: str) -> Client:
    """A client of the scheduler at this address; raises UsageError where none answers."""
    quiet_loss()
    try:
        return Client(scheduler, timeout=_CONNECT_S)
    # A TypeError of a tls:// address without certificates, a RuntimeError of a tcp:// one
    # where the configuration requires encryption.
    except (TypeError, RuntimeError) as error:
        raise UsageError(
            f"--scheduler {scheduler}: {first_line(error)}; set the address and the "
            "certificates of the cluster, as `source FOLDER/environment` of tls.sh does"
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--scheduler {scheduler}: no Dask scheduler answers there: {first_line(error)}"
        ) from error
