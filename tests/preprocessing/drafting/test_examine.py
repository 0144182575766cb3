"""What columns are taken for beside each other: labels, stages, targets, leaks, the time to split by."""
import numpy as np
import pandas as pd
import pytest

from preprocessing.drafting.examine import choose_time, examine, is_group
from preprocessing.drafting.look import Look

ROWS = 1200
RANDOM = np.random.RandomState(7)
USERS = ["u%d" % user for user in RANDOM.randint(0, 90, ROWS)]
CLICK = RANDOM.rand(ROWS) < 0.3
BUY = CLICK & (RANDOM.rand(ROWS) < 0.4)
PAID = BUY & (RANDOM.rand(ROWS) < 0.7)
OTHER = RANDOM.rand(ROWS) < 0.5
NOISE = ["%.3f" % value for value in RANDOM.rand(ROWS)]


def flags(is_one, yes="1", no="0"):
    return np.where(is_one, yes, no)


def examined(**columns):
    """{name: column} of a table with a column of users before the given ones."""
    texts = {name: [str(value) for value in values] for name, values in dict({"user": USERS}, **columns).items()}
    look = Look(("f.csv",), pd.DataFrame(texts, dtype=object), True, {}, (), {})
    return {column.name: column for column in examine(look)}


def kinds(found):
    return {name: column.kind for name, column in found.items() if name != "user"}


@pytest.mark.parametrize("yes, no", [
    ("1.0", "0.0"), ("clicked", "not clicked"), ("ja", "nein"), ("oui", "non"), ("Yes", "no"), ("positive", "negative"),
    ("buy", "no_buy"), ("Like", "Dislike"), ("accepted", "declined"), ("won", "lost"), ("2", "1"), ("TRUE", "FALSE"),
    ("Y", "N"), ("1", "-1"), ("active", "inactive")])
@pytest.mark.parametrize("share", [0.7, 0.3])
def test_words_say_which_is_the_yes_however_often_it_comes(yes, no, share):
    label = examined(label=flags(np.arange(ROWS) % 10 < 10 * share, yes, no))["label"]
    assert (label.kind, label.yes, label.doubt) == ("label", (yes,), "")
    if yes != "1.0":  # for which labels are read as they are
        assert label.keys["positive"] == '["%s"]' % yes and label.keys["negative"] == '["%s"]' % no


def test_where_no_word_says_it_the_rarer_one_is_taken_and_told():
    label = examined(status=flags(CLICK, "churned", "active"))["status"]
    assert label.yes == ("churned",) and "no word says which of 'churned' and 'active' is the yes" in label.doubt


@pytest.mark.parametrize("few, yes, missing, words", [
    ("yes", ("Yes", "yes"), (), ""), ("maybe", ("Yes",), (), "4 rows have other texts, such as 'maybe'"),
    ("unknown", ("Yes",), ("unknown",), "")])
def test_other_spellings_slips_and_words_for_not_known(few, yes, missing, words):
    texts = flags(CLICK, "Yes", "No").astype(object)
    texts[np.arange(ROWS) % 300 == 7] = few
    label = examined(churn=texts)["churn"]
    assert (label.kind, label.yes, label.missing) == ("label", yes, missing) and words in label.doubt
    assert words or not label.doubt


def test_a_count_is_a_label_of_once_and_more():
    label = examined(clicks=np.where(np.arange(ROWS) % 300 == 7, "3", flags(CLICK)))["clicks"]
    assert label.keys == {"positive": '["1", "3"]', "negative": '["0"]'} and "a count" in label.doubt


def test_a_label_of_three_values_is_none():
    assert examined(click=RANDOM.choice(["1", "0", "-1"], ROWS))["click"].kind == "categorical"


