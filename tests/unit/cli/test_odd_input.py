"""What a first user gets wrong: each error names the option or the field, the value and the remedy."""

from pathlib import Path

import pytest

from kimi_linear_operator import cli
from kimi_linear_operator.cli.failure import of_cluster
from kimi_linear_operator.cluster.answer import Answer, error_of
from kimi_linear_operator.cluster.errors import NO_ANSWER, NOT_SERVED, UNREACHABLE, ApiError, OtherVersionError

SERVER = "{apiVersion: kimi-linear.io/v1alpha1, kind: KimiLinearServer, metadata: {name: kimi%s}}"
RULE = "use at most 63 lower-case letters, digits and '-', and begin and end with a letter or a digit"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, without a cluster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)


def run(capsys: Capture, *arguments: str) -> tuple[int, str]:
    """Run the command; return its exit code and what it says on standard error."""
    try:
        code = cli.main(arguments)
    except SystemExit as exit_:  # argparse has refused an argument
        code = int(str(exit_.code))
    return code, capsys.readouterr().err


@pytest.mark.parametrize("name", ["Bad_NS", "-a", "a.b", "a" * 64, "../x"])
@pytest.mark.parametrize(
    "verb",
    ["validate -f x", "render -f x", "diff -f x", "report x", "status x", "verify x", "run"],
    ids=lambda verb: verb.partition(" ")[0],
)
def test_a_name_that_no_namespace_can_have_is_refused(verb: str, name: str, capsys: Capture) -> None:
    code, said = run(capsys, *verb.split(), f"--namespace={name}")
    assert code == 2
    assert f"argument -n/--namespace: '{name}' cannot be the name of a namespace: {RULE}" in said


@pytest.mark.parametrize("name", ["a", "team-1", "a" * 63])
def test_a_name_that_a_namespace_can_have_is_accepted(name: str, capsys: Capture) -> None:
    Path("kimi.yaml").write_text(SERVER % "")
    assert run(capsys, "validate", "-f", "kimi.yaml", "-n", name) == (0, "")


def test_a_namespace_in_a_file_is_checked_like_the_option(capsys: Capture) -> None:
    Path("kimi.yaml").write_text(SERVER % ", namespace: Bad_NS")
    code, said = run(capsys, "render", "-f", "kimi.yaml")
    assert code == 1
    assert f'metadata.namespace: "Bad_NS": cannot be the name of a namespace: {RULE}' in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("validate -f nowhere.yaml", "-f nowhere.yaml: No such file or directory: check the path"),
        ("validate -f empty.yaml", "in empty.yaml: -f takes files with KimiLinearBenchmark, KimiLinearServer, KimiLin"),
        ("crd --write empty.yaml", "--write empty.yaml: File exists: check the path"),
        ("page --write nowhere/page.html", "--write nowhere/page.html: No such file or directory: check the path"),
        ("run --lease a/b/c", "--lease a/b/c: must be NAMESPACE/NAME"),
        ("run --lease Bad_NS/b", "--lease Bad_NS/b: must be NAMESPACE/NAME"),
        ("run --rollout-pause soon", "argument --rollout-pause: 'soon' must be a number of seconds, 1 or more"),
        ("run --rollout-pause 0", "argument --rollout-pause: '0' must be a number of seconds, 1 or more"),
        ("verify http://", "http:// is not the address of a server: write it without a path, for example http"),
        ("status kls/", "[TYPE/]NAME 'kls/': the name is empty: write NAME, or for example kls/NAME"),
        ("status klx/kimi", "klx/kimi: there is no type klx; there are kls, klb, klw"),
    ],
)
def test_an_argument_that_cannot_be_right_is_named_with_the_remedy(arguments: str, said: str, capsys: Capture) -> None:
    Path("empty.yaml").write_text("")
    code, errors = run(capsys, *arguments.split(), *(["-n", "default"] if arguments.startswith("status") else []))
    assert code == 2
    assert said in errors


@pytest.mark.parametrize("verb", ["status kimi", "diff -f kimi.yaml", "report nightly", "verify kimi", "run"])
def test_without_a_cluster_every_verb_says_where_it_has_looked(verb: str, capsys: Capture) -> None:
    Path("kimi.yaml").write_text(SERVER % "")
    code, said = run(capsys, *verb.split())
    assert code == 2
    assert "no cluster: there is no ~/.kube/config, and this is not a pod" in said
    assert "set KUBECONFIG to the path of a kubeconfig" in said


@pytest.mark.parametrize("text", ["", "[", "clusters: []", "current-context: nowhere\ncontexts: []"])
def test_a_kubeconfig_that_cannot_be_used_is_named(text: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("broken").write_text(text)
    monkeypatch.setenv("KUBECONFIG", "broken")
    code, said = run(capsys, "status", "kimi")
    assert code == 2
    assert "no cluster: broken cannot be used as a kubeconfig: " in said
    assert "Correct the file, or set KUBECONFIG to another one" in said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            error_of(Answer(404, b"404 page not found\n", "")),
            "install the operator with its chart, or only the definitions with `kimi-",
        ),
        (
            ApiError(404, f"{NOT_SERVED} kimilinearservers of kimi-linear.io/v1alpha1"),
            "install the operator with its chart, or only the definitions with `kimi-",
        ),
        (ApiError(UNREACHABLE, f"{NO_ANSWER} https://a: refused"), "https://a: refused: check that the cluster runs"),
        (ApiError(404, 'namespaces "a" not found'), 'namespaces "a" not found: create the namespace, or name another'),
        (ApiError(401, "Unauthorized"), "401: Unauthorized: renew the credentials in the kubeconfig"),
        (
            ApiError(403, 'servers is forbidden: User "me" cannot get'),
            '403: servers is forbidden: User "me" cannot get',
        ),
    ],
    ids=str,
)
def test_an_error_of_the_api_server_has_a_remedy(error: ApiError, words: str) -> None:
    assert words in str(of_cluster(error))
    assert "page not found" not in str(of_cluster(error))


def test_a_kind_that_the_cluster_has_in_another_version_is_not_to_be_installed() -> None:
    text = f"{NOT_SERVED} kimilinearservers of kimi-linear.io/v1alpha1, but of kimi-linear.io/v1"
    assert str(of_cluster(OtherVersionError(404, text))) == f"404: {text}"


def test_an_answer_that_names_no_version_shows_which_version_is_needed_and_how_to_find_the_others() -> None:
    """Only a list asks discovery for the versions."""
    told = str(of_cluster(error_of(Answer(404, b"404 page not found\n", ""))))
    assert told.startswith("the cluster does not know the kinds of kimi-linear.io/v1alpha1: install")
    assert "only in another version: `kubectl api-versions` lists" in told
