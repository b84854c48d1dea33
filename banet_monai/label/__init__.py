"""MONAI Label with this package's bundles: its environment, an application folder, the server.

Nothing here imports MONAI Label, which lives in an environment of its own. The files of ``app/`` run there: they are
copied into the application folder and import nothing of this package but each other, by their plain names.
"""

from banet_monai.label.application import Application, lay_out, require_free_folder
from banet_monai.label.archives import check_archive, code_digest, require_same_code, sources_digest
from banet_monai.label.environment import Environment, find_environment
from banet_monai.label.server import ServerOptions, require_free_port, server_command
from banet_monai.label.studies import LISTED, Studies, check_studies, demonstration_studies

__all__ = [
    "LISTED",
    "Application",
    "Environment",
    "ServerOptions",
    "Studies",
    "check_archive",
    "check_studies",
    "code_digest",
    "demonstration_studies",
    "find_environment",
    "lay_out",
    "require_free_folder",
    "require_free_port",
    "require_same_code",
    "server_command",
    "sources_digest",
]
