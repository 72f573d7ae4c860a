"""Hypothesis strategies for weights: whole weights from good parts, and the same with an odd value in one place."""

from collections.abc import Mapping

from hypothesis import strategies as st

from integration.specs import POD_TEMPLATES, Json, Strategy, draw_manifest

_ODD_NAMES = st.sampled_from(("A", "a_b", "-a", "a" * 254, "", "a\n", 1))

# For each field: its good values, and values that are nearly right. Good values of two fields may exclude each other.
_FIELDS: Mapping[str, tuple[Strategy, Strategy]] = {
    "source.variant": (st.just("instruct"), st.sampled_from(("thinking", "Instruct"))),
    "source.revision": (
        st.sampled_from(("main", "v1.0", "a/b", "0" * 40)),
        st.sampled_from(("a..b", "a/", "-x", "", "a b", "main\n", "x" * 254, 7)),
    ),
    "source.endpoint": (
        st.sampled_from(("https://hub.example.com", "http://hub:8080/mirror/", "https://[::1]:443")),
        st.sampled_from(("hub", "https://user:secret@hub", "ftp://hub", "https://hub/?a=b", "https://hub\n", "")),
    ),
    "source.tokenSecretRef": (
        st.sampled_from(({"name": "hf"}, {"name": "hf", "key": "HF_TOKEN"})),
        st.sampled_from(({}, {"key": "token"}, {"name": "A"}, "hf")),
    ),
    "volume.existingClaim": (st.sampled_from(("models", "a.b")), _ODD_NAMES),
    "volume.storageClassName": (st.sampled_from(("nfs", "a.b")), _ODD_NAMES),
    "volume.size": (
        st.sampled_from(("1Gi", "200Gi", "1T", "2Pi")),
        st.sampled_from(("200", "0Gi", "1.5Ti", "200gi", "1Mi", 200, "1Gi\n")),
    ),
    "volume.accessModes": (
        st.sampled_from((["ReadWriteMany"], ["ReadWriteOnce"], ["ReadWriteOnce", "ReadWriteMany"])),
        st.sampled_from(([], ["RWX"], "ReadWriteMany", [None], ["ReadWriteMany"] * 5)),
    ),
    "volume.deletionPolicy": (st.sampled_from(("Keep", "Delete")), st.sampled_from(("keep", "Retain", True))),
    "image": (st.sampled_from(("a/b:1", "x" * 512)), st.sampled_from(("", ":v1", "a b", "x" * 513))),
    "podTemplate": (
        st.sampled_from(({}, {"spec": {"containers": [{"name": "fetch", "env": [{"name": "A", "value": "b"}]}]}})),
        POD_TEMPLATES,
    ),
}
_NAMES = st.sampled_from(("kimi", "kimi", "kimi", "a" * 50, "a" * 51, "1a", "a.b", "A", "a-"))


@st.composite
def weights_manifests(draw: st.DrawFn) -> dict[str, Json]:
    """A KimiLinearWeights as users might write it. About half of them are valid."""
    return draw_manifest(draw, "KimiLinearWeights", _NAMES, _FIELDS, {})
