import gzip
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerflow.data import CSV, Preprocessing
from layerflow.errors import ConfigError, DataError

FLOWERS = "a,b,kind\n1,2.5,x\n-3,4e1,y\n5,6,x\n"


@pytest.fixture
def write(tmp_path):
    def write(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_numbers_labels_and_names_are_read(write):
    data = CSV(write(FLOWERS), target="kind").read()
    np.testing.assert_array_equal(data.x, [[1, 2.5], [-3, 40], [5, 6]])
    np.testing.assert_array_equal(data.y, [0, 1, 0])
    assert (data.x.dtype, data.y.dtype) == (np.float64, np.int64)
    assert (data.features, data.classes, data.name, len(data)) == (("a", "b"), ("x", "y"), "data", 3)
    assert re.fullmatch("sha256:[0-9a-f]{64}", data.checksum)


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + FLOWERS,
        FLOWERS.replace("\n", "\r\n"),
        FLOWERS.replace("\n", "\n\n  \n"),
        FLOWERS.rstrip(),
        '"a","b",kind\n"1",2.5,"x"\n-3,4e1,y\n5, 6,x\n',
        "a, b ,kind\n1 , 2.5,x\n-3,4e1, y\n5,6,x \n",
        gzip.compress(FLOWERS.encode()),
    ],
    ids=["BOM", "CRLF", "blank lines", "no final newline", "quotes", "spaces", "gzip"],
)
def test_every_spelling_of_the_same_table_reads_the_same(write, content):
    data = CSV(write(content, "data.csv.gz" if isinstance(content, bytes) else "data.csv"), target="kind").read()
    np.testing.assert_array_equal(data.x, [[1, 2.5], [-3, 40], [5, 6]])
    assert (data.features, data.classes, data.y.tolist(), data.name) == (("a", "b"), ("x", "y"), [0, 1, 0], "data")


cells = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1).map("label {}".format)
tables = st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False), cells), min_size=2, max_size=8)