@pytest.mark.parametrize("columns, label, doubt", [
    ({"opened_it": flags(CLICK), "country": RANDOM.choice(["A", "B", "C"], ROWS), "gender": flags(OTHER, "M", "F")},
     "opened_it", "no column is named like a label: opened_it was taken"),
    ({"c1": flags(CLICK), "c2": NOISE, "c3": flags(OTHER, "a73e", "7cc7")}, "c1", "no column is named like a label"),
    ({"reordered": flags(CLICK), "private_label": flags(OTHER)}, "reordered", ""),
    ({"converted": flags(CLICK), "subscription_type": flags(OTHER, "basic", "premium"), "is_subscriber": flags(OTHER)},
     "converted", ""),
    ({"rating": RANDOM.randint(1, 6, ROWS), "gender": flags(OTHER, "M", "F")}, "rating", ""),
    ({"label": RANDOM.randint(0, 5, ROWS), "has_title_match": flags(OTHER)}, "label", "")])
def test_which_column_is_the_label(columns, label, doubt):
    found = examined(**columns)
    assert [name for name, column in found.items() if column.kind in ("label", "target")] == [label]
    assert doubt in found[label].doubt and bool(doubt) == bool(found[label].doubt)


def test_stages_before_and_after_a_label_are_tasks_each_given_the_nearest():
    found = examined(clicked=flags(CLICK), added_to_cart=flags(BUY), settled=flags(PAID), vip=flags(OTHER))
    assert kinds(found) == {"clicked": "label", "added_to_cart": "label", "settled": "label", "vip": "categorical"}
    assert [found[name].keys.get("given") for name in ("clicked", "added_to_cart", "settled")] == [
        None, "clicked", "added_to_cart"]


def test_what_chance_explains_is_no_stage():
    """Of 99 in 100 rows, and of three rows."""
    valid = np.arange(ROWS) % 100 != 3
    found = examined(email_valid=flags(valid), converted=flags((np.arange(ROWS) % 31 == 0) & valid))
    assert kinds(found) == {"email_valid": "categorical", "converted": "label"}
    found = examined(liked=flags(OTHER), churned=flags((np.cumsum(OTHER) <= 3) & OTHER))
    assert kinds(found) == {"liked": "label", "churned": "label"} and "given" not in found["churned"].keys


@pytest.mark.parametrize("values", [
    np.where(BUY, RANDOM.randint(10 ** 6, 10 ** 7, ROWS), 0), np.where(BUY, RANDOM.randint(1, 900, ROWS), -1),
    np.where(BUY, ["i%d|i%d" % tuple(pair) for pair in RANDOM.randint(0, 50, (ROWS, 2))], ""),
    np.where(BUY & OTHER, RANDOM.choice(["card", "cash"], ROWS), "none"),
    np.where(BUY & OTHER, ["%.2f" % value for value in RANDOM.gamma(2, 3, ROWS)], "0")],
    ids=["ids", "positions", "lists", "part of the positives", "part as numbers"])
def test_what_is_there_only_where_a_label_is_1_is_known_afterwards(values):
    found = examined(bought=flags(BUY), after=values, noise=NOISE)
    assert kinds(found) == {"bought": "label", "after": "leak", "noise": "numeric"}
    assert found["after"].why.endswith(": it is probably known only afterwards") and "bought" in found["after"].why


@pytest.mark.parametrize("name", ["booking_value", "order_value", "total_spend", "price_paid", "basket", "tip_eur",
                                  "amount"])
@pytest.mark.parametrize("elsewhere", ["", "0"])
def test_a_number_named_like_money_that_follows_a_label_is_a_target_of_the_nearest_one(name, elsewhere):
    spent = ["%.2f" % value for value in RANDOM.gamma(2, 30, ROWS)]
    found = examined(clicked=flags(CLICK), booked=flags(BUY), noise=NOISE, **{name: np.where(BUY, spent, elsewhere)})
    assert found[name].kind == "target" and found[name].keys["transform"] == "log"
    assert found[name].keys.get("where") == ("booked" if elsewhere == "" else None)
    # What belongs to the row's object is there everywhere; means of the past are no outcome.
    assert examined(clicked=flags(CLICK), **{name: spent})[name].kind == "numeric"
    assert examined(clicked=flags(CLICK), **{"avg_" + name: np.where(BUY, spent, "")})["avg_" + name].kind == "leak"


