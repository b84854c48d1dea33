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
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from banet_monai.files import write_beside
from benchmarks.accuracy.definitions import Run
from benchmarks.accuracy.execution import Workplace
from benchmarks.accuracy.run import status
from benchmarks.gpu.packing import name_sources, packed_from
from benchmarks.gpu.placing import how_packed
from benchmarks.gpu.steps import CARRY, RESULTS, Step, Workspace, state_name
from benchmarks.gpu.working import Outcome, epochs_done
from benchmarks.machine import describe_machine

__all__ = ["PIECES", "PIECE_BYTES", "SMALL", "names_sent", "send", "without_pictures"]

SMALL, LARGE = "results.tar.gz", "large.tar"
PIECE_BYTES, PIECES = 15_000_000, 4  # 16 MiB a file and 64 MiB together are the most
TAR_BYTES = 20_000  # headers and padding of the few members
LOG_BYTES = 20_000  # of each log, its end
PACKED_SHARE = 0.9  # of a state that gzip leaves at least: weights and moments are noise to it
LARGEST_SCALAR = 1000  # bytes of an event; overlays are far larger
SENT = "sent.json"


def send(
    step: Step,
    workspace: Workspace,
    out: Path,
    outcome: Outcome,
    *,
    carry: Path = CARRY,
    results: Path = RESULTS,
    sent: Collection[str] = (),
    states: bool = True,
    room: int = PIECES * PIECE_BYTES,
) -> dict[str, Any]:
    """Write results, the ends of the logs and a report as one small archive, and what is large cut into pieces.

    It replaces what it wrote earlier in the same call, all at once when everything is packed: where the call is killed
    before, what lies there belongs together.

    Args:
        step: the step.
        workspace: where results, runs and logs lie.
        out: folder that comes back.
        outcome: what ended in this call so far.
        carry: the carried folder, which knows what was packed.
        results: those that travelled here; what is among them unchanged does not go back.
        sent: names of the weights that earlier calls have sent.
        states: also the states of interrupted runs, which take long to pack.
        room: bytes for all that is large.

    Returns:
        Of what is large: ``pieces`` (name, bytes, sha256), ``members`` and ``left_behind``, as in the report.
    """
    aside = _empty(workspace.root / "sending")  # outside the folder that comes back: half a file must not
    packed = packed_from(carry)
    chosen, left = _choose(step, workspace, sent, room - TAR_BYTES, packed if states else None)
    pieces = _cut(chosen, aside) if chosen else []
    names = [name for name, _ in chosen]
    large = {"pieces": pieces, "members": names, "left_behind": left}
    report = {
        "step": step.name,
        "packed_from": packed,
        "packed": {folder: how_packed(folder, workspace) for folder in step.folders()},
        "machine": describe_machine(),
        "outcome": vars(outcome),
        "runs": {run.name: _how_far(run, workspace) for run in step.runs},
        "large": large,
    }
    with tarfile.open(aside / SMALL, "w:gz") as tar:
        _add(tar, "report.json", json.dumps(report, indent=1).encode())
        for file in sorted(workspace.places.results.rglob("*.json")):
            name, content = file.relative_to(workspace.places.results).as_posix(), file.read_bytes()
            if not ((results / name).is_file() and (results / name).read_bytes() == content):
                _add(tar, f"results/{name}", content)
        for name, log in _logs(step, workspace):
            _add(tar, f"logs/{name}", log.read_bytes()[-LOG_BYTES:])
    _replace(Path(out), aside)
    write_beside(workspace.root / SENT, lambda p: p.write_text(json.dumps(sorted({*sent, *names}), indent=1)))
    return large


def names_sent(workspace: Workspace) -> list[str]:
    """Names of the weights and states that the calls so far have sent."""
    path = workspace.root / SENT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def _replace(out: Path, aside: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for file in out.glob(f"{LARGE}.*"):
        file.unlink()
    for file in aside.iterdir():
        shutil.move(file, out / file.name)


def _choose(
    step: Step, workspace: Workspace, sent: Collection[str], room: int, packed: Mapping[str, Any] | None
) -> tuple[list[tuple[str, Path]], list[str]]:
    """Names and files of the members that there is room for, most wanted first, and names of the others.

    First come judged weights of finished runs, then states, with what was ``packed`` here; without it no state. A state
    that has no room in any case is not packed.
    """
    chosen: list[tuple[str, Path]] = []
    left: list[str] = []

    def choose(name: str, file: Path) -> None:
        nonlocal room
        if (size := file.stat().st_size) <= room:
            room -= size
            chosen.append((name, file))
        else:
            left.append(name)

    finished = [run for run in step.runs if workspace.places.result(run).is_file()]
    for run in finished if step.weights else []:
        name, weights = f"weights/{run.name}/last.pt", Workplace(run, workspace.places).weights
        if name not in sent and weights.is_file():  # those of a run that was finished elsewhere are not here
            choose(name, weights)
    for run in step.runs if packed is not None else []:
        place, archive = Workplace(run, workspace.places), workspace.root / "packed" / state_name(run.name)
        if run in finished or not place.state.is_file():
            continue
        if place.state.stat().st_size * PACKED_SHARE > room:
            left.append(f"states/{archive.name}")
            continue
        _pack_state(place, archive, packed or {})
        choose(f"states/{archive.name}", archive)
    return chosen, left


def _pack_state(place: Workplace, archive: Path, packed: Mapping[str, Any]) -> None:
    """State, overlay, starts and the scalars of the curve; the best checkpoint and the overlays stay.

    The starts get the commit that they were made with: the next machine may come with another one.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for file in (place.train_overlay, place.gpu_peak, place.state):
            if file.is_file():
                tar.add(file, file.relative_to(place.folder).as_posix())
        if place.segments.is_file():
            starts = json.loads(place.segments.read_text(encoding="utf-8"))
            for start in starts:
                if "machine" in start:
                    name_sources(start["machine"], packed)
            _add(tar, place.segments.name, json.dumps(starts).encode())
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


def _cut(chosen: Sequence[tuple[str, Path]], folder: Path) -> list[dict[str, Any]]:
    archive = folder / LARGE
    with tarfile.open(archive, "w") as tar:
        for name, file in chosen:
            tar.add(file, name)
    pieces: list[dict[str, Any]] = []
    with archive.open("rb") as whole:
        while content := whole.read(PIECE_BYTES):
            name = f"{LARGE}.{len(pieces):02d}"
            (folder / name).write_bytes(content)
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


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
