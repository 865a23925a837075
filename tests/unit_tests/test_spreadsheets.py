import csv
import datetime as dt
import io
import zipfile

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from langchain_rerankkit import Dataset, DatasetError, Question

WHO = Question("1", "Who?", ("me",), {"d1": 1})


def table(tmp_path, text, name="table.csv", encoding="utf-8"):
    (tmp_path / name).write_bytes(text.encode(encoding))
    return tmp_path / name


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "header", ["Question,Answer,Source", "QUERY,ground_truth,Doc-ID", "prompt, Expected Answer ,url"]
)
def test_columns_and_delimiters_are_found(tmp_path, header, delimiter):
    text = f"{header}\nWho?,me,d1\n\n,,\nWhat?,it,d2\n".replace(",", delimiter)
    dataset = Dataset.from_table(table(tmp_path, text))
    assert dataset.questions == (WHO, Question("2", "What?", ("it",), {"d2": 1}))
    assert dataset.name == "table"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_of_spreadsheet_programs(tmp_path, encoding, end):
    file = table(tmp_path, f"question;answer{end}Wer, und wo?;„mich“{end}", encoding=encoding)
    assert Dataset.from_table(file).questions == (Question("1", "Wer, und wo?", ("„mich“",)),)


def test_another_encoding_is_named_never_guessed(tmp_path):
    file = table(tmp_path, "question,answer\nWer?,Jürgen\n", encoding="cp1252")
    with pytest.raises(DatasetError, match=r"table\.csv:2: .*encoding='cp1252'"):
        Dataset.from_table(file)
    assert Dataset.from_table(file, encoding="cp1252").questions[0].answers == ("Jürgen",)
    with pytest.raises(DatasetError, match="shift_jis"):
        Dataset.from_table(table(tmp_path, "question,answer\nWer?,\u00a0ü", encoding="cp1252"), encoding="shift_jis")


def test_the_delimiter_under_which_the_columns_are_known_wins(tmp_path):
    file = table(tmp_path, "question;answer;remarks, of all, kinds, and sorts\nWho, me?;me;\n")
    assert Dataset.from_table(file).questions[0].text == "Who, me?"
    file = table(tmp_path, "Frage;Antwort, kurz, wie, gesagt\nWer?;ich\n")
    assert Dataset.from_table(file, question="Frage", answer="Antwort, kurz, wie, gesagt").questions[0].text == "Wer?"


def test_columns_may_be_named(tmp_path):
    file = table(tmp_path, "Nr,Frage,Antwort,Beleg,answer\n7,Who?,me,d1,no\n")
    named = {"question": "Frage", "answer": "Antwort", "source": "Beleg", "id": "Nr"}
    assert Dataset.from_table(file, **named).questions == (Question("7", "Who?", ("me",), {"d1": 1}),)


@pytest.mark.parametrize(
    ("cell", "separator", "answers", "documents"),
    [
        ("a; b", None, ("a; b",), {"a; b": 1}),
        ("a; b;;", ";", ("a", "b"), {"a": 1, "b": 1}),
        ('["a", "b;c"]', ";", ("a", "b;c"), {"a": 1, "b;c": 1}),
        ("[1]", None, ("[1]",), {"[1]": 1}),
        ("[a]", None, ("[a]",), {"[a]": 1}),
        ("{}", None, ("{}",), {}),
        ('{"a": 2, "b": 0}', None, ('{"a": 2, "b": 0}',), {"a": 2, "b": 0}),
        (" ", ";", (), {}),
    ],
)
def test_several_in_a_cell_only_by_a_separator_or_as_json(tmp_path, cell, separator, answers, documents):
    quoted = '"' + cell.replace('"', '""') + '"'
    file = table(tmp_path, f"question,answer,source\nWho?,{quoted},{quoted}\n")
    question = Dataset.from_table(file, separator=separator).questions[0]
    assert (question.answers, question.documents) == (answers, documents)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"table\.csv: There is no column for the question; there are none"),
        ("Frage,answer\nWho?,me\n", r"csv:1: .*column for the question; there are 'Frage', 'answer'.*question="),
        ("question,Antwort\nWho?,me\n", r"csv:1: .*the answer or the source; there are 'question', 'Antwort'"),
        ("question,answer,Source,URL\nWho?,me,a,b\n", r"csv:1: Several columns may be the source: 'Source', 'URL'"),
        ("question,answer\n", r"no rows"),
        ("\nquestion,answer\n\nWho?,me,oh\n", r"csv:4: The row has 3 cells, the header 2"),
        ('question,answer\n"Who\nor\nwhat?",me\n,it\n', r"csv:5, field 'question': The cell is blank"),
        ('question,answer\nWho?,me\nWhat?,"it\nHow?,so\n', r"csv:3: The row is not CSV"),
        ("QID,question,answer\n1,Who?,me\n1,What?,it\n", r"csv:3, field 'QID': The id '1' occurs twice"),
        ("id,question,answer\n,Who?,me\n", r"csv:2, field 'id': The cell is blank"),
    ],
)
def test_errors_name_file_line_and_column(tmp_path, content, message):
    with pytest.raises(DatasetError, match=message):
        Dataset.from_table(table(tmp_path, content))


def test_unknown_names_and_kinds_are_refused(tmp_path):
    file = table(tmp_path, "question,answer\nWho?,me\n")
    with pytest.raises(DatasetError, match=r"no column Frage; there are 'question', 'answer'"):
        Dataset.from_table(file, question="Frage")
    with pytest.raises(DatasetError, match=r"\.xlsx"):
        Dataset.from_table(table(tmp_path, "x", "old.xls"))
    with pytest.raises(DatasetError, match="cannot be read"):
        Dataset.from_table(tmp_path / "missing.csv")
    for nothing in ([], 3, ["text"]):
        with pytest.raises(DatasetError, match="A table is"):
            Dataset.from_table(nothing)


cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=4), delimiter=st.sampled_from(",;\t"))
def test_what_the_csv_module_writes_comes_back(tmp_path_factory, rows, delimiter):
    assume(all(question.strip() for question, _ in rows))
    # Lists and objects in a cell are a test of their own.
    assume(not any(cell.strip()[:1] + cell.strip()[-1:] in {"[]", "{}"} for row in rows for cell in row))
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("question", "answer"), *rows])
    file = tmp_path_factory.mktemp("csv") / "table.csv"
    file.write_bytes(text.getvalue().encode())
    found = [(question.text, question.answers) for question in Dataset.from_table(file).questions]
    assert found == [(q.strip(), (a.strip(),) if a.strip() else ()) for q, a in rows]


# --- spreadsheets -----------------------------------------------------------------------------------------------------


def sheet(tmp_path, *rows, name="table.xlsx"):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.active.title = "First"
    book.create_sheet("Second").append(["question", "answer"])
    book["Second"].append(["Second?", "yes"])
    book.save(tmp_path / name)
    book.close()
    return tmp_path / name


def test_cells_of_a_spreadsheet_are_read_as_people_see_them(tmp_path):
    file = sheet(
        tmp_path,
        [None],
        ["Question", "Answer", "Source", None, "Notes"],
        ["How many?", 42.0, 7],
        [],
        ["How much?", 0.1, "  d 1 "],
        ["When?", dt.datetime(2024, 5, 1), "x", None, "=1+1"],  # noqa: DTZ001 - spreadsheets know no zones
        ["At what time?", dt.datetime(2024, 5, 1, 12, 30), "x"],  # noqa: DTZ001
        ["Is it?", True, "x", None, None, "a note beside the table"],
    )
    found = [(q.id, q.answers, tuple(q.documents)) for q in Dataset.load(file).questions]
    assert found == [
        ("1", ("42",), ("7",)),
        ("2", ("0.1",), ("d 1",)),
        ("3", ("2024-05-01",), ("x",)),
        ("4", ("2024-05-01 12:30:00",), ("x",)),
        ("5", ("True",), ("x",)),
    ]
    assert Dataset.from_table(file, sheet="Second").questions == (Question("1", "Second?", ("yes",)),)
    with pytest.raises(DatasetError, match=r"no sheet 'Third'; there are \['First', 'Second'\]"):
        Dataset.from_table(file, sheet="Third")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("=HYPERLINK(A1)", r"xlsx:2, field 'answer': The formula's result is not in the file"),
        ("#REF!", r"xlsx:2, field 'answer': The cell holds the error #REF!"),
    ],
)
def test_cells_without_a_value_are_no_blank_cells(tmp_path, cell, message):
    with pytest.raises(DatasetError, match=message):
        Dataset.load(sheet(tmp_path, ["question", "answer"], ["Who?", cell]))


def test_damaged_sheets_are_refused(tmp_path):
    whole = sheet(tmp_path, ["question", "answer"], ["Who?", "me"])
    with zipfile.ZipFile(whole) as book, zipfile.ZipFile(tmp_path / "damaged.xlsx", "w") as damaged:
        for name in book.namelist():
            content = book.read(name)
            damaged.writestr(name, content[:-40] if name.endswith("sheet1.xml") else content)
    with pytest.raises(DatasetError, match=r"damaged\.xlsx: .*not a spreadsheet"):
        Dataset.load(tmp_path / "damaged.xlsx")


def test_files_that_are_no_spreadsheets_are_refused(tmp_path):
    pytest.importorskip("openpyxl")
    for content in (b"", b"question,answer\n", b"PK\x03\x04" + b"x" * 50):
        (tmp_path / "table.xlsx").write_bytes(content)
        with pytest.raises(DatasetError, match=r"table\.xlsx: .*not a spreadsheet"):
            Dataset.load(tmp_path / "table.xlsx")
    with pytest.raises(DatasetError, match="cannot be read"):
        Dataset.from_table(tmp_path / "missing.xlsx")


# --- rows and data frames ---------------------------------------------------------------------------------------------


def test_rows_as_dicts():
    rows = [
        {"query": "Who?", "reference": ["me", "I"], "reference_context_ids": ("d1", 2)},
        {"query": "What?", "reference": None, "reference_context_ids": {"d2": 3}},
    ]
    assert Dataset.from_table(rows, name="rows").questions == (
        Question("1", "Who?", ("me", "I"), {"d1": 1, "2": 1}),
        Question("2", "What?", (), {"d2": 3}),
    )
    with pytest.raises(DatasetError, match=r"2, field 'answer': .*not dict"):
        Dataset.from_table([{"question": "Who?", "answer": "me"}, {"question": "Who?", "answer": {}}])


def test_data_frames_of_pandas():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "question": ["Who?", "How many?", float("nan"), "When?"],
            "answer": ["me", 42.0, None, pandas.Timestamp("2024-05-01")],
            "source": [["d1", "d2"], float("nan"), pandas.NaT, pandas.NA],
            "id": [1, 2, None, 3],
        }
    )
    assert Dataset.from_table(frame).questions == (
        Question("1", "Who?", ("me",), {"d1": 1, "d2": 1}),
        Question("2", "How many?", ("42",)),
        Question("3", "When?", ("2024-05-01",)),
    )
