"""What comes back from the machine: results first, then weights that ship, then the state of what was interrupted.

At most eight files of 16 MiB and 64 MiB together come back, so everything large is one archive cut into pieces, and a
report beside them lists the pieces with their checksums, what was left behind, and how far each run is.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import struct
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from banet_monai.files import write_beside
from benchmarks.accuracy.definitions import ROOT, Run
from benchmarks.accuracy.execution import Workplace
from benchmarks.accuracy.run import status
from benchmarks.gpu.packing import source_digest
from benchmarks.gpu.steps import Step, Workspace, state_name
from benchmarks.gpu.working import Outcome, epochs_done
from benchmarks.machine import describe_machine

__all__ = ["PIECES", "PIECE_BYTES", "SMALL", "send_results", "send_states", "without_pictures"]

SMALL, LARGE = "results.tar.gz", "large.tar"
PIECE_BYTES, PIECES = 15_000_000, 4  # 16 MiB a file and 64 MiB together are the most
TAR_BYTES = 20_000  # headers and padding of the few members
LOG_BYTES = 20_000  # of each log, its end
LARGEST_SCALAR = 1000  # bytes of an event; overlays are far larger
SENT = "sent.json"


def send_results(step: Step, workspace: Workspace, out: Path, outcome: Outcome, large: dict[str, Any]) -> Path:
    """Write all results, the ends of the logs and the report as one small archive; it replaces an earlier one.

    Args:
        step: the step.
        workspace: where results and logs lie.
        out: folder that comes back.
        outcome: what ended in this call.
        large: from :func:`send_states`, empty before.
    """
    report = {
        "step": step.name,
        "sources": source_digest(ROOT),
        "machine": describe_machine(),
        "outcome": vars(outcome),
        "runs": {run.name: _how_far(run, workspace) for run in step.runs},
        "large": large,
    }
    places, out = workspace.places, Path(out)
    out.mkdir(parents=True, exist_ok=True)
    aside = workspace.root / SMALL  # outside the folder that comes back: half a file must not
    with tarfile.open(aside, "w:gz") as tar:
        _add(tar, "report.json", json.dumps(report, indent=1).encode())
        for file in sorted(places.results.rglob("*.json")):
            _add(tar, f"results/{file.relative_to(places.results).as_posix()}", file.read_bytes())
        for name, log in _logs(step, workspace):
            _add(tar, f"logs/{name}", log.read_bytes()[-LOG_BYTES:])
    return Path(shutil.copyfile(aside, out / SMALL))


def send_states(
    step: Step, workspace: Workspace, out: Path, *, again: bool = False, room: int = PIECES * PIECE_BYTES
) -> dict[str, Any]:
    """Write weights that ship and states of interrupted runs, as many as there is room for, cut into pieces.

    Args:
        step: the step.
        workspace: where the runs lie.
        out: folder that comes back.
        again: also weights that an earlier call has sent.
        room: bytes for all of it.

    Returns:
        ``pieces`` (name, bytes, sha256), ``members`` and ``left_behind``, for the report.
    """
    sent = _read(workspace.root / SENT)
    chosen: list[tuple[str, Path]] = []
    left: list[str] = []
    room -= TAR_BYTES
    for name, file in _wanted(step, workspace, [] if again else sent):
        if file.stat().st_size <= room:
            room -= file.stat().st_size
            chosen.append((name, file))
        else:
            left.append(name)
    pieces = _cut(chosen, workspace.root / LARGE, Path(out)) if chosen else []
    names = [name for name, _ in chosen]
    write_beside(workspace.root / SENT, lambda p: p.write_text(json.dumps(sorted({*sent, *names}), indent=1)))
    return {"pieces": pieces, "members": names, "left_behind": left}


def _wanted(step: Step, workspace: Workspace, sent: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Member names and files, most wanted first: judged weights of finished runs, then states."""
    finished = [run for run in step.runs if workspace.places.result(run).is_file()]
    for run in finished if step.weights else []:
        name = f"weights/{run.name}/last.pt"
        if name not in sent:
            yield name, Workplace(run, workspace.places).weights
    for run in step.runs:
        place = Workplace(run, workspace.places)
        if run not in finished and place.state.is_file():
            archive = workspace.root / "packed" / state_name(run.name)
            _pack_state(place, archive)
            yield f"states/{archive.name}", archive


def _pack_state(place: Workplace, archive: Path) -> None:
    """State, overlay, times and the scalars of the curve; the best checkpoint and the overlays stay."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for file in (place.train_overlay, place.segments, place.folder / "gpu.json", place.state):
            if file.is_file():
                tar.add(file, file.relative_to(place.folder).as_posix())
        for file in sorted(place.training.glob("events.out.tfevents.*")):
            member = tar.gettarinfo(file, file.relative_to(place.folder).as_posix())
            content = without_pictures(file.read_bytes())
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def without_pictures(events: bytes) -> bytes:
    """The records of an event file that are small: scalars without overlays. A record cut short at the end is dropped.

    A TFRecord is the length (8 bytes), its checksum (4), the content and the content's checksum (4).
    """
    kept, at = [], 0
    while at + 12 <= len(events):
        (length,) = struct.unpack_from("<Q", events, at)
        after = at + 16 + length
        if after <= len(events) and length <= LARGEST_SCALAR:
            kept.append(events[at:after])
        at = after
    return b"".join(kept)


def _cut(chosen: Sequence[tuple[str, Path]], archive: Path, out: Path) -> list[dict[str, Any]]:
    with tarfile.open(archive, "w") as tar:
        for name, file in chosen:
            tar.add(file, name)
    out.mkdir(parents=True, exist_ok=True)
    pieces: list[dict[str, Any]] = []
    with archive.open("rb") as whole:
        while content := whole.read(PIECE_BYTES):
            name = f"{LARGE}.{len(pieces):02d}"
            (out / name).write_bytes(content)
            pieces.append({"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    archive.unlink()
    return pieces


def _how_far(run: Run, workspace: Workspace) -> str:
    text = status(run, workspace.places)
    epochs = epochs_done(run, workspace.places)
    return text if epochs is None else f"{text}, {epochs} epochs"


def _logs(step: Step, workspace: Workspace) -> Iterator[tuple[str, Path]]:
    yield from ((file.name, file) for file in sorted(workspace.logs.glob("*.log")))
    for run in step.runs:
        for file in sorted(Workplace(run, workspace.places).folder.glob("*.log")):
            yield f"{run.name.replace('/', '.')}.{file.name}", file


def _read(path: Path) -> list[str]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
