"""Event files, which TensorBoard shows: `tensorboard --logdir results/tensorboard`."""

import itertools
import json
from pathlib import Path

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.hparams import summary_v2
from tensorboard.plugins.text import metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from bbbrun.runs.record import summary_of
from bbbrun.trackers.tracked import Tracked

_EVENTS = "events.out.tfevents.*"
_SOURCE = "run.txt"  # beside an event file: the folder of its run


class TensorBoard:
    """An event file for each run, in a folder of its name below `target`, numbered where another run has that name."""

    def __init__(self, target: str) -> None:
        self._target = Path(target)
        self._writers: dict[Path, EventFileWriter] = {}
        self._rows: dict[Path, int] = {}

    def update(self, run: Tracked) -> None:
        """Write the rows that are new since the last call; the first call replaces the event file."""
        if run.folder not in self._writers:
            name = self._name(run)
            folder = self._target / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _SOURCE).write_text(f"{run.folder}\n", "utf-8")
            for path in folder.glob(_EVENTS):
                path.unlink()
            self._writers[run.folder], self._rows[run.folder] = EventFileWriter(str(folder)), 0
            start = run.rows[0].moment if run.rows else None
            self._add(run, summary_v2.hparams_pb(run.settings, trial_id=name, start_time_secs=start), 0)
        for row in run.rows[self._rows[run.folder] :]:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in row.numbers.items()]
            self._add(run, Summary(value=values), row.step, row.moment)
        self._rows[run.folder] = len(run.rows)
        if run.state == "finished":
            step = run.rows[-1].step if run.rows else 0
            values = [_image(path) for path in run.files if path.suffix == ".png"]
            values.append(_text("summary", json.dumps(summary_of(run.folder), indent=2)))
            self._add(run, Summary(value=values), step)
        self._writers[run.folder].flush()

    def _name(self, run: Tracked) -> str:
        """The run's name, with a number where another run's event file is there."""
        names = itertools.chain([run.name], (f"{run.name}_{number}" for number in itertools.count(2)))
        return next(name for name in names if _is_free(self._target / name, run.folder))

    def _add(self, run: Tracked, summary: Summary, step: int, moment: float | None = None) -> None:
        moment = moment or (run.rows[-1].moment if run.rows else 0.0)
        self._writers[run.folder].add_event(Event(wall_time=moment, step=step, summary=summary))

    def close(self) -> None:
        """Close the event files."""
        for writer in self._writers.values():
            writer.close()


def _is_free(folder: Path, run: Path) -> bool:
    """Whether `folder` may take the event file of this run: it has none, or this run's."""
    source = folder / _SOURCE
    if source.exists():
        return source.read_text("utf-8") == f"{run}\n"
    return not any(folder.glob(_EVENTS))


def _image(path: Path) -> Summary.Value:
    with Image.open(path) as image:
        width, height = image.size
    picture = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=path.read_bytes())
    return Summary.Value(tag=path.stem, image=picture)


def _text(tag: str, text: str) -> Summary.Value:
    """Text in the form of TensorBoard's plugin, which shows Markdown: indentation makes it verbatim."""
    indented = "\n".join(f"    {line}" for line in text.splitlines())
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[indented.encode()], tensor_shape=shape)
    description = metadata.create_summary_metadata(display_name=tag, description="")
    return Summary.Value(tag=tag, metadata=description, tensor=tensor)
