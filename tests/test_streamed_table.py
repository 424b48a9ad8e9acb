"""A table that is read in blocks gives what the whole table gives, and never rows other than those it started with."""

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from veilstat.platform.deployment.owner_file import load_owner
from veilstat.platform.deployment.table_files import open_file, open_query
from veilstat.platform.streamed_table import StreamedTable
from veilstat.platform.table import BLOCK_ROWS, Table

pytest.importorskip("pyarrow")
ROWS = BLOCK_ROWS + 1000
SCHEMA = vs.Schema(
    vs.Continuous("bp", lower=40, upper=260, step="0.1", missing=(-9,)),
    vs.Integer("age", lower=0, upper=120),
    vs.Binary("smoker"),
    vs.Categorical("place", levels=("01", "NA", "é")),
    vs.Date("day", lower="2020-01-01", upper="2026-01-01"),
    vs.Derived("square", expression="age * age", step=1),
)
NAMES = tuple(column.name for column in SCHEMA)


def frame_of(rows=ROWS):
    random = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "bp": np.round(random.uniform(40, 260, rows), 2),
            "age": pd.array(random.integers(0, 121, rows), dtype="Int64"),
            "smoker": random.integers(0, 2, rows).astype(bool),
            "place": random.choice(["01", "NA", "é"], rows),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 2000, rows), unit="D"),
            "outside": random.choice(["a", "b"], rows),
        }
    )
    # Only the second block has missing values, so that the types of blocks could differ.
    frame.loc[frame.index == BLOCK_ROWS + 5, ["bp", "age"]] = None
    frame.loc[frame.index == BLOCK_ROWS + 6, "bp"] = -9
    frame.loc[frame.index >= BLOCK_ROWS, "day"] = None
    return frame


def write(frame, path):
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, row_group_size=40_000)
    return path


def stream(path, schema=SCHEMA, key=b"secret"):
    return StreamedTable("north", open_file(path, schema), schema, key)


def joined(rows):
    blocks = [block for _, block in rows.blocks()]
    return {name: tuple(np.concatenate([block[name][half] for block in blocks]) for half in range(2)) for name in blocks[0]}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        for half in range(2):
            np.testing.assert_array_equal(found[name][half], expected[name][half], err_msg=name)


@pytest.fixture(params=["table.parquet", "table.csv"])
def path(request, tmp_path):
    return tmp_path / request.param


def test_blocks_hold_the_codes_of_the_whole_table(path):
    frame = frame_of()
    rows = stream(write(frame, path)).rows(NAMES)
    assert len(rows) == ROWS
    assert max(count for count, _ in rows.blocks()) <= BLOCK_ROWS
    expected = Table("north", frame, SCHEMA).rows(NAMES).columns
    assert_same(joined(rows), expected)
    assert_same(rows.columns, expected)


def test_only_what_a_query_uses_is_read(path, monkeypatch):
    table = stream(write(frame_of(100), path))
    read, blocks = [], type(table._source).blocks

    def noted(self, columns):
        for frame in blocks(self, columns):
            read.append(list(frame.columns))
            yield frame

    monkeypatch.setattr(type(table._source), "blocks", noted)
    list(table.rows(("square", "age")).blocks())
    assert read == [["age"]]


def test_a_changed_file_is_refused_when_it_is_read_again(tmp_path):
    frame = frame_of(1000)
    table = stream(write(frame, tmp_path / "table.csv"))
    write(frame.assign(bp=frame["bp"].where(frame.index != 3, 41.0)), tmp_path / "table.csv")
    list(table.rows(("age",)).blocks())
    with pytest.raises(vs.SchemaError) as refused:
        list(table.rows(("bp",)).blocks())
    assert refused.value.code == "table_changed"
    write(frame[:-1], tmp_path / "table.csv")
    with pytest.raises(vs.SchemaError, match="table_changed"):
        list(table.rows(("age",)).blocks())


def test_a_parquet_file_that_is_replaced_is_read_as_it_was(tmp_path):
    frame = frame_of(1000)
    path = write(frame, tmp_path / "table.parquet")
    table = stream(path)
    write(frame[::-1], tmp_path / "new.parquet").replace(path)
    assert_same(joined(table.rows(NAMES)), Table("north", frame, SCHEMA).rows(NAMES).columns)


def test_another_content_has_another_version_and_the_same_has_the_same(path):
    frame = frame_of(1000)
    version = stream(write(frame, path)).content.version
    assert stream(write(frame.assign(outside="c"), path)).content.version == version, "no answer depends on it"
    changes = [frame[1:], frame[::-1], frame.assign(smoker=~frame["smoker"]), frame.drop(columns="day")]
    versions = [stream(write(changed, path)).content.version for changed in changes]
    assert len({version, *versions, stream(write(frame, path), key=b"other").content.version}) == 6


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda frame: frame.drop(columns="bp"), "missing_column", "lacks the column 'bp'"),
        (lambda frame: frame.assign(bp=frame["bp"].where(frame.index != ROWS - 1, 900.0)), "out_of_bounds", "rows 65,537 to 66,536"),
        (lambda frame: frame.assign(bp="high"), "wrong_type", "numbers were expected"),
        (lambda frame: pd.concat([frame] * 2), "too_many_rows", "max_rows = 70,000"),
    ],
)
def test_errors_name_owner_and_place_and_no_value(path, change, code, words):
    write(change(frame_of()), path)
    table = stream(path, vs.Schema(*SCHEMA, max_rows=70_000))
    with pytest.raises((vs.SchemaError, vs.RangeError)) as refused:
        list(table.rows(("bp",)).blocks())
    assert refused.value.code == code
    assert words in str(refused.value)
    assert "'north'" in str(refused.value)
    assert "900" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"bp,b\n1,2\n1,2,3\n", b"\xff\xfe,\n1,2,3\n4"])
