"""Write `config_calibration_frames.yaml` and `docs/configuration.md` from the models in `ostcal.config`.

Run it after a change of a key, a default or a meaning: ``python scripts/make_config_reference.py``. A test fails while
the two files differ from the models.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from ostcal.config import KeyReference, SectionReference, describe_sections

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 116

YAML_HEAD = """\
# Configuration of ostcal: how calibration frames are taken and how they are combined into masters.
#
# Every key is shown with its default. Your own file needs only the keys that you want to change; ostcal config init
# writes a short one to begin with. A file of this name in the working directory is found without --config.
# Relative paths are relative to the working directory. The file may contain sections of other programs.
# The allowed words or the unit are in brackets. docs/configuration.md lists all keys with their bounds.
"""

DOCS_HEAD = """\
# Configuration

<!-- Written by scripts/make_config_reference.py from the models in ostcal/config/. Change those, then run it. -->

No command needs a configuration: without one the defaults hold. It is a YAML file;
[`config_calibration_frames.yaml`](../config_calibration_frames.yaml) contains all keys with their defaults. All
keys and sections are optional:

```yaml
master_frames:
  rejection_method: winsorized_sigma_clip
  sigma_low: 4
  sigma_high: 2.7
```

## Where values come from

Of a value that is given more than once the strongest place counts. From the weakest to the strongest:

1. **Defaults:** the tables below.
2. **Files:** `--config FILE`, or `--config -` for standard input. Of several (`--config site.yaml --config night.yaml`)
   later ones win key by key, and a line says what they replace. Without `--config` a `config_calibration_frames.yaml`
   in the working directory is used, and a line says so.
3. **The environment:** `OSTCAL__MASTER_FRAMES__SIGMA_LOW=2.7`, in upper or lower case; of a key in a group
   `OSTCAL__VIDEO__ALPACA__HOST`.
4. **`--set`:** `--set master_frames.sigma_low=2.7`, `--set "flat_capture.filters=[L, R]"`; it may be repeated.
5. **Arguments and other options of a command:** `ostcal masters FOLDER... --out DIR`,
   `ostcal calibrate LIGHTS... --masters DIR`, `--rejection-method`.

Values in the environment and of `--set` are written as in YAML. An error names the file and the line, the variable or
the option. In Python `load_config` and the classes take a file, a dict or `None` for the defaults, and nothing else:
neither the environment nor a file in the working directory changes what a program does.

```console
$ ostcal config init night.yaml --for camera
$ ostcal config show --config night.yaml --set master_frames.sigma_low=2.7 --changed
$ ostcal config check night.yaml
$ ostcal config schema ostcal.schema.json
```

- `ostcal config init [FILE]` writes a short commented start: `--for frames` (the default: frames that you have),
  `camera` or `cluster`.
- `ostcal config show` prints every key with its value and the place that it is from; `--changed` leaves out defaults,
  `--json` is for programs.
- `ostcal config check [FILE]` lists all problems; the exit code is 0 or 2.
- `ostcal config schema [FILE]` prints or writes the JSON schema. Editors with the YAML language server (VS Code with
  its YAML extension, Neovim, ...) complete keys with it and mark mistakes, if a configuration begins with the line
  `# yaml-language-server: $schema=ostcal.schema.json`. `ostcal config init` writes this line, and the schema beside
  the file.

## How it is written

- Relative paths are relative to the working directory.
- A Windows path is written in single quotes or with forward slashes: `'D:\\astro\\darks'` or `D:/astro/darks`. In
  double quotes a backslash begins an escape (`"\\n"` is a new line); such a path is refused with advice.
- `camera` is another name of the section `video`.
- The file may contain sections of other programs (telescope, mount, overlay, ...), which are ignored. A section that
  looks like one of ours under another name (`masters`, `flats`, `bias_capture`, `master_frame`) is an error that names
  the one that is meant; if its name is only near and no key in it is ours, a warning is printed.
- An unknown key or a wrong value is an error that names the line, the value, what is allowed, and the key that was
  probably meant. All problems are listed at once, and the exit code is 2. In `video` and its groups an unknown key
  is only a warning, because camera drivers have their own keys.
- Numbers may be written as `0.001` or `1e-3`, and `010` is ten. `yes`, `no`, `on` and `off` mean true and false for
  keys that take true or false, and are ordinary words elsewhere. A label of `gain` or `offset` that consists of
  digits needs quotes.
- Memory sizes: `500MB` and `1.5 GB` use powers of 1000, `4GiB` and `512MiB` powers of 1024; a plain number is
  bytes.
- A duplicate key is an error. Anchors, aliases and `<<` are supported.
"""


def render_yaml(sections: tuple[SectionReference, ...]) -> str:
    """Write the commented configuration file."""
    blocks = [YAML_HEAD]
    for section in sections:
        indent = "  " * (len(section.path) - 1)
        blocks.append("")
        blocks += _comment(section.meaning, indent)
        blocks.append(f"{indent}{section.path[-1]}:")
        for key in section.keys:
            blocks += _comment(_sentence(key), f"{indent}  ")
            blocks.append(f"{indent}  {key.name}: {key.default}")
    return "\n".join(blocks).replace("\n\n\n", "\n\n") + "\n"


def render_docs(sections: tuple[SectionReference, ...]) -> str:
    """Write the reference with a table for each section."""
    blocks = [DOCS_HEAD]
    for section in sections:
        heading = "#" * (len(section.path) + 1)
        blocks.append(f"{heading} `{'.'.join(section.path)}`\n\n{section.meaning}\n")
        rows = ["| key | value | default | unit | meaning |", "|---|---|---|---|---|"]
        rows += [
            f"| `{key.name}` | {_cell(key.allowed)} | `{key.default}` | {key.unit} | {_cell(key.meaning)} |"
            for key in section.keys
        ]
        blocks.append("\n".join(rows) + "\n")
    return "\n".join(blocks)


def files() -> dict[Path, str]:
    """Return the text of every file that this script writes."""
    sections = describe_sections()
    return {
        ROOT / "config_calibration_frames.yaml": render_yaml(sections),
        ROOT / "docs" / "configuration.md": render_docs(sections),
    }


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _sentence(key: KeyReference) -> str:
    notes = "; ".join(filter(None, (key.allowed if key.choices else "", key.unit)))
    return f"{key.meaning} [{notes}]" if notes else key.meaning


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Write the files."""
    for path, text in files().items():
        path.write_text(text, encoding="utf-8", newline="\n")
        sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
