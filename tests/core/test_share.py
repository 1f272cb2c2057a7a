"""Names of groups, and the filters that are made of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.core.share import group_fault, probe_topics, shared_filter
from actors.core.topic_filter import could_match, filter_fault

GROUPS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1).filter(
    lambda name: not set(name) & set("/+#")
)


@given(GROUPS)
def test_a_group_is_one_level_of_the_filter(group: str) -> None:
    assert group_fault(group) == ""
    assert shared_filter(group, "a/+/b").split("/") == ["$share", group, "a", "+", "b"]
    assert "shared" in filter_fault(shared_filter(group, "a/+/b"))  # whoever writes that into the settings


@given(GROUPS, st.sampled_from("/+#\0\n\x85"), GROUPS)
def test_what_is_no_group(before: str, bad: str, after: str) -> None:
    assert group_fault(before + bad + after)
    assert group_fault("") == "empty"


@given(GROUPS)
def test_one_right_has_both_probes(group: str) -> None:
    plain, shared = probe_topics(group, "0123")
    assert plain != shared
    assert could_match(f"{group}-probe/#", plain)
    assert could_match(f"{group}-probe/#", shared)
    assert not could_match("tracking/+/position", shared)
