"""Framers: the same messages come out however the bytes are cut."""

from hypothesis import given
from hypothesis import strategies as st

from labctl.instruments.framing import Framer, lines_until, until

TEXT = st.text(alphabet="abc OK=1.", max_size=8).map(str.encode)


def fed(framer: Framer, data: bytes, cuts: list[int]) -> list[bytes]:
    """Messages that come out of `data` arriving in pieces."""
    buffer, messages, begin = bytearray(), [], 0
    for end in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        buffer += data[begin:end]
        begin = end
        while (message := framer(buffer)) is not None:
            messages.append(message)
    return messages


@given(st.lists(TEXT, max_size=5), st.lists(st.integers(0, 60), max_size=6))
def test_until_a_terminator(messages: list[bytes], cuts: list[int]) -> None:
    assert fed(until(b"\r\n"), b"".join(m + b"\r\n" for m in messages), cuts) == messages


@given(
    st.lists(st.lists(TEXT.filter(lambda t: t != b"OK"), max_size=3), max_size=4),
    st.lists(st.integers(0, 99)),
)
def test_lines_until_the_last_one(answers: list[list[bytes]], cuts: list[int]) -> None:
    data = b"".join(b"".join(line + b"\r\n" for line in [*lines, b"OK"]) for lines in answers)
    expected = [b"\n".join([*lines, b"OK"]) for lines in answers]
    assert fed(lines_until(lambda line: line == b"OK"), data, cuts) == expected
