"""The demo's text: large enough, split by whole documents, nothing learned that is also tested."""

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
    documents=st.dictionaries(st.text("abc", min_size=1), st.text("xyz \n", min_size=1), min_size=2, max_size=30),
    share=st.floats(0.01, 0.9),
)
def test_split_keeps_every_document_on_one_side(documents: dict[str, str], share: float) -> None:
    train, valid = split_documents(documents, valid_share=share)
    sides = [text.split(f"\n{END}\n") for text in (train, valid)]
    assert sides[0][-1] == sides[1][-1] == ""
    found = [document for side in sides for document in side[:-1]]
    assert sorted(found) == sorted(documents.values())
    assert all(len(side) >= 2 for side in sides)
    assert split_documents(documents, valid_share=share) == (train, valid)


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
    [(b"", "at least two documents"), (b"short", "at least two documents"), (b"ab\xff", "byte offset 2")],
)
def test_files_that_will_not_do(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_documents(path)
