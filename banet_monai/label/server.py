"""The command that starts MONAI Label's server: on this machine alone, and without asking the internet for anything."""

from __future__ import annotations

import errno
import json
import os
import socket
from dataclasses import dataclass

from banet_monai.label.application import ASGI, Application
from banet_monai.label.environment import Environment
from banet_monai.label.studies import LISTED, Studies

__all__ = ["ServerOptions", "require_free_port", "server_command"]

THIS_MACHINE = ("127.0.0.1", "localhost", "::1")

SCORED_AT_ONCE = 50  # images per round, so that scoring a large folder does not hold up an outline for long
SIMULATIONS = 5  # passes with dropout per image


@dataclass(frozen=True)
class ServerOptions:
    """How a server runs.

    Attributes:
        host: address to listen at.
        port: and port.
        scoring: score images by their uncertainty in the background, for the strategy ``epistemic``.
        modality: DICOM modality of the series that a DICOMweb server is asked for.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    scoring: bool = True
    modality: str = ""


def server_command(
    environment: Environment, application: Application, studies: Studies, options: ServerOptions
) -> tuple[list[str], dict[str, str]]:
    """Command line and environment variables of the server.

    It is what the console script ``monailabel`` runs; that script itself breaks at spaces in a path.
    """
    conf: dict[str, str] = {"models": ",".join(application.models), "zoo_source": "local", "sam2": "false"}
    if options.scoring:
        conf["epistemic_model"] = conf["models"]
        conf["epistemic_max_samples"] = str(SCORED_AT_ONCE)
        conf["epistemic_simulation_size"] = str(SIMULATIONS)
    words = ["--app", str(application.folder), "--studies", studies.place]
    words += ["--host", options.host, "--port", str(options.port), "--uvicorn_app", ASGI]
    for name, value in conf.items():
        words += ["--conf", name, value]
    line = [str(environment.python), "-m", "monailabel.main", "start_server", *words]
    return line, _variables(environment, application, options)


def require_free_port(host: str, port: int) -> None:
    """Refuse a port that another program listens at.

    Raises:
        OSError: saying which, with the option for another.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]  # IPv6 where the address is one
        with socket.create_server((host, port), family=family):
            return
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(f"port {port} of {host} is taken by another program; choose another: --port N.") from error
        why = error.strerror or type(error).__name__
        raise OSError(
            f"nothing can listen at port {port} of {host} ({why}); choose another --host or --port."
        ) from error


def _variables(environment: Environment, application: Application, options: ServerOptions) -> dict[str, str]:
    own = {
        "PATH": os.pathsep.join([str(environment.bin), os.environ.get("PATH", "")]),
        "PYTHONPATH": str(application.folder),  # of the file with the ASGI application
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps([f"*{suffix}" for suffix in LISTED]),
        "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(application.folder / "dicomweb"),
        "MONAI_LABEL_AUTO_UPDATE_SCORING": str(options.scoring).lower(),
    }
    own |= {"BANET_LABEL_HOSTS": ",".join(THIS_MACHINE)} if options.host in THIS_MACHINE else {}
    if options.modality:
        own["MONAI_LABEL_DICOMWEB_SEARCH_FILTER"] = json.dumps({"Modality": options.modality})
    chosen = {name: value for name, value in os.environ.items() if name.startswith(("MONAI_LABEL_", "BANET_LABEL_"))}
    return {**os.environ, **own, **chosen}
