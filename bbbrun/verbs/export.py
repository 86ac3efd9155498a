"""`bbbrun export`: a run's network as a plain module's state dict with its code, or as a torch.export program."""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from bbbrun.errors import UserError
from bbbrun.runs.files import named_folder, require_not_of_a_run, write_atomically
from bbbrun.verbs.predict import add_trust


def main(words: Sequence[str] | None = None) -> None:
    """Run `bbbrun export` with `words`, by default the command line's.

    Exit code 0, 1 for what cannot be read, exported or written, 2 for wrong words.
    """
    parser = argparse.ArgumentParser(
        prog="bbbrun export",
        description="A finished run's network for use without bbbrun. FILE.pt: the state dict of a torch.nn module, "
        "with FILE.py, the lines that load it. FILE.pt2: a torch.export program.",
    )
    add = parser.add_argument
    add("run", type=named_folder, metavar="RUN", help="the folder of a finished run")
    add("-o", "--output", type=named_folder, required=True, metavar="FILE", help="the file to write, .pt or .pt2")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--draw", type=int, metavar="N", help="draw number N of the weights, from 0, in place of their mean"
    )
    text = "the mean without the PERCENT of weights of lowest signal-to-noise; says its error on the test set"
    choice.add_argument("--prune", type=float, metavar="PERCENT", help=text)
    add("--seed", type=int, metavar="S", help="the seed of the draw, by default 0")
    text = "with --prune: where data sets lie, by default $BBBRUN_DATA or the cache"
    add("--data", type=named_folder, metavar="FOLDER", help=text)
    add_trust(parser)
    arguments = parser.parse_args(words)
    if arguments.draw is not None and not 0 <= arguments.draw < 2**20:
        parser.error(f"--draw must be from 0 to {2**20 - 1}, not {arguments.draw}")
    if arguments.prune is not None and not 0 <= arguments.prune < 100:
        parser.error(f"--prune must be from 0 to below 100, not {arguments.prune}")
    if arguments.seed is not None and (arguments.draw is None or not 0 <= arguments.seed < 2**31):
        parser.error(f"--seed is of --draw, from 0 to {2**31 - 1}")
    if arguments.data is not None and arguments.prune is None:
        parser.error("--data has no effect without --prune")
    _export(arguments)


def _is_own(path: Path, header: str) -> bool:
    return path.is_file() and path.read_text(errors="replace").startswith(header)


def _export(arguments: argparse.Namespace) -> None:
    output: Path = arguments.output
    if output.suffix not in (".pt", ".pt2"):
        raise UserError(f"--output must end in .pt or .pt2, not {output}")
    code_path = output.with_suffix(".py")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise UserError(f"--output {output}: {'it is a folder' if output.is_dir() else f'there is no {output.parent}'}")
    if output.suffix == ".pt" and output.stem == "torch":
        raise UserError(f"--output {output}: {code_path.name} beside it would be what `import torch` finds there")
    require_not_of_a_run(output)
    import torch

    from bbbrun.runs.reader import finished_runs
    from bbbrun.tasks.export import HEADER, error_of, exported, program_of, weights_of

    if output.suffix == ".pt" and code_path.exists() and not _is_own(code_path, HEADER):
        raise UserError(f"--output {output}: {code_path} is there, and is not bbbrun's: name another file")
    runs = finished_runs([arguments.run], arguments.trust)
    if len(runs) > 1:
        raise UserError(f"{arguments.run} holds {len(runs)} runs: name one, such as {runs[0].folder}")
    [run] = runs
    weights = weights_of(run, arguments.draw, arguments.seed or 0, arguments.prune)
    origin = f"{run.summary['command']}: the mean of its weights"
    if arguments.draw is not None:
        origin = f"{run.summary['command']}: draw {arguments.draw} of seed {arguments.seed or 0} of its weights"
    remarks = []
    if arguments.prune is not None:
        root = str(arguments.data) if arguments.data else None
        name, error = error_of(run, weights, root)
        unpruned = error_of(run, weights_of(run, None, 0, None), root)[1]
        share = 100 * (weights == 0).double().mean().item()
        remarks = [
            f"{share:.4g} % of {len(weights)} weights are zero; {name} {error:.4g}, with none removed {unpruned:.4g}"
        ]
    network = exported(run, weights)
    content = io.BytesIO()
    if output.suffix == ".pt":
        torch.save(network.module.state_dict(), content)
        lines = network.lines(output.name)
        comments = [HEADER, *(f"# {' '.join(text.split())}" for text in (origin, *remarks))]
        write_atomically(output, content.getvalue(), follow=True)
        write_atomically(code_path, ("\n".join([*comments, *lines]) + "\n").encode(), follow=True)
    else:
        torch.export.save(program_of(network), content)
        lines = ["import torch", f"module = torch.export.load({output.name!r}).module()"]
        lines.append(f"{network.usage.result} = module({network.usage.inputs})  # {network.usage.comment}, float32")
        write_atomically(output, content.getvalue(), follow=True)
    for remark in remarks:
        print(remark, file=sys.stderr)
    print("\n".join(lines))
