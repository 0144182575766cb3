"""What columns are taken for by their names and values."""
import numpy as np
import pandas as pd
import pytest

from preprocessing.drafting.column_kinds import list_separator, read_column, set_keys

ROWS = 400
RANDOM = np.random.RandomState(5)
IDS = RANDOM.randint(10 ** 6, 10 ** 6 + 200, ROWS)
PRICES = ["%.2f" % value for value in RANDOM.lognormal(3, 1, ROWS)]


def kind_of(name, values, type_name=""):
    column = read_column(name, pd.Series([str(value) for value in values], dtype=object), type_name)
    return column.kind, column


@pytest.mark.parametrize("name", ["userid", "movieId", "CustomerID", "uid", "plz", "zipcode", "Postleitzahl", "viewer",
                                  "Kundennummer", "item_no", "last_item_id"])
def test_whole_numbers_that_are_named_like_ids_are_ids(name):
    assert kind_of(name, IDS)[0] == "categorical"
    assert kind_of(name, ["%d.0" % value for value in IDS])[0] == "categorical"  # as pandas writes what had a gap


@pytest.mark.parametrize("name, values", [
    ("price_per_item", PRICES), ("km_to_store", IDS % 977), ("seconds_since_last_ad", IDS % 977), ("bid", PRICES),
    ("paid", IDS % 977), ("item", PRICES), ("price", RANDOM.randint(80, 2000, ROWS) * 1000),
    ("offer", RANDOM.randint(80, 2000, ROWS) * 1000)])
def test_numbers_whose_names_end_like_ids_are_numbers(name, values):
    assert kind_of(name, values)[0] == "numeric"


def test_codes_keep_their_zeros():
    assert kind_of("branch", ["%05d" % value for value in RANDOM.randint(900, 1100, ROWS)])[0] == "categorical"


@pytest.mark.parametrize("name, value, kind", [
    ("created_at", 1600000000, "time"), ("time_ms", 1600000000000, "time"), ("time_stamp", 1600000000, "time"),
    ("timestamp", 0, "time"), ("hour", 14102100, "time"), ("hour", 0, "numeric"),
    ("user_score", 1600000000, "numeric")])
def test_numbers_are_times_by_name_and_size(name, value, kind):
    assert kind_of(name, [value + number % 390 for number in range(ROWS)])[0] == kind


@pytest.mark.parametrize("text", [
    "2024-05-%02d 12:30:00 UTC", "2024-05-%02d 12:30:00 +0000", "2024/05/%02d 12:30", "202405%02dT123000Z",
    "%02d-Nov-2023", "%02d/May/2024:12:30:00", "May %02d 2024 1:30PM", "05 %02d, 2009", "%02d.05.2024"])
def test_dates_in_other_styles_are_told(text):
    kind, column = kind_of("seen", [text % (number % 28 + 1) for number in range(ROWS)])
    assert kind == "unclear" and "dates in another style" in column.why


@pytest.mark.parametrize("make, words", [
    (lambda value: "$%s" % value, "amounts with a sign"), (lambda value: "%s %%" % value, "amounts with a sign"),
    (lambda value: "{:,.2f} EUR".format(float(value) * 100), "amounts with a sign"),
    (lambda value: "{:,.2f}".format(float(value) * 100).replace(",", "x").replace(".", ",").replace("x", "."),
     "decimal comma"),
    (lambda value: value.replace(".", ",") + " \u20ac", "decimal comma"),
    (lambda value: "[%s, 5]" % value[:1], "lists in brackets")])
def test_amounts_in_other_styles_are_told(make, words):
    kind, column = kind_of("x", map(make, PRICES))
    assert kind == "unclear" and words in column.why


@pytest.mark.parametrize("odd, missing, words", [
    ("n.a.", ("n.a.",), "drafted as a missing value"), ("inf", ("inf",), "drafted as a missing value"),
    ("1,299.00", (), "correct them"), ("1e40", (), "correct them")])