@given(tables)
def test_what_was_written_is_read_back(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("round_trip") / "table.csv"
    quoted = [(number, label, label.replace('"', '""')) for number, label in table]
    path.write_text('t,"n\nm"\n' + "".join(f'"{text}",{number!r}\n' for number, _, text in quoted), encoding="utf-8")
    if len({label.strip() for _, label in table}) < 2:
        return
    data = CSV(str(path), target="t", task="classification").read()
    np.testing.assert_array_equal(data.x[:, 0], [number for number, _ in table])
    assert [data.classes[index] for index in data.y] == [label.strip() for _, label in table]


@pytest.mark.parametrize(
    ("labels", "task", "classes", "y"),
    [
        (["10", "9", "9", "10"], None, ("9", "10"), [1, 0, 0, 1]),
        (["1.0", "1", "0", "01"], "classification", ("0", "01", "1", "1.0"), [3, 2, 0, 1]),
        (["b", "a", "1", "b"], None, ("1", "a", "b"), [2, 1, 0, 2]),
        (["1.5", "2", "1.5", "2"], None, None, [1.5, 2, 1.5, 2]),
        (["1", "2", "3", "4"], None, None, [1, 2, 3, 4]),
        (["1", "2", "1", "2"], "regression", None, [1, 2, 1, 2]),
        (["1", "2", "3", "4"], "classification", ("1", "2", "3", "4"), [0, 1, 2, 3]),
    ],
)
def test_targets_are_classes_or_numbers(write, labels, task, classes, y):
    path = write("a,t\n" + "".join(f"{row},{label}\n" for row, label in enumerate(labels)))
    data = CSV(path, target="t", task=task).read()
    assert data.classes == classes
    assert data.y.dtype == (np.float64 if classes is None else np.int64)
    np.testing.assert_array_equal(data.y, y)


def test_features_are_chosen_by_name_and_in_order(write):
    data = CSV(write(FLOWERS), target="kind", features=["b", "a"]).read()
    np.testing.assert_array_equal(data.x[0], [2.5, 1])
    assert data.features == ("b", "a")


COLOURS = "size,colour,kind\n1,red,x\n2,green,y\n3,red,x\n"


def test_categories_become_columns_in_place(write):
    data = CSV(write(COLOURS), target="kind", features=["colour", "size"], categorical=["colour"]).read()
    assert data.features == ("colour=green", "colour=red", "size")
    np.testing.assert_array_equal(data.x, [[0, 1, 1], [1, 0, 2], [0, 1, 3]])


def test_a_prediction_file_gets_the_columns_of_training(write):
    train = CSV(write(COLOURS), target="kind", categorical=["colour"])
    learned = Preprocessing.from_dict(Preprocessing.fit(train.read()).to_dict())
    new = CSV(write("extra,colour,size\nq,green,7\n", "new.csv"), target="kind").read(need_target=False, like=learned)
    assert new.y is None and new.classes == ("x", "y") and new.features == train.read().features
    np.testing.assert_array_equal(learned.apply(new.x), [[7, 1, 0]])


def test_a_second_file_gets_the_classes_of_training(write):
    train = CSV(write("a,t\n1,x\n2,y\n3,z\n"), target="t").read()
    other = CSV(write("a,t\n4,z\n", "test.csv"), target="t").read(like=Preprocessing.fit(train))
    assert other.y.tolist() == [2] and other.classes == ("x", "y", "z")


MISSING = "a,c,t\n1,u,x\n,u,y\n3,,x\ninf,v,y\n5,v,y\n"


def test_rows_with_missing_values_are_dropped_when_told(write):
    data = CSV(write(MISSING), target="t", categorical=["c"], missing="drop").read()
    np.testing.assert_array_equal(data.x, [[1, 1, 0], [5, 0, 1]])
    assert data.y.tolist() == [0, 1] and "dropped 3 of 5 rows with" in data.notes[0]


def test_missing_values_become_the_mean_of_the_training_part(write):
    data = CSV(write(MISSING), target="t", categorical=["c"], missing="mean").read()
    assert np.isnan(data.x).sum() == 4
    filled = Preprocessing.fit(data.take([0, 1, 2, 4])).apply(data.x)
    np.testing.assert_allclose(filled[:, 0], [1, 3, 3, 3, 5])
    np.testing.assert_allclose(filled[2, 1:], [2 / 3, 1 / 3])


@pytest.mark.parametrize("cell", ["", "NA", "n/a", "NaN", "null", "?", "inf", "-Infinity"])
def test_what_is_missing_is_counted_and_located(write, cell):
    path = write(f"a,b,t\n1,2,x\n3,{cell},y\n{cell},6,x\n")
    with pytest.raises(
        DataError, match=r"2 missing or infinite value\(s\): line 3 column 'b', line 4 column 'a'; .*drop"
    ):
        CSV(path, target="t").read()


def test_a_prediction_never_drops_rows(write):
    with pytest.raises(DataError, match=r"1 missing .* line 3 column 'a'; fill them in"):
        CSV(write("a\n1\nnan\n"), missing="drop").read(need_target=False)


BAD = {
    "a ragged row": ("a,t\n1,x\n\n2,y,3\n", r"data.csv:4: 3 cells, but the header has 2 columns"),
    "a short row": ("a,b,t\n1,2,x\n2,y\n", r"data.csv:3: 2 cells, but the header has 3"),
    "text among numbers": ("a,t\n1,x\nsmall,y\n", r"data.csv:3: column 'a': 'small' is not a number.*categorical"),
    "text after a cell of two lines": ('a,t\n1,"x\ny"\nsmall,z\n', r"data.csv:4: column 'a': 'small' is not a number"),
    "an underscore": ("a,t\n1,x\n1_000,y\n", r"data.csv:3: column 'a': '1_000' is not a number"),
    "a header only": ("a,t\n", r"data.csv: no rows below the header"),
    "blank lines only": ("\n \n\n", r"data.csv: holds blank lines only"),
    "an empty file": ("", r"data.csv: the file is empty"),
    "one class only": ("a,t\n1,x\n2,x\n", r"data.csv:2: column 't': all 2 samples are of the one class 'x'"),
    "a missing target column": ("a,tt\n1,x\n", r"no column 't', did you mean 'tt'\?; columns: 'a', 'tt'"),
    "another delimiter": ("a;t\n1;x\n", r"no column 't'; write `delimiter: ';'`\?"),
    "no header": ("1,2\n3,4\n", r"no column 't'; the first line holds numbers only: add a header line"),
    "duplicate names": ("a,a,t\n1,2,x\n", r"data.csv:1: duplicate column name 'a'"),
    "a column without a name": ("a,,t\n1,2,x\n", r"data.csv:1: column 2 has no name"),
    "the target alone": ("t\nx\ny\n", r"no column is left to predict from"),
    "latin-1": ("a,t\n1,x\n2,caf\xe9\n".encode("latin-1"), r"data.csv:3: not UTF-8"),
    "UTF-16": ("a,t\n1,x\n".encode("utf-16"), r"data.csv:1: not UTF-8"),
    "an open quote": ('a,t\n1,x\n2,"y\n', r"data.csv:3: not valid CSV: .*check the quotes"),
    "a giant field": ("a,t\n1,x\n2," + "y" * 200_000, r"data.csv:3: not valid CSV: field larger"),
    "a missing target": ("a,t\n1,x\n2,\n3,y\n", r"1 missing or infinite value\(s\): line 3 column 't'"),
    "NUL bytes": ("a,t\n\0,x\n2,y\n", r"data.csv:2: column 'a': '\\x00' is not a number"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_bad_tables_are_refused_in_one_line_that_names_the_place(write, content, message):
    with pytest.raises(DataError, match=message) as caught:
        CSV(write(content), target="t").read()
    assert "\n" not in str(caught.value)


def test_text_is_no_regression_target(write):
    with pytest.raises(DataError, match=r"data.csv:3: column 't': 'high' is not a finite number"):
        CSV(write("a,t\n1,2.5\n2,high\n"), target="t", task="regression").read()


def test_targets_are_never_filled_in(write):
    with pytest.raises(DataError, match="line 3 column 't'; targets cannot be filled in: write `missing: drop`"):
        CSV(write("a,t\n1,2.5\n2,\n"), target="t", missing="mean").read()


def test_dropping_every_row_is_an_error(write):
    with pytest.raises(DataError, match="no rows are left after dropping"):
        CSV(write("a,t\n,x\n,y\n"), target="t", missing="drop").read()


def test_a_column_without_a_value_cannot_be_filled_in(write):
    data = CSV(write("a,b,t\n1,,x\n2,,y\n"), target="t", missing="mean").read()
    with pytest.raises(DataError, match="column 'b' has no value in the training part"):
        Preprocessing.fit(data)


LIKE = {
    "an unknown category": (
        "size,colour,kind\n1,gren,x\n",
        r"new.csv:2: column 'colour': unknown category 'gren', did you",
    ),
    "an unknown class": ("size,colour,kind\n1,red,z\n", r"new.csv:2: column 'kind': class 'z' is not one of 'x', 'y'"),
    "a missing column": ("siz,colour,kind\n1,red,x\n", r"new.csv: no column 'size', did you mean 'siz'\?"),
}


@pytest.mark.parametrize(("content", "message"), LIKE.values(), ids=LIKE.keys())
def test_a_file_unlike_the_training_data_is_refused(write, content, message):
    learned = Preprocessing.fit(CSV(write(COLOURS), target="kind", categorical=["colour"]).read())
    with pytest.raises(DataError, match=message):
        CSV(write(content, "new.csv"), target="kind").read(like=learned)


@pytest.mark.parametrize(
    ("cut", "message"), [(slice(0, 30), "truncated or corrupt gzip"), (slice(2, None), "named .gz but is no gzip file")]
)
def test_a_damaged_gzip_file_is_refused(write, cut, message):
    with pytest.raises(DataError, match=message):
        CSV(write(gzip.compress(FLOWERS.encode() * 9)[cut], "data.csv.gz"), target="kind").read()


def test_a_flipped_byte_in_a_gzip_file_is_noticed(write):
    content = bytearray(gzip.compress(FLOWERS.encode()))
    content[-6] ^= 1
    with pytest.raises(DataError, match=r"truncated or corrupt gzip file \(CRC"):
        CSV(write(bytes(content), "data.csv.gz"), target="kind").read()


def test_a_missing_file_is_answered_with_the_closest_name(write, tmp_path):
    write(FLOWERS, "flowers.csv")
    with pytest.raises(DataError, match=r"flower.csv: no such file, did you mean 'flowers.csv'\?"):
        CSV(str(tmp_path / "flower.csv"), target="kind").read()


@pytest.mark.parametrize(
    ("path", "message"),
    [(".", "is a directory"), ("no/such/folder.csv", "no such file"), ("nul\0.csv", "no such|cannot")],
)
def test_what_is_no_file_is_refused(path, message):
    with pytest.raises(DataError, match=message):
        CSV(path, target="kind").read()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": ",,"}, "'delimiter' must be one character"),
        ({"features": []}, "'features' must name at least one"),
        ({"features": ["a", "a"]}, "each once"),
        ({"features": ["a", "kind"]}, "target 'kind' cannot be one of the features"),
        (
            {"features": ["size"], "categorical": ["sizes"]},
            "'sizes' is categorical but no feature, did you mean 'size'",
        ),
        ({"categorical": ["kind"]}, "target 'kind' cannot be categorical"),
    ],
)
def test_impossible_options_are_refused_before_anything_is_read(options, message):
    with pytest.raises(ConfigError, match=message):
        CSV("unread.csv", target="kind", **options)


def test_training_needs_a_target(write):
    with pytest.raises(ConfigError, match="'target' is missing"):
        CSV(write(FLOWERS)).read()


@pytest.mark.parametrize("cell", ["NaN", "?", "inf", ""])
def test_a_number_that_is_missing_is_no_class(write, cell):
    with pytest.raises(DataError, match=r"1 missing .* line 6 column 't'"):
        CSV(write(f"a,t\n1,0\n2,1\n3,0\n4,1\n5,{cell}\n"), target="t").read()


def test_na_among_words_is_a_class(write):
    assert CSV(write("a,t\n1,NA\n2,EU\n"), target="t").read().classes == ("EU", "NA")


def test_an_identifier_is_no_category(write):
    path = write("id,t\n" + "".join(f"{row},{row % 2}\n" for row in range(1001)))
    with pytest.raises(DataError, match="column 'id' has 1001 categories, 1 to 1000 are possible; leave it out"):
        CSV(path, target="t", categorical=["id"]).read()


def test_an_unknown_column_is_answered_with_the_closest(write):
    for options in ({"features": ["A"]}, {"categorical": ["A"]}):
        with pytest.raises(DataError, match=r"no column 'A', did you mean 'a'\?; columns: 'a', 'b', 'kind'"):
            CSV(write(FLOWERS), target="kind", **options).read()
