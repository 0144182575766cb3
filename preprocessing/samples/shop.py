"""Makes a shop's log: impressions with clicks, purchases and amounts, from a model whose truth is known.

The logit of a click is the sum of effects of every category (ids included), of the items of the history and of the
tags, one interaction (segment by category) and the numbers, of which one is not monotone (the price). A purchase
follows a click by a second such sum, and the amount by a third. About 12 % click, 4 % buy.
"""
from typing import Dict, Iterator, List, Tuple

import numpy as np

#: Categorical columns with one value: (name, different values, strength of its effect on the logit).
SINGLE: Tuple[Tuple[str, int, float], ...] = (
    ("user_id", 150000, 0.5), ("item_id", 60000, 0.6), ("seller_id", 8000, 0.4), ("brand", 3000, 0.4),
    ("category", 300, 0.5), ("campaign", 500, 0.3), ("segment", 20, 0.4), ("city", 2000, 0.2), ("region", 40, 0.1),
    ("device", 6, 0.2), ("os_version", 60, 0.1), ("app_version", 120, 0.1), ("hour", 24, 0.2), ("weekday", 7, 0.1),
    ("position", 30, 0.5), ("page", 15, 0.3), ("language", 25, 0.1), ("payment", 8, 0.1))
#: Lists: (name, column whose values they hold, separator, different values, strength, most values in a row).
LISTS = (("history", "item_id", ",", 60000, 0.6, 30), ("tags", "tags", "|", 5000, 0.5, 8))
_BLOCK = 50000


def blocks(seed: int, number: int, rows: int) -> Iterator[Dict[str, List[str]]]:
    """Yields the rows of a file, the second of which is for testing: {column in file order: a text per row}."""
    truth = _Truth(np.random.RandomState(seed))
    for start in range(0, rows, _BLOCK):
        random = np.random.RandomState([seed, number, start // _BLOCK])
        yield truth.rows(random, min(_BLOCK, rows - start), 10 ** 8 * (number + 1) + start)


class _Truth:
    """The effects of all values; three sets of them: on clicks, purchases and amounts."""

    def __init__(self, random: np.random.RandomState) -> None:
        self._effects = {name: random.normal(0, strength, (3, size)) for name, size, strength in SINGLE}
        self._effects.update((name, random.normal(0, strength, (3, size))) for name, _, _, size, strength, _ in LISTS)
        # The same items in the history and in item_id mean the same.
        self._effects["history"] = self._effects["item_id"]
        self._pairs = random.normal(0, 0.5, (20, 300))
        self._usual_price = random.normal(3.0, 0.5, 150000)

    def rows(self, random: np.random.RandomState, count: int, first_id: int) -> Dict[str, List[str]]:
        """Makes rows: {column: a text per row}."""
        scores = np.zeros((3, count))
        places: Dict[str, np.ndarray] = {}
        columns: Dict[str, List[str]] = {"request_id": [str(first_id + row) for row in range(count)]}
        for name, size, _ in SINGLE:
            places[name] = _popular(random, size, count)
            scores += self._effects[name][:, places[name]]
            columns[name] = _texts(name, places[name])
        for name, held, separator, size, strength, most in LISTS:
            lengths = random.randint(0, most + 1, count)
            values = _popular(random, size, int(lengths.sum()))
            rows = np.repeat(np.arange(count), lengths)
            for target in range(3):
                sums = np.bincount(rows, self._effects[name][target][values], count)
                scores[target] += sums * np.sqrt(2.0 / np.maximum(lengths, 1)) * strength
            texts = np.array(_texts(held, values), object)
            ends = np.cumsum(lengths)
            columns[name] = [separator.join(texts[end - length:end]) for end, length in zip(ends, lengths)]
        numbers = self._numbers(random, places)
        ratio = np.log(numbers["price"]) - self._usual_price[places["user_id"]]
        scores[0] += self._pairs[places["segment"], places["category"]]
        # Not monotone: what is unusually cheap is not trusted, what is unusually dear is left.
        scores[0] += 0.8 * np.exp(-(np.log(numbers["price"]) - 3.0) ** 2) - 0.1 * ratio ** 2
        scores[0] += 1.5 * numbers["discount"] + 0.3 * (numbers["rating"] - 4) - 0.1 * np.log1p(
            numbers["days_since_visit"])
        scores[1] += 1.0 * numbers["discount"] + 0.2 * np.log1p(numbers["num_reviews"]) - 0.3 * np.abs(ratio)
        click = random.random_sample(count) < _sigmoid(scores[0] - 3.0)
        buy = click & (random.random_sample(count) < _sigmoid(scores[1] - 1.75))
        amount = numbers["price"] * (1 - numbers["discount"]) * np.exp(0.3 * scores[2] + random.normal(0, 0.2, count))
        columns.update((name, np.char.mod("%.4g", values).tolist()) for name, values in numbers.items())
        for row in np.flatnonzero(random.random_sample(count) < 0.03).tolist():
            columns["rating"][row] = ""
        columns.update(click=np.where(click, "1", "0").tolist(), buy=np.where(buy, "1", "0").tolist(),
                       amount=np.where(buy, np.char.mod("%.2f", amount), "").tolist())
        return columns

    def _numbers(self, random: np.random.RandomState, places: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        count = len(places["item_id"])
        return {"price": np.exp(2.0 + (places["item_id"] * 7919 % 2000) / 1000.0 + random.normal(0, 0.2, count)),
                "discount": np.where(random.random_sample(count) < 0.6, 0.0, random.beta(2, 5, count)),
                "rating": np.round(5 - random.gamma(2.0, 0.4, count).clip(0, 4), 1),
                "num_reviews": np.floor(random.lognormal(3.0, 1.5, count)),
                "days_since_visit": np.floor(random.exponential(10.0, count))}


def _popular(random: np.random.RandomState, size: int, count: int) -> np.ndarray:
    """Returns int64 [count] places below ``size``, the small ones more often: a power of a uniform number."""
    return np.floor(size * random.random_sample(count) ** (1 + np.log10(size) / 3)).astype(np.int64)


def _texts(name: str, places: np.ndarray) -> List[str]:
    # Ids are numbers in no order; other values are a word with a number.
    if name.endswith("_id"):
        first = 10 ** 6 * [column for column, _, _ in SINGLE].index(name)
        return [str(number) for number in ((places + first) * 2654435761 % 4294967291 % 10 ** 9).tolist()]
    return ["%s%d" % (name[:4], number) for number in places.tolist()]


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))