def test_few_cells_that_are_no_number_are_told(odd, missing, words):
    """Wherever they stand: also behind the values that are looked at for a time."""
    kind, column = kind_of("price", PRICES[:-1] + [odd])
    assert (kind, column.missing) == ("numeric", missing) and words in column.doubt and repr(odd) in column.doubt
    assert np.isnan(column.numbers.iloc[-1]) and column.numbers.notna().sum() == ROWS - 1


def test_an_id_that_is_not_known_is_an_id_like_others():
    kind, column = kind_of("user_id", ["unknown" if number == 7 else value for number, value in enumerate(IDS)])
    assert (kind, column.missing, column.doubt) == ("categorical", (), "")


def test_codes_with_a_letter_are_no_odd_numbers():
    kind, column = kind_of("invoice", ["C7" if number == 7 else str(number % 300) for number in range(ROWS)])
    assert (kind, column.doubt) == ("categorical", "")


def test_whole_numbers_of_any_length():
    assert kind_of("iccid", ["8949%016d" % number for number in range(ROWS)])[0] == "key"
    assert kind_of("hash", [2 ** 63 + number % 50 if number % 9 else "" for number in range(ROWS)])[0] == "categorical"


@pytest.mark.parametrize("name, values, kind", [
    ("RowNumber", range(1, ROWS + 1), "unique"), ("__index_level_0__", np.arange(ROWS) * 3, "unique"),
    ("request_id", ["r%d" % (number // 2 * 2 if number < 2 else number) for number in range(ROWS)], "unique"),
    ("request_id", ["r%d" % number for number in range(ROWS)], "key"), ("amount", np.arange(ROWS) * 3, "numeric"),
    ("review", ["word %d again" % number for number in range(ROWS)], "unique"),
    ("source", [""] + ["web"] * (ROWS - 1), "empty"), ("source", ["", "web"] * 200, "categorical"),
    ("bought", ["", "1"] * 200, "unclear"), ("bought", ["", "x"] * 200, "unclear")])
def test_what_says_nothing_is_no_feature(name, values, kind):
    assert kind_of(name, values)[0] == kind


@pytest.mark.parametrize("values, separator", [
    (["Action, War", "Drama", "War, Drama", "Action"], ","), (["N1 N5 N2", "N5", "N2 N1", "N7 N1"], " "),
    (["Berlin,DE", "Paris,FR", "Lyon,FR", "Bonn,DE"], ""),
    (["52.52,13.40", "48.85,2.35", "45.76,4.83", "50.7,7.1"], ""),
    (["a|b", "b|a", "b|c|a", "c"], "|")])
def test_lists_have_values_that_come_back_in_any_place(values, separator):
    assert list_separator(pd.Series(values * 50)) == separator


PHRASES = ["airport shuttle", "pool", "air conditioning", "bar", "24h desk", "gym", "free wifi", "spa"]


@pytest.mark.parametrize("separator", ["|", ";", ",", ", "])
def test_lists_of_phrases(separator):
    random = np.random.RandomState(3)
    lists = pd.Series([separator.join(sorted(random.choice(PHRASES, random.randint(1, 5), replace=False)))
                       for _ in range(900)])
    assert list_separator(lists) == separator.strip()


@pytest.mark.parametrize("texts", [
    ["Books and maps, Music", "Sales force, Retail", "Manager", "Food to go, Drinks, Snacks",
     "Fine art"],  # names of categories
    ["Toy Story | Pixar", "Heat | Warner Bros", "Up | Pixar", "Alien | Fox | Brandywine"],
    ["nice place, would stay again", "bad, never again", "ok"]])
def test_phrases_with_separators_are_no_lists(texts):
    assert list_separator(pd.Series(texts * 200)) == ""
    # Each text once, as reviews are.
    assert list_separator(pd.Series(["%s %d, and %d" % (text, n, n % 7) for n, text in enumerate(texts * 200)])) == ""


def test_every_column_has_a_name_of_its_own():
    columns = [read_column(name, pd.Series(["a", "b"]), "") for name in (
        "\u7528\u6237", "price (\u20ac)", "price ($)", "\u4ef7\u683c", "Price", "price_2")]
    set_keys(columns)
    assert [column.key for column in columns] == ["c_", "price", "price_2", "c_2", "Price", "price_2_2"]
