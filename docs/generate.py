"""Pages that are made from the configs, the published numbers and the package whenever MkDocs builds the site.

MkDocs calls the hooks at the end (``hooks`` in mkdocs.yml); the functions above them return Markdown.
"""

import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page as SitePage

from vse_gpo.reporting.published_tables import ablations_section, protocols_table, rows_table

REPOSITORY = Path(__file__).parents[1]
CONFIGS = REPOSITORY / "configs"
PACKAGE = REPOSITORY / "src" / "vse_gpo"
TABLES = {"rows": rows_table, "protocols": protocols_table, "ablations": ablations_section}
LINE = 78  # characters of code that a page shows without scrolling
SETTINGS = re.compile(r"[\w/.]+=\S+( [\w/.]+=\S+)*(\s{3,}.*)?")  # a line of nothing else
TABLE = re.compile(r"<!-- table: (\w+) -->")
SUBCOMMANDS = {"prepare_vocabulary": "prepare vocabulary"}  # help → what is typed after vse-
DOORS = {path.stem for path in (CONFIGS / "hydra" / "help").glob("*.yaml")}
GROUPS = ("dataset", "backbone", "text", "pooling", "interaction", "loss", "dense", "phases", "optimizer")
GROUPS += ("optimizer/build", "adapters", "trainer", "callbacks", "logger", "checkpoint_io", "experiment", "sweep")
GROUPS += ("debug",)


class Page(NamedTuple):
    """One generated page."""

    title: str
    text: str


def pages() -> dict[str, Page]:
    """Path → page, in the order of the navigation."""
    return command_pages() | group_pages() | module_pages() | project_pages()


# commands


class Help(NamedTuple):
    """The help text of a command, taken apart."""

    prose: list[str]
    commands: list[tuple[str, str]]  # what to type, what it does
    settings: list[tuple[str, str]]
    groups: bool  # whether the command has configuration groups


def read_help(command: str) -> Help:
    """Take a help template apart: paragraphs, and indented lines of commands or settings."""
    template = yaml.safe_load((CONFIGS / "hydra" / "help" / f"{command}.yaml").read_text(encoding="utf-8"))["template"]
    help = Help([], [], [], "$APP_CONFIG_GROUPS" in template)
    for paragraph in template.replace("$APP_CONFIG_GROUPS", "").strip().split("\n\n"):
        lines = paragraph.strip("\n").splitlines()
        for line in lines if lines and lines[0].startswith("  ") else []:
            left, *right = re.split(r"\s{2,}", line.strip(), maxsplit=1)
            (help.commands if left.startswith(("vse-", "python")) else help.settings).append((left, " ".join(right)))
        if lines and not lines[0].startswith("  ") and not lines[-1].endswith(":"):
            help.prose.append(" ".join(lines))
    return help


def command_pages() -> dict[str, Page]:
    """A page for each command, and one that lists them."""
    found = {"commands/index.md": Page("All commands", "")}
    lines = [
        "# Commands\n",
        "Settings are written `name=value`, parts are chosen with `group=option`. `--help` lists both, `--cfg job` "
        "prints the whole config without running anything. An error is one line that says what was found, what was "
        "expected and what to do; `HYDRA_FULL_ERROR=1` shows the traceback.\n",
        "| command | what it does |\n|---|---|",
    ]
    for name in sorted(DOORS):
        help = read_help(name)
        command = f"vse-{SUBCOMMANDS.get(name, name.replace('_', '-'))}"
        page = f"{command.replace(' ', '-')}.md"
        lines.append(f"| [`{command}`]({page}) | {prose(help.prose[0])} |")
        found[f"commands/{page}"] = Page(command, command_page(name, command, help))
    found["commands/index.md"] = Page("All commands", "\n".join(lines) + "\n")
    return found


def command_page(name: str, command: str, help: Help) -> str:
    """Usage, settings and the config's root of one command."""
    first, *others = help.prose
    [module] = [typed for typed, text in help.commands if text == "the same command"]
    usage = [f"# {text}\n{typed}" if text else typed for typed, text in help.commands if typed != module]
    parts = [f"# {command}", prose(first), fenced("bash", "\n\n".join(usage))]
    parts.append(f"`{module}` is the same command.")
    parts += [prose(text) for text in others]
    if help.settings:
        parts.append("## Common settings\n\n" + "\n".join(setting_line(typed, text) for typed, text in help.settings))
    text = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
    if help.groups:
        parts.append("[Configuration groups](../configuration/index.md) lists every option of every group.")
    parts.append(f"## All settings\n\n`configs/{name}.yaml`\n\n" + fenced("yaml", folded(read_option(text).body)))
    return "\n\n".join(parts) + "\n"


