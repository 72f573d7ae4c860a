"""The command line: files in, answers out, and an exit code that scripts can rely on."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import kimi_linear_operator
from kimi_linear_operator import cli
from kimi_linear_operator.kubernetes import crd
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.resource_types import DEFINITIONS

GOOD = "{apiVersion: kimi-linear.io/v1alpha1, kind: KimiLinearServer, metadata: {name: good}}\n"
BAD = "{apiVersion: kimi-linear.io/v1alpha1, kind: KimiLinearServer, metadata: {name: bad}, spec: {replica: 1}}\n"
WARNED = (
    "{apiVersion: kimi-linear.io/v1alpha1, kind: KimiLinearServer, metadata: {name: warned}, "
    "spec: {tensorParallelism: 8}}\n"
)
FOREIGN = "{apiVersion: v1, kind: ConfigMap, metadata: {name: foreign}}\n"
SKIPPED = "kimi.yaml: skipped ConfigMap foreign: not of kimi-linear.io\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, file: str = "kimi.yaml") -> None:
    Path(file).write_text(text)


@pytest.mark.parametrize(
    ("text", "code", "output", "errors"),
    [
        (GOOD, 0, "kimi.yaml: KimiLinearServer good: valid\n", ""),
        (
            BAD,
            1,
            "kimi.yaml: KimiLinearServer bad: invalid\n",
            "kimi.yaml: KimiLinearServer bad: error: spec.replica: unknown field: did you mean replicas?\n",
        ),
        (
            WARNED,
            0,
            "kimi.yaml: KimiLinearServer warned: valid\n",
            "kimi.yaml: KimiLinearServer warned: warning: spec.tensorParallelism: 8: published results for this model "
            "on AMD GPUs exist only with 4\n",
        ),
        (
            f"{GOOD}---\n---\n{FOREIGN}---\n{BAD}",
            1,
            "kimi.yaml: KimiLinearServer good: valid\nkimi.yaml: KimiLinearServer bad: invalid\n",
            f"{SKIPPED}kimi.yaml: KimiLinearServer bad: error: spec.replica: unknown field: did you mean replicas?\n",
        ),
        (
            f"{{apiVersion: v1, kind: List, items: [{GOOD}, {FOREIGN}]}}",
            0,
            "kimi.yaml: KimiLinearServer good: valid\n",
            SKIPPED,
        ),
        (
            "{apiVersion: kimi-linear.io/v1alpha1, kind: KimiLinearServer}",
            1,
            "kimi.yaml: KimiLinearServer (no name): invalid\n",
            "kimi.yaml: KimiLinearServer (no name): error: metadata: is required\n",
        ),
    ],
    ids=["valid", "invalid", "warned of", "several documents", "a list", "no metadata"],
)
def test_validate_reports_for_each_resource_whether_it_is_valid(
    text: str, code: int, output: str, errors: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(text)
    assert (cli.main(["validate", "-f", "kimi.yaml"]), *capsys.readouterr()) == (code, output, errors)


def test_several_files_and_standard_input_are_read_in_order(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(GOOD, "a.yaml")
    write(WARNED, "b.yaml")
    monkeypatch.setattr(sys, "stdin", io.StringIO(GOOD))
    assert cli.main(["validate", "-f", "b.yaml", "-f", "-", "-f", "a.yaml"]) == 0
    assert capsys.readouterr().out == (
        "b.yaml: KimiLinearServer warned: valid\n"
        "standard input: KimiLinearServer good: valid\n"
        "a.yaml: KimiLinearServer good: valid\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spec: {a: 1, a: 2}", "key 'a' is given twice"),
        ("spec: [", "expected the node content"),
        (FOREIGN, "no resource of kimi-linear.io in kimi.yaml"),
        ("", "no resource of kimi-linear.io in kimi.yaml"),
        (None, "No such file or directory"),
    ],
    ids=["a key given twice", "no YAML", "nothing of ours", "nothing at all", "no file"],
)
@pytest.mark.parametrize("verb", ["validate", "render", "diff"])
def test_input_that_cannot_be_read_exits_with_2_and_names_the_problem(
    verb: str, text: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        write(text)
    assert cli.main([verb, "-f", "kimi.yaml"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.removeprefix(SKIPPED).startswith(f"kimi-linear {verb}: ")
    assert message in output.err
    assert "kimi.yaml" in output.err


HEAD = "apiVersion: kimi-linear.io/v1alpha1\nkind: KimiLinearServer\n"


def test_yaml_merge_keys_are_merged_and_duplicate_keys_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write(HEAD + "metadata: {name: b, labels: &l {team: ml}, annotations: {<<: *l, team: x}}\nspec: {}\n")
    assert cli.main(["validate", "-f", "kimi.yaml"]) == 0
    for twice in (
        "labels: &l {team: ml, team: x}",
        "labels: {<<: {a: b}, team: ml, team: x}",
        "labels: {1: a, '1': b}",
    ):
        write(HEAD + f"metadata: {{name: b, {twice}}}\nspec: {{}}\n")
        assert cli.main(["validate", "-f", "kimi.yaml"]) == 2
        assert "is given twice" in capsys.readouterr().err


def test_json_may_contain_tabs_but_no_duplicate_keys(capsys: pytest.CaptureFixture[str]) -> None:
    good = (
        '{\n\t"apiVersion": "kimi-linear.io/v1alpha1",\n\t"kind": "KimiLinearServer",\n\t"metadata": {"name": "a"}\n}'
    )
    write(good + good, "kimi.json")
    assert cli.main(["validate", "-f", "kimi.json"]) == 0
    assert capsys.readouterr().out == "kimi.json: KimiLinearServer a: valid\n" * 2
    write(good.replace('"name": "a"', '"name": "a", "name": "b"'), "kimi.json")
    assert cli.main(["validate", "-f", "kimi.json"]) == 2
    assert capsys.readouterr().err == "kimi-linear validate: kimi.json: key 'name' is given twice\n"


def test_a_generated_name_is_accepted_as_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    text = BENCHMARK.replace("name: nightly", "generateName: nightly-")
    write(f"{text}---\n{GOOD}")
    assert cli.main(["validate", "-f", "kimi.yaml"]) == 0
    assert "KimiLinearBenchmark nightly-*: valid" in capsys.readouterr().out
    code, objects = rendered(["-f", "kimi.yaml"], capsys)
    jobs = [item["metadata"]["name"] for item in objects if item["kind"] == "Job"]
    assert (code, jobs) == (0, ["nightly-xxxxx-gsm8k-2754189f"])
    write(GOOD.replace("name: good", "generateName: ''"))
    assert cli.main(["validate", "-f", "kimi.yaml"]) == 1
    assert "metadata.name: is required" in capsys.readouterr().err


def test_a_folder_is_read_like_kubectl_does(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b.yaml", "a.json", "c.txt", "sub/d.yml"):
        (folder / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "all" / name).write_text(GOOD)
    for options, names in (
        (["-f", "all"], ["a.json", "b.yaml"]),
        (["-f", "all", "-R"], ["a.json", "b.yaml", "sub/d.yml"]),
    ):
        assert cli.main(["validate", *options]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines == [f"all/{name}: KimiLinearServer good: valid" for name in names]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("empty", "empty: no file ends in .json, .yaml, .yml (-R includes its subfolders)"),
        ("https://x/y.yaml", "https://x/y.yaml: URLs are not supported"),
        ("no*.yaml", "-f no*.yaml: No such file or directory"),
    ],
)
def test_an_argument_that_names_no_file_is_an_error(
    given: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    assert cli.main(["validate", "-f", given]) == 2
    assert message in capsys.readouterr().err


def test_skipped_documents_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    write(f"{GOOD}---\n{FOREIGN}---\n- a list\n---\n{{kind: Values}}\n---\n{{a: b}}\n")
    assert cli.main(["validate", "-f", "kimi.yaml"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "kimi.yaml: skipped ConfigMap foreign: not of kimi-linear.io",
        "kimi.yaml: skipped something that is not an object: not of kimi-linear.io",
        "kimi.yaml: skipped Values (no name): not of kimi-linear.io",
        "kimi.yaml: skipped (no kind) (no name): not of kimi-linear.io",
    ]


def test_our_kind_in_another_api_group_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    write(GOOD.replace("kimi-linear.io/", "kimilinear.io/"))
    assert cli.main(["validate", "-f", "kimi.yaml"]) == 1
    assert "error: apiVersion: " in capsys.readouterr().err


def test_the_contents_of_a_file_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    write(HEAD + 'metadata: {name: "\\x1b]0;owned\\x07b"}\nspec: {"\\x1b[2Jrepl": 1}\n')
    cli.main(["validate", "-f", "kimi.yaml"])
    output = capsys.readouterr()
    assert "spec.repl: unknown field" in output.err
    assert "\x1b" not in output.out + output.err


def test_a_file_that_is_not_text_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    Path("kimi.yaml").write_bytes(b"\xff\xfe\x00")
    assert cli.main(["validate", "-f", "kimi.yaml"]) == 2
    assert capsys.readouterr().err.startswith("kimi-linear validate: kimi.yaml: ")


def load(text: str, output: str) -> Manifest:
    return dict(json.loads(text) if output == "json" else yaml.safe_load(text))


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_validate_can_report_as_json(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(BAD)
    assert cli.main(["validate", "-f", "kimi.yaml", "-o", output]) == 1
    answer = load(capsys.readouterr().out, output)
    (report,) = answer["items"] if output == "json" else [answer]
    assert report == {
        "file": "kimi.yaml",
        "kind": "KimiLinearServer",
        "metadata": {"namespace": "default", "name": "bad"},
        "valid": False,
        "problems": [
            {
                "severity": "error",
                "path": "spec.replica",
                "message": "unknown field: did you mean replicas?",
                "value": None,
            }
        ],
    }


def rendered(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[Manifest]]:
    code = cli.main(["render", *arguments])
    text = capsys.readouterr().out
    return code, json.loads(text)["items"] if "json" in arguments else list(yaml.safe_load_all(text))


def test_render_gives_the_same_objects_as_yaml_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    write(f"{GOOD}---\n{WARNED}")
    code, objects = rendered(["-f", "kimi.yaml"], capsys)
    assert rendered(["-f", "kimi.yaml", "-o", "json"], capsys) == (code, objects)
    assert (code, [(item["kind"], item["metadata"]["name"]) for item in objects]) == (
        0,
        [("Service", "good"), ("Deployment", "good"), ("Service", "warned"), ("Deployment", "warned")],
    )


def test_rendered_json_is_a_list_that_kubectl_accepts(capsys: pytest.CaptureFixture[str]) -> None:
    write(GOOD)
    cli.main(["render", "-f", "kimi.yaml", "-o", "json"])
    answer = json.loads(capsys.readouterr().out)
    assert (answer["apiVersion"], answer["kind"], len(answer["items"])) == ("v1", "List", 2)


def test_render_leaves_out_invalid_resources_and_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    write(f"{GOOD}---\n{BAD}")
    code, objects = rendered(["-f", "kimi.yaml"], capsys)
    assert (code, {item["metadata"]["name"] for item in objects}) == (1, {"good"})


@pytest.mark.parametrize(
    ("text", "namespace"), [(GOOD, "inference"), (GOOD.replace("{name:", "{namespace: own, name:"), "own")]
)
def test_the_namespace_option_applies_to_resources_without_a_namespace(
    text: str, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(text)
    _, objects = rendered(["-f", "kimi.yaml", "-n", "inference"], capsys)
    assert {item["metadata"]["namespace"] for item in objects} == {namespace}


def test_a_date_is_read_as_text_like_in_kubernetes(capsys: pytest.CaptureFixture[str]) -> None:
    write(GOOD.replace("name: good}}", "name: good}, spec: {service: {annotations: {since: 2026-11-24}}}}"))
    code, (service, _) = rendered(["-f", "kimi.yaml", "-o", "json"], capsys)
    assert (code, service["metadata"]["annotations"]["since"]) == (0, "2026-11-24")


def test_crd_prints_the_same_as_it_writes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["crd"]) == 0
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert cli.main(["crd", "--write", "crds"]) == 0
    assert capsys.readouterr().out == ""
    files = [path for path in (folder / "crds").rglob("*") if path.is_file()]
    schemas = {f"schemas/{path}": text for path, text in crd.schema_files(DEFINITIONS).items()}
    expected = {**crd.files(DEFINITIONS), **schemas}
    assert {str(path.relative_to(folder / "crds")): path.read_text() for path in files} == expected
    written = [document for text in crd.files(DEFINITIONS).values() for document in yaml.safe_load_all(text)]
    assert printed == written


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["--version"])
    assert (exit_info.value.code, capsys.readouterr().out) == (0, f"kimi-linear {kimi_linear_operator.__version__}\n")


@pytest.mark.parametrize("arguments", [[], ["walk"], ["validate"], ["validate", "-f", "a", "-o", "xml"]], ids=str)
def test_a_wrong_command_line_is_reported_with_its_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(arguments)
    assert exit_info.value.code == 2
    assert capsys.readouterr().err.startswith("usage: kimi-linear")


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_a_help_text(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main([verb, "--help"])
    assert exit_info.value.code == 0
    assert f"usage: kimi-linear {verb}" in capsys.readouterr().out


def test_verbs_without_a_cluster_start_without_client_libraries() -> None:
    code = (
        "import sys; from kimi_linear_operator import cli; cli.main(['command']);"
        "print(sorted({'kopf', 'kubernetes', 'aiohttp', 'uvloop'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_closes_the_pipe_early_causes_no_error() -> None:
    write("---\n".join([GOOD] * 3))  # more output than is buffered until the end
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "kimi_linear_operator", "render", "-f", "kimi.yaml"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, env=buffered, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "text", ["a: {{ .Values.x }}", "? [a]\n: b", "a: !!int foo", "a: !!timestamp x", "a: !!set {b}"]
)
def test_input_that_is_not_json_is_an_error_without_a_traceback(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f").write_text(text)
    assert cli.main(["render", "-f", str(tmp_path / "f")]) == 2
    assert "no resource of" not in capsys.readouterr().err


def test_a_closed_standard_output_causes_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "kimi_linear_operator", "command"]
    done = subprocess.run(command, env=env, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


BENCHMARK = (
    "{apiVersion: kimi-linear.io/v1alpha1, kind: KimiLinearBenchmark, metadata: {name: nightly}, "
    "spec: {serverRef: {name: good}, suites: [{name: gsm8k}]}}\n"
)


def test_render_builds_a_benchmark_whose_server_is_in_a_file_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(f"{BENCHMARK}---\n{GOOD}")
    code, objects = rendered(["-f", "kimi.yaml"], capsys)
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert (code, names) == (
        0,
        [
            ("ConfigMap", "nightly-runner"),
            ("Job", "nightly-gsm8k-4f6a709b"),
            ("Service", "good"),
            ("Deployment", "good"),
        ],
    )


def test_render_requires_the_server_of_a_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    write(BENCHMARK)
    assert cli.main(["render", "-f", "kimi.yaml"]) == 1
    assert capsys.readouterr().err == (
        "kimi.yaml: KimiLinearBenchmark nightly: error: spec.serverRef.name: 'good': the pods take values from "
        "this server, but it is in none of the files: add its file\n"
    )


def test_validate_checks_benchmarks_and_suggests_the_intended_field(capsys: pytest.CaptureFixture[str]) -> None:
    write(BENCHMARK.replace("suites:", "suite:"))
    assert cli.main(["validate", "-f", "kimi.yaml"]) == 1
    assert "spec.suite: unknown field: did you mean suites?" in capsys.readouterr().err