def test_what_is_no_table_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(vs.SchemaError, match="could not be read as a table"):
        stream(path)


def test_rows_are_counted_where_no_column_is_asked_for(path):
    rows = stream(write(frame_of(), path)).rows(())
    assert [count for count, _ in rows.blocks()] == [BLOCK_ROWS, ROWS - BLOCK_ROWS]
    write(frame_of(10)[["outside"]], path)
    with pytest.raises(vs.SchemaError, match="no column of the schema"):
        stream(path)


def test_lists_are_refused(tmp_path):
    path = tmp_path / "table.parquet"
    pd.DataFrame({"bp": [[1.0], [2.0]]}).to_parquet(path)
    with pytest.raises(vs.SchemaError, match="lists") as refused:
        stream(path)
    assert refused.value.code == "wrong_type"


def test_an_empty_table_contributes_nothing(path):
    rows = stream(write(frame_of(10)[:0], path)).rows(NAMES)
    assert len(rows) == 0
    assert all(len(codes) == len(present) == 0 for codes, present in rows.columns.values())


def test_sql_is_asked_once_and_leaves_no_file(tmp_path):
    pytest.importorskip("duckdb")
    frame = frame_of(1000)
    path, state = write(frame, tmp_path / "table.csv"), tmp_path / "state"
    state.mkdir()
    source = open_query(f"select * from read_csv('{path}', nullstr = '', types = {{'place': 'VARCHAR'}})", None, state, SCHEMA)
    table = StreamedTable("north", source, SCHEMA, b"secret")
    path.unlink()
    assert not list(state.iterdir())
    assert_same(joined(table.rows(NAMES)), Table("north", frame, SCHEMA).rows(NAMES).columns)
    with pytest.raises(vs.SchemaError, match="could not be run"):
        open_query("select nonsense", None, state, SCHEMA)
    assert not list(state.iterdir())


def test_a_database_is_read_and_not_written(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    database = tmp_path / "clinic.duckdb"
    with duckdb.connect(str(database)) as connection:
        connection.sql("create table rows as select range as age, range % 2 = 0 as smoker from range(100)")
    table = StreamedTable("north", open_query("select * from rows", database, tmp_path, SCHEMA), SCHEMA, b"secret")
    assert joined(table.rows(("age", "smoker")))["age"][0].tolist() == list(range(100))
    with pytest.raises(vs.SchemaError, match="could not be run"):
        open_query("create table more as select 1 as age", database, tmp_path, SCHEMA)


def test_large_unsigned_numbers_are_not_taken_for_negative_ones(tmp_path):
    path = tmp_path / "table.parquet"
    pd.DataFrame({"x": np.array([2**64 - 5], dtype=np.uint64)}).to_parquet(path)
    schema = vs.Schema(vs.Integer("x", lower=-10, upper=10))
    with pytest.raises(vs.RangeError, match="out_of_bounds"):
        list(stream(path, schema).rows(("x",)).blocks())


def test_rows_that_do_not_fit_are_found_before_a_budget_is_charged(path):
    frame = frame_of(100)
    study = vs.simulate(dict.fromkeys(("north", "south", "west"), frame), SCHEMA)
    agent = study._backend.agents["north"]
    agent.table = stream(write(frame.assign(age=[300] * 100), path))
    with pytest.raises(vs.RangeError, match="out_of_bounds"):
        study.mean("age", privacy=vs.Gaussian(epsilon=1.0, delta=1e-6))
    assert agent.ledger.budget.releases == 0
    agent.table = stream(write(frame, path))
    study.mean("age", privacy=vs.Gaussian(epsilon=1.0, delta=1e-6))
    assert agent.ledger.budget.releases > 0


def test_an_owner_s_file_names_a_file_or_a_query(tmp_path):
    folder = tmp_path
    (folder / "state").mkdir(mode=0o700)
    write(frame_of(100), folder / "table.parquet")
    names = "\n".join(f'{key} = "x"' for key in ("party", "study", "roster", "identity", "socket"))
    for table in ('file = "table.parquet"', f"sql = \"select * from '{folder}/table.parquet'\""):
        (folder / "owner.toml").write_text(f'{names}\nstate = "state"\n[table]\n{table}\n')
        source = load_owner(folder / "owner.toml").open_table(SCHEMA)
        assert StreamedTable("north", source, SCHEMA, b"secret").content.rows == 100