def setting_line(typed: str, text: str) -> str:
    """A list item: settings as code, then what they mean."""
    typed = " ".join(code(setting) for setting in typed.split())
    return f"- {typed}: {prose(text)}" if text else f"- {typed}"


# configuration groups


class Option(NamedTuple):
    """One file of a group."""

    header: list[str]  # comment lines at the top
    body: str


def read_option(text: str) -> Option:
    """Take a YAML file apart: the comment at the top, and the settings with their comments."""
    lines = [line for line in text.splitlines() if not line.startswith("# @package")]
    count = next((row for row, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return Option([line.removeprefix("#").removeprefix(" ") for line in lines[:count]], "\n".join(lines[count:]) + "\n")


def about(option: Option) -> str:
    """The header as Markdown: sentences as paragraphs, commands as code, published results as tables."""
    parts: list[tuple[Callable[[list[str]], str], list[str]]] = []
    continued = False
    for line in option.header:
        show = shell if continued else shown_as(line)
        continued = show is shell and line.endswith("\\")
        if parts and parts[-1][0] is show and not line.startswith("Published"):
            parts[-1][1].append(line)
        else:
            parts.append((show, [line]))
    return "\n\n".join(show(lines) for show, lines in parts)


def shown_as(line: str) -> Callable[[list[str]], str]:
    """What shows a header's line, with those beside it that are alike."""
    if line.startswith(("python -m", "vse-", "#SBATCH", "srun", " ")):
        return table if " | " in line else shell
    return settings if SETTINGS.fullmatch(line) else paragraph


def paragraph(lines: list[str]) -> str:
    return prose(" ".join(lines))


def shell(lines: list[str]) -> str:
    return fenced("bash", textwrap.dedent("\n".join(lines)))


def settings(lines: list[str]) -> str:
    """A list item for each line: settings, and what they do after some spaces."""
    parts = (re.split(r"\s{3,}", line, maxsplit=1) for line in lines)
    return "\n".join(setting_line(typed, " ".join(text)) for typed, *text in parts)


def table(lines: list[str]) -> str:
    """Rows with bars between their cells, the first as the head."""
    head, *rows = (f"| {line.strip()} |" for line in lines)
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *rows])


def group_pages() -> dict[str, Page]:
    """A page for each configuration group, and one that lists them."""
    found = {"configuration/index.md": Page("All groups", "")}
    rows = []
    for group in GROUPS:
        files = sorted((CONFIGS / group).glob("*.yaml"))
        name = group.replace("/", "_")
        names = ", ".join(code(path.stem) for path in files)
        rows.append(f"| [`{group}`]({name}.md) | {names if len(files) <= 20 else f'{len(files)} options'} |")
        found[f"configuration/{name}.md"] = Page(group, group_page(group, files))
    text = (
        "# Configuration groups\n\n"
        "A run is put together from one option of each group: `vse-train optimizer=adamp loss=infonce`. Every setting "
        "of an option can be changed: `vse-train loss=infonce loss.temperature=0.07`. `vse-train … --cfg job` prints "
        "the resulting config.\n\n"
        "`pooling=NAME` sets the pooling of both modalities; `pooling@image_pooling=NAME` and "
        "`pooling@text_pooling=NAME` set one, whose settings are then `image_pooling.*` and `text_pooling.*`. An "
        "`experiment` holds the differences of one published row from the defaults, a `sweep` the runs of a "
        "comparison.\n\n"
        "| group | options |\n|---|---|\n"
    )
    found["configuration/index.md"] = Page("All groups", text + "\n".join(rows) + "\n")
    return found


def group_page(group: str, files: list[Path]) -> str:
    """Every option of a group with its comment and its settings."""
    parts = [f"# Group `{group}`"]
    for path in files:
        option = read_option(path.read_text(encoding="utf-8"))
        parts += [f"## {group}={path.stem}", about(option)]
        if option.body.strip():
            parts.append(f'??? note "Settings"\n{indented(fenced("yaml", folded(option.body)))}')
    return "\n\n".join(part for part in parts if part) + "\n"


# modules


