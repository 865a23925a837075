"""docs/hosted.md says what is true."""

import re
from pathlib import Path

import pytest

import langchain_rerankkit
from langchain_rerankkit.hosted.profiles import load_profile, profile_names
from langchain_rerankkit.rerankers import providers
from tests.hosted import NAMED

GUIDE = Path(__file__).parents[3] / "docs/hosted.md"


def special(profile):
    said = []
    if profile.url is None:
        said.append("needs `base_url`" + (f" or `{profile.url_env}`" if profile.url_env else ""))
    if profile.params:
        said.append("`params`: " + ", ".join(f"`{name}`" for name in profile.params))
    if profile.scores == "logit":
        said.append("logits, shown as their sigmoid")
    if profile.instruction != "none":
        said.append("takes an `instruction`")
    if profile.signer:
        said.append(
            f"extra `{ {'aws': 'bedrock', 'google': 'vertex', 'ibm': 'watsonx'}.get(profile.signer, profile.signer) }`"
        )
    if profile.probe:
        said.append("is asked for its limit")
    elif profile.max_documents != 256:
        said.append(f"{profile.max_documents} documents at once")
    return "; ".join(said)


def table():
    lines = ["| provider | class | key of its own hosts from | what is special |", "|---|---|---|---|"]
    for name in profile_names():
        profile = load_profile(name)
        keys = " or ".join(f"`{key}`" for key in profile.key_env) or (
            "-" if not profile.signer else "the vendor's library"
        )
        lines.append(f"| `{name}` | {f'`{NAMED[name]}`' if name in NAMED else ''} | {keys} | {special(profile)} |")
    return "\n".join(lines) + "\n"


def test_the_table_of_providers(request):
    written = re.sub(
        r"(?<=<!-- providers -->\n).*?(?=<!-- end -->)", lambda _: table(), GUIDE.read_text(), count=1, flags=re.DOTALL
    )
    if request.config.getoption("--write-tables"):
        GUIDE.write_text(written)
    assert GUIDE.read_text() == written, "run this test with --write-tables"


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL))
def test_the_code_runs(code):
    exec(compile(code, str(GUIDE), "exec"), {"HostedReranker": langchain_rerankkit.HostedReranker})  # noqa: S102


def test_every_class_is_a_provider():
    assert sorted(NAMED.values()) == sorted(providers.__all__)
    for name in providers.__all__:
        assert issubclass(getattr(langchain_rerankkit, name), langchain_rerankkit.HostedReranker)