def test_a_number_without_such_a_name_that_follows_labels_is_left_out_for_the_nearest_one():
    found = examined(clicked=flags(CLICK), booked=flags(BUY), nights=np.where(PAID, NOISE, ""))["nights"]
    assert (found.kind, found.follows) == ("leak", "booked")
    assert found.why == "it is there only where booked is 1: it is probably known only afterwards"


@pytest.mark.parametrize("name, values, kind", [
    ("loan_amount", NOISE, "numeric"), ("duration", NOISE, "numeric"), ("video_duration", NOISE, "numeric"),
    ("spend_last_30d", NOISE, "numeric"), ("avg_watch_time_7d", NOISE, "numeric"), ("pos_y", NOISE, "numeric"),
    ("y_pred", NOISE, "numeric"), ("play_time_ms", NOISE, "target"), ("watch_seconds", NOISE, "target"),
    ("amount", np.where(CLICK, NOISE, ""), "target"), ("revenue", np.where(CLICK, NOISE, "0"), "target")])
def test_beside_a_label_a_number_is_a_target_where_it_follows_it_or_its_name_is_clear(name, values, kind):
    found = examined(click=flags(CLICK), **{name: values})
    assert found[name].kind == kind
    assert found[name].keys.get("where") == ("click" if "" in values else None)


def test_a_yes_that_never_meets_a_labels_is_known_afterwards():
    found = examined(cancelled=flags(CLICK, "yes", "no"), rebooked=flags(~CLICK & OTHER, "yes", "no"),
                     dog=flags(OTHER, "yes", "no"), rare=flags(~CLICK & (np.arange(ROWS) % 90 == 0), "yes", "no"))
    assert kinds(found) == {"cancelled": "label", "rebooked": "leak", "dog": "categorical", "rare": "categorical"}
    assert "never yes where cancelled is" in found["rebooked"].why


def test_members_yes_or_no_are_no_group():
    found = examined(member=flags(OTHER, "yes", "no"), click=flags(CLICK))
    assert is_group(found["user"]) and not is_group(found["member"])


def test_a_width_is_no_weight():
    sizes = RANDOM.choice(["300", "728", "320"], ROWS)
    assert examined(click=flags(CLICK), w=sizes)["w"].kind == "weight"
    assert examined(click=flags(CLICK), w=sizes, h=sizes)["w"].kind == "numeric"
    assert examined(click=flags(CLICK), sample_weight=np.where(OTHER, NOISE, ""))["sample_weight"].kind == "unclear"


def test_a_history_shares_the_values_of_items_not_of_users():
    users, items = RANDOM.randint(1, 900, ROWS), RANDOM.randint(1, 300, ROWS)
    history = ["|".join(map(str, row)) for row in RANDOM.randint(1, 400, (ROWS, 3))]
    found = examined(user_id=users, item_id=items, history=history, click=flags(CLICK))
    assert found["history"].keys["vocabulary"] == "item_id"


DAYS = ["2024-%02d-%02d" % (1 + number // 110, 1 + number % 110 // 4) for number in range(ROWS)]
MIXED = list(np.array(DAYS)[RANDOM.permutation(ROWS)])


@pytest.mark.parametrize("columns, chosen", [
    ({"birth_date": MIXED, "order_date": DAYS}, "order_date"), ({"due": MIXED, "seen": DAYS}, "seen"),
    ({"seen": MIXED}, "seen"), ({"published_at": MIXED}, None), ({"event_date": [""] + DAYS[1:]}, None),
    ({"purchase_date": np.where(CLICK, DAYS, ""), "view_date": DAYS}, "view_date"),
    ({"day": ["0000-00-00"] + DAYS[1:]}, None)])
def test_rows_are_split_by_a_time_that_all_have(columns, chosen):
    found = examined(click=flags(CLICK), **columns)
    time = choose_time(list(found.values()))
    assert (time and time.name) == chosen and {found[name].kind for name in columns} == {"time"}
    assert [name for name in columns if "--split_by_time" in found[name].why] == ([chosen] if chosen else [])