def module_pages() -> dict[str, Page]:
    """A page for the modules at the top of the package, and one for each room."""
    top = [path.stem for path in sorted(PACKAGE.glob("*.py")) if path.stem not in {"__init__", *DOORS}]
    found = {"modules/index.md": Page("vse_gpo", module_page("vse_gpo", top))}
    for room in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
        inside = sorted(path.relative_to(room).with_suffix("") for path in room.rglob("*.py"))
        names = [".".join(path.parts) for path in inside if not path.name.startswith("__")]
        found[f"modules/{room.name}.md"] = Page(f"vse_gpo.{room.name}", module_page(f"vse_gpo.{room.name}", names))
    return found


def module_page(package: str, names: list[str]) -> str:
    """The public members of these modules, from their docstrings."""
    return f"# {package}\n\n" + "\n".join(f"::: {package}.{name}\n" for name in names)


# files of the project


def project_pages() -> dict[str, Page]:
    """CONTRIBUTING.md and CHANGELOG.md, whose links are relative to the repository."""
    found = {}
    for name, title in (("CONTRIBUTING.md", "Contribute"), ("CHANGELOG.md", "Changelog")):
        text = (REPOSITORY / name).read_text(encoding="utf-8").replace("](docs/pages/", "](")
        page = {"CONTRIBUTING.md": "contribute.md", "CHANGELOG.md": "changelog.md"}
        for file, target in page.items():
            text = text.replace(f"]({file}", f"]({target}")
        found[page[name]] = Page(title, text)
    return found


# Markdown

NAME = re.compile(
    r"`[^`]*`"  # code already
    r"|[\w.@/+]+=\[[^\]]*\]"  # callbacks=[default, ema]
    r"|pip install (?:'[^']*'|\S+)"
    r"|python -m vse_gpo(?:\.\w+)+"
    r"|(?<![\w.])(?:--|~)[a-z][\w./-]*(?: job\b)?"  # --cfg job, ~callbacks.examples
    r"|[\w.@/+-]*[A-Za-z_]=[^\s,;:)]*"  # name=value
    r"|\b(?:vse|torch)[.-]\w[\w.-]*\w"
    r"|(?:[\w{}-]*/)*\w*[A-Za-z]\w*(?:\.[A-Za-z]\w+)+"  # config.yaml, callbacks.best.monitor
    r"|\b\w*[A-Za-z0-9]_\w+\b(?:\.\*)?|<\w+>"  # snake_case, <mask>
)


def prose(text: str) -> str:
    """A text with its names, settings and files as code and everything else escaped."""
    pieces, start = [], 0
    for found in NAME.finditer(text):
        word = found[0].rstrip(".")
        pieces += [escaped(text[start : found.start()]), code(word.strip("`"))]
        start = found.start() + len(found[0].rstrip(".") if word != found[0] else found[0])
    return "".join([*pieces, escaped(text[start:])])


def escaped(text: str) -> str:
    return re.sub(r"([*_<>|\[\]~`])", r"\\\1", text)


def code(text: str) -> str:
    """A text as code; a table's bar would end its cell."""
    return f"`{text}`".replace("|", "\\|")


def fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())


def folded(body: str) -> str:
    """A YAML text whose long comments stand on lines of their own, above the setting that they belong to."""
    lines = []
    for line in body.splitlines():
        setting, *comment = re.split(r"\s*(?<!\S)# ", line, maxsplit=1)
        if len(line) <= LINE or not comment:
            lines.append(line)
            continue
        indent = " " * (len(line) - len(line.lstrip()))
        lines += textwrap.wrap(comment[0], LINE, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        lines += [setting] if setting else []
    return "\n".join(lines) + "\n"


# hooks


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages into the navigation."""
    made = pages()

    def filled(items: list[Any]) -> Iterator[dict[str, Any]]:
        for item in items:
            ((title, value),) = item.items()
            if isinstance(value, list):
                yield {title: list(filled(value))}
            elif value.endswith("/"):
                yield {title: [{page.title: path} for path, page in made.items() if path.startswith(value)]}
            else:
                yield item

    config.nav = list(filled(config.nav or []))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for path, page in pages().items():
        files.append(File.generated(config, path, content=page.text))
    return files


def on_page_markdown(markdown: str, page: SitePage, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Put the published tables where a page asks for them."""
    return with_tables(markdown)


def with_tables(markdown: str) -> str:
    """The text with each ``<!-- table: NAME -->`` replaced by the table of that name."""
    return TABLE.sub(lambda found: TABLES[found[1]](), markdown)
