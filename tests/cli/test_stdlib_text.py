"""The demo's text: large enough, split by whole documents, nothing learned that is also tested."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cs336_basics.cli.stdlib_text import END, read_documents, split_documents, stdlib_documents
from cs336_basics.config import ConfigError


@pytest.fixture(scope="module")
def documents() -> dict[str, str]:
    return stdlib_documents()


def test_the_standard_library_gives_a_few_megabytes(documents: dict[str, str]) -> None:
    size = sum(len(text.encode()) for text in documents.values())
    assert 1e6 < size < 2e7
    assert len(documents) > 200
    assert any(name.startswith("topic ") for name in documents)
    assert "Write the pickled representation" in documents["module pickle"] or "pickle" in documents["module pickle"]


def test_no_docstring_stands_in_two_modules(documents: dict[str, str]) -> None:
    paragraphs = [
        paragraph
        for name, text in documents.items()
        if name.startswith("module ")
        for paragraph in set(text.split("\n\n"))
        if len(paragraph) > 400
    ]
    repeated = len(paragraphs) - len(set(paragraphs))
    assert repeated <= 0.02 * len(paragraphs)


def test_the_text_holds_no_end_marker_of_its_own(documents: dict[str, str]) -> None:
    assert not any(END in text for text in documents.values())


@given(
    documents=st.dictionaries(st.text("abc", min_size=1), st.text("xyz", min_size=2), min_size=1, max_size=30),
    share=st.floats(0.01, 0.9),
)
def test_split_keeps_documents_whole_but_one(documents: dict[str, str], share: float) -> None:
    train, valid = split_documents(documents, valid_share=share)
    sides = [text.split(f"\n{END}\n") for text in (train, valid)]
    assert sides[0][-1] == sides[1][-1] == ""
    assert all(len(side) >= 2 for side in sides)
    train_parts, valid_parts = (Counter(side[:-1]) for side in sides)
    whole = Counter(documents.values())
    pieces = train_parts + valid_parts - whole, whole - train_parts - valid_parts
    if whole - train_parts - valid_parts:
        assert [p.total() for p in pieces] == [2, 1], "one document, in two parts"
    total = sum(map(len, documents.values()))
    held_out = sum(len(part) for part in sides[1][:-1])
    assert share * total / 2 - 1 <= held_out <= max(share * total + 1, 1)
    assert split_documents(documents, valid_share=share) == (train, valid)


def text_with(place: int, dominant: str) -> str:
    """Ten short documents with the dominant one at that place among them."""
    short = [f"a short document, number {n}, of one line" for n in range(10)]
    return f"\n{END}\n".join([*short[:place], dominant, *short[place:]])


LINES = "\n".join(f"line {n} of a long document" for n in range(4000))


@pytest.mark.parametrize("place", range(11))
def test_a_dominant_document_is_learned_from_wherever_it_stands(place: int, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text_with(place, LINES))
    train, valid = split_documents(read_documents(path), valid_share=0.08)
    assert 0.07 < len(valid) / (len(train) + len(valid)) < 0.09
    (tail,) = [part for part in valid.split(f"\n{END}\n") if part.startswith("line ")]
    (head,) = [part for part in train.split(f"\n{END}\n") if part.startswith("line ")]
    assert f"{head}\n{tail}" == LINES, "cut at a line end"


@pytest.mark.parametrize(
    "text", [LINES, f"{LINES}\n{END}\n", "x " * 50_000, "a\n" + "xy" * 50_000, f"{END}\n{'é' * 999}", "xy", "x\ny\n"]
)
def test_one_document_or_one_line_is_cut(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    train, valid = split_documents(read_documents(path), valid_share=0.08)
    kept = [text.replace(END, "").replace("\n", "") for text in (train, valid)]
    assert all(kept)
    assert sorted("".join(kept)) == sorted(text.replace(END, "").replace("\n", ""))
    if len(text) > 900:
        assert 0.07 < len(valid) / (len(train) + len(valid)) < 0.10


def test_equal_documents_too_large_for_the_share_are_learned_from() -> None:
    train, valid = split_documents(dict.fromkeys("abc", LINES), valid_share=0.08)
    assert train.count(LINES) == 2
    assert 0.07 < len(valid) / (len(train) + len(valid)) < 0.09


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ConfigError, match="text: it must hold a document of two characters or more"):
        split_documents({"a": "x"}, valid_share=0.5)


def test_split_comes_close_to_the_share_asked(documents: dict[str, str]) -> None:
    train, valid = split_documents(documents, valid_share=0.08)
    assert 0.07 < len(valid) / (len(train) + len(valid)) < 0.081


def test_documents_of_a_file_are_those_between_markers(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"one\n{END}\ntwo é\n{END}\n\n{END}")
    assert list(read_documents(path).values()) == ["one", "two é"]


def test_a_file_without_markers_is_cut_by_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"line {n}\n" for n in range(250)))
    documents = read_documents(path)
    assert len(documents) == 3
    assert "\n".join(documents.values()) + "\n" == path.read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "must hold text"), (f"\n{END}\n \n".encode(), "must hold text"), (b"ab\xff", "byte offset 2")],
)
def test_files_that_will_not_do(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_documents(path)
