"""Makes raw files in the census format: real column and category names, invented people.

Age, sex and education drive work, family and both labels, so that the tasks can be learnt and depend on each other. The
label rates are near those of the real data (6 % income above 50,000, 43 % never married). A few categories occur in
the test file only.
"""
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from feature_specs.dataset_file import load_builtin

NIU = "Not in universe"
_BLOCK = 50000

# (name, weight in the score of a high income); one row each of school.
_EDUCATION: Tuple[Tuple[str, float], ...] = (
    ("Less than 1st grade", -2.0), ("1st 2nd 3rd or 4th grade", -2.0), ("5th or 6th grade", -1.8),
    ("7th and 8th grade", -1.5), ("9th grade", -1.4), ("10th grade", -1.2), ("11th grade", -1.0),
    ("12th grade no diploma", -0.9), ("High school graduate", -0.3), ("Some college but no degree", 0.2),
    ("Associates degree-occup /vocational", 0.4), ("Associates degree-academic program", 0.5),
    ("Bachelors degree(BA AB BS)", 1.4), ("Masters degree(MA MS MEng MEd MSW MBA)", 2.0),
    ("Prof school degree (MD DDS DVM LLB JD)", 2.9), ("Doctorate degree(PhD EdD)", 2.7))
_EDUCATION_SHARES = (5, 11, 22, 40, 34, 45, 44, 14, 310, 180, 35, 28, 130, 43, 12, 8)
_INDUSTRIES = (
    "Agriculture", "Mining", "Construction", "Manufacturing-durable goods", "Manufacturing-nondurable goods",
    "Transportation", "Communications", "Utilities and sanitary services", "Wholesale trade", "Retail trade",
    "Finance insurance and real estate", "Private household services", "Business and repair services",
    "Personal services except private HH", "Entertainment", "Hospital services", "Medical except hospital", "Education",
    "Social services", "Other professional services", "Forestry and fisheries", "Public administration",
    "Armed Forces")
_INDUSTRY_SHARES = (15, 3, 30, 44, 33, 22, 6, 6, 18, 87, 30, 3, 30, 15, 8, 18, 23, 42, 12, 22, 1.5, 22, 0.3)
_OCCUPATIONS: Tuple[Tuple[str, float, float], ...] = (
    ("Executive admin and managerial", 64, 1.5), ("Professional specialty", 68, 1.3),
    ("Technicians and related support", 15, 0.7), ("Sales", 60, 0.5), ("Adm support including clerical", 72, -0.6),
    ("Private household services", 4.5, -2.0), ("Protective services", 8, 0.5), ("Other service", 62, -1.6),
    ("Farming forestry and fishing", 16, -0.8), ("Precision production craft & repair", 54, 0.1),
    ("Machine operators assmblrs & inspctrs", 31, -0.8), ("Transportation and material moving", 20, -0.4),
    ("Handlers equip cleaners etc ", 21, -1.4), ("Armed Forces", 0.3, 0.0))
_CLASSES: Tuple[Tuple[str, float, float], ...] = (
    ("Private", 720, 0.0), ("Self-employed-not incorporated", 85, 0.1), ("Local government", 76, -0.2),
    ("State government", 44, -0.1), ("Self-employed-incorporated", 33, 1.2), ("Federal government", 29, 0.6),
    ("Without pay", 2, -2.0))
_RACES = ("White", "Black", "Asian or Pacific Islander", "Other", "Amer Indian Aleut or Eskimo")
_HISPANIC = ("All other", "Mexican-American", "Mexican (Mexicano)", "Central or South American", "Puerto Rican",
             "Other Spanish", "Cuban", "NA", "Chicano", "Do not know")
_STATES = ("California", "Utah", "Florida", "North Carolina", "?", "Indiana", "Minnesota", "Oklahoma", "North Dakota",
           "Abroad", "New Mexico", "Michigan", "Arizona", "New Hampshire", "Alaska", "Georgia", "Louisiana",
           "Kentucky", "Texas", "Ohio", "Montana", "Idaho")
_COUNTRIES = ("United-States", "Mexico", "?", "Puerto-Rico", "Italy", "Dominican-Republic", "Germany", "Poland",
              "Canada", "Philippines", "Cuba", "El-Salvador", "England", "China", "Ireland", "Columbia",
              "India", "South Korea",
              "Jamaica", "Guatemala", "Vietnam", "Japan", "Greece", "Portugal", "Ecuador", "Nicaragua", "Haiti",
              "Hungary", "Peru", "Scotland", "Yugoslavia", "Cambodia", "Honduras", "Iran", "Taiwan", "France",
              "Trinadad&Tobago", "Laos", "Thailand", "Hong Kong")
_COUNTRY_SHARES = (800.0, 51, 31, 13, 11) + tuple(70.0 / (place + 8) for place in range(35))
_MARRIED = ("Married-civilian spouse present", "Married-spouse absent", "Married-A F spouse present", "Separated",
            "Divorced", "Widowed")
# Occur in the test file only.
_TEST_ONLY_COUNTRY, _TEST_ONLY_STATE, _TEST_ONLY_SHARE = "Holand-Netherlands", "Delaware", 0.002


def blocks(seed: int, number: int, rows: int) -> Iterator[Dict[str, List[str]]]:
    """Yields the rows of a file, the second of which is for testing: {column in file order: a text per row}."""
    random = np.random.RandomState([seed, number])
    columns = load_builtin("census").files.columns
    for start in range(0, rows, _BLOCK):
        people = make_rows(random, min(_BLOCK, rows - start), is_test=number == 1)
        yield {column: people[column] for column in columns}


class _Chance:
    """Draws for a number of rows, one array each."""

    def __init__(self, random: np.random.RandomState, rows: int) -> None:
        self.random, self.rows = random, rows

    def is_below(self, share: Any) -> np.ndarray:
        """Returns bool [rows], each true with a chance of ``share``."""
        return self.random.random_sample(self.rows) < share

    def draw(self, shares: Sequence[float]) -> np.ndarray:
        """Returns int64 [rows], places drawn with chances proportional to ``shares``."""
        upto = np.cumsum(np.asarray(shares, np.float64))
        places = np.searchsorted(upto / upto[-1], self.random.random_sample(self.rows), side="right")
        return np.minimum(places, len(upto) - 1)

    def pick(self, texts: Sequence[str], shares: Sequence[float]) -> np.ndarray:
        """Returns [rows] texts, drawn with chances proportional to ``shares``."""
        return np.array(texts)[self.draw(shares)]


def make_rows(random: np.random.RandomState, rows: int, is_test: bool = False) -> Dict[str, List[str]]:
    """Makes people: {column: a text per row}; ``is_test`` allows the categories that only the test file has."""
    chance = _Chance(random, rows)
    age, male, education = _make_person(chance)
    married, never = _make_marriage(chance, age, education)
    work = _make_work(chance, age, male, education)
    child = age < 15
    income = _income(random, age, male, education, never, work)
    columns: Dict[str, Any] = {
        "age": age.astype(str),
        "sex": np.where(male, "Male", "Female"),
        "education": np.where(child, "Children", _names(_EDUCATION)[education]),
        "marital_stat": married,
        "income_50k": np.where(income, "50000+.", "- 50000."),
        "hs_college": np.where((age >= 16) & (age < 25) & chance.is_below(0.5),
                               chance.pick(("High school", "College or university"), (1, 1)), NIU),
        "race": chance.pick(_RACES, (84, 10, 3, 2, 1)),
        "hisp_origin": chance.pick(_HISPANIC, (861, 40, 37, 20, 16, 12, 6, 4, 2, 1)),
        "year": chance.pick(("94", "95"), (1, 1)),
        "instance_weight": np.char.mod("%.2f", np.round(random.gamma(3.2, 545.0, rows) + 40.0, 2)),
    }
    columns.update(_work_columns(chance, age, work))
    columns.update(_family_columns(chance, age, never))
    columns.update(_move_columns(chance, is_test))
    columns.update(_origin_columns(chance, is_test))
    veteran = male & (age >= 20) & chance.is_below(0.02)
    columns["vet_question"] = np.where(veteran, chance.pick(("No", "Yes"), (4, 1)), NIU)
    columns["vet_benefits"] = np.where(child, "0", np.where(veteran, "1", "2"))
    return {name: values.tolist() for name, values in columns.items()}


def _make_person(chance: _Chance) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns int64 age in years, bool male, int64 place in the education table."""
    random, rows = chance.random, chance.rows
    age = np.where(chance.is_below(0.6), random.triangular(0, 12, 75, rows), random.uniform(0, 91, rows))
    age = age.astype(np.int64)
    education = chance.draw(_EDUCATION_SHARES)
    # The young cannot have finished yet, and the oldest left school earlier.
    education = np.minimum(education, np.clip((age - 8) * 0.9, 0, len(_EDUCATION) - 1).astype(np.int64))
    leaves = (age > 65) & chance.is_below(0.4)
    return age, chance.is_below(0.48), np.where(leaves, np.minimum(education, 8), education)


def _make_marriage(chance: _Chance, age: np.ndarray, education: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Returns the texts of the marital status, and bool: never married."""
    share = 1 / (1 + np.exp((age - 25.5 - 0.25 * (education - 8)) / 3.8))
    never = chance.is_below(np.where(age < 15, 1.0, np.maximum(share, 0.055)))
    other = chance.draw((0.72, 0.013, 0.006, 0.03, 0.12, 0.03))
    widowed = chance.is_below(np.clip((age - 58) / 60.0, 0, 1))
    return np.where(never, "Never married", np.array(_MARRIED)[np.where(widowed, 5, other)]), never


def _make_work(chance: _Chance, age: np.ndarray, male: np.ndarray, education: np.ndarray) -> Dict[str, np.ndarray]:
    random, rows = chance.random, chance.rows
    working = chance.is_below(
        np.where(age < 16, 0.0, np.where(age < 62, 0.72 + 0.1 * male, np.where(age < 70, 0.3, 0.08))))
    score = random.gumbel(size=(rows, len(_OCCUPATIONS)))
    weights = np.array([weight for _, _, weight in _OCCUPATIONS])
    score += np.log([share for _, share, _ in _OCCUPATIONS])
    score += 0.25 * weights * (education - 9)[:, np.newaxis]
    weeks = np.where(chance.is_below(0.72), 52, random.randint(1, 53, rows))
    return {"working": working, "occupation": score.argmax(axis=1), "weeks": np.where(working, weeks, 0),
            "class": chance.draw([share for _, share, _ in _CLASSES]),
            "gains": np.where((age > 20) & chance.is_below(0.035 + 0.004 * education),
                              np.round(random.lognormal(8.2, 1.0, rows)), 0).clip(0, 99999).astype(np.int64),
            "dividends": np.where((age > 20) & chance.is_below(0.03 + 0.012 * education),
                                  np.round(random.lognormal(5.8, 1.6, rows)), 0).clip(0, 99999).astype(np.int64)}


def _income(random: np.random.RandomState, age: np.ndarray, male: np.ndarray, education: np.ndarray, never: np.ndarray,
            work: Dict[str, np.ndarray]) -> np.ndarray:
    score = np.array([weight for _, weight in _EDUCATION])[education]
    score += np.where(work["working"], np.array([weight for _, _, weight in _OCCUPATIONS])[work["occupation"]], -2.5)
    score += np.where(work["working"], np.array([weight for _, _, weight in _CLASSES])[work["class"]], 0.0)
    score += 1.1 * male - 0.9 * never - ((age - 49) / 15.0) ** 2 + (work["weeks"] - 45) / 20.0
    score += 0.35 * np.log1p(work["gains"] / 500.0) + 0.2 * np.log1p(work["dividends"] / 100.0)
    return (score + random.logistic(0.0, 1.15, len(age)) > 2.9) & (age >= 16)


def _work_columns(chance: _Chance, age: np.ndarray, work: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    random, rows, working = chance.random, chance.rows, work["working"]
    industry = chance.draw(_INDUSTRY_SHARES)
    paid_by_hour = working & chance.is_below(0.12)
    columns = {
        "class_worker": np.where(working, _names(_CLASSES)[work["class"]],
                                 np.where((age > 16) & chance.is_below(0.004), "Never worked", NIU)),
        "det_ind_code": np.where(working, industry * 2 + 1 + random.randint(0, 2, rows), 0),
        "det_occ_code": np.where(working, work["occupation"] * 3 + 1 + random.randint(0, 3, rows), 0),
        "major_ind_code": np.where(working, np.array(_INDUSTRIES)[industry], "Not in universe or children"),
        "major_occ_code": np.where(working, _names(_OCCUPATIONS)[work["occupation"]], NIU),
        "wage_per_hour": np.where(paid_by_hour, np.round(random.lognormal(6.7, 0.45, rows)), 0).clip(0, 9999)
        .astype(np.int64),
        "union_member": np.where(paid_by_hour, chance.pick(("No", "Yes"), (84, 16)), NIU),
        "unemp_reason": np.where(~working & (age > 16) & chance.is_below(0.1), chance.pick(
            ("Other job loser", "Re-entrant", "Job loser - on layoff", "Job leaver", "New entrant"),
            (11, 10, 5, 3, 2)), NIU),
        "full_or_part_emp": np.where(working & chance.is_below(0.55), "Full-time schedules", np.where(
            ~working & (age > 16),
            chance.pick(("Not in labor force", "Unemployed full-time", "Unemployed part- time"), (88, 9, 3)),
            chance.pick(("Children or Armed Forces", "PT for non-econ reasons usually FT"), (96, 4)))),
        "capital_gains": work["gains"],
        "capital_losses": np.where((age > 20) & chance.is_below(0.02), random.randint(1000, 2600, rows), 0),
        "stock_dividends": work["dividends"],
        "num_emp": np.where(working, chance.draw((5, 20, 9, 12, 25, 10, 35)), 0),
        "own_or_self": np.where(working, chance.draw((86, 1, 13)), 0),
        "weeks_worked": work["weeks"],
    }
    return {name: values.astype(str) for name, values in columns.items()}


def _family_columns(chance: _Chance, age: np.ndarray, never: np.ndarray) -> Dict[str, np.ndarray]:
    # Households tell the marital status in most cases, not in all.
    never = never ^ ((age >= 15) & chance.is_below(0.12))
    alone = chance.is_below(np.clip((age - 17) / 15.0, 0.02, 0.9))
    head = chance.is_below(0.55)
    grown = np.where(alone, np.where(never, "Nonfamily householder", np.where(head, "Householder",
                                                                             "Spouse of householder")),
                     np.where(never, "Child 18+ never marr Not in a subfamily",
                              "Other Rel 18+ ever marr not in subfamily"))
    minor = chance.pick(("Child <18 never marr not in subfamily", "Grandchild <18 never marr child of subfamily RP"),
                        (96, 4))
    summary = np.where(alone, np.where(~never & ~head, "Spouse of householder", "Householder"),
                       np.where(never, "Child 18 or older", "Other relative of householder"))
    tax = np.where(never, "Single", np.where(age < 65, "Joint both under 65", "Joint both 65+"))
    return {
        "det_hh_fam_stat": np.where(age < 18, minor, grown),
        "det_hh_summ": np.where(age < 18, "Child under 18 never married", summary),
        "tax_filer_stat": np.where((age < 16) | chance.is_below(0.12), "Nonfiler",
                                   np.where(chance.is_below(0.06), "Head of household", tax)),
        "fam_under_18": np.where(age < 18, chance.pick(
            ("Both parents present", "Mother only present", "Father only present", "Neither parent present"),
            (70, 23, 4, 3)), NIU),
    }


def _move_columns(chance: _Chance, is_test: bool) -> Dict[str, np.ndarray]:
    kind = chance.draw((50, 41.5, 7.8, 0.7))
    states, shares = list(_STATES), [1.0 / (place + 2) for place in range(len(_STATES))]
    if is_test:
        states.append(_TEST_ONLY_STATE)
        shares.append(20 * _TEST_ONLY_SHARE)
    county = chance.pick(("Same county", "Different county same state", "Different region"), (70, 20, 10))

    def by_kind(unknown: str, stayed: str, moved: Any, outside: str = NIU) -> np.ndarray:
        return np.select([kind == 0, kind == 1, kind == 2], [unknown, stayed, moved], outside)

    infant = "Not in universe under 1 year old"
    return {
        "region_prev_res": by_kind(NIU, NIU, chance.pick(("South", "West", "Midwest", "Northeast", "Abroad"),
                                                         (32, 27, 22, 17, 2))),
        "state_prev_res": by_kind(NIU, NIU, chance.pick(states, shares)),
        "mig_chg_msa": by_kind("?", "Nonmover", chance.pick(
            ("MSA to MSA", "NonMSA to nonMSA", "MSA to nonMSA", "NonMSA to MSA"), (70, 18, 6, 6))),
        "mig_chg_reg": by_kind("?", "Nonmover", county),
        "mig_move_reg": by_kind("?", "Nonmover", np.where(county == "Different region", "Different state in South",
                                                          county)),
        "mig_same": by_kind(infant, "Yes", "No", infant),
        "mig_prev_sunbelt": by_kind("?", NIU, chance.pick(("No", "Yes"), (62, 38))),
    }


def _origin_columns(chance: _Chance, is_test: bool) -> Dict[str, np.ndarray]:
    countries, shares = list(_COUNTRIES), list(_COUNTRY_SHARES)
    if is_test:
        countries.append(_TEST_ONLY_COUNTRY)
        shares.append(sum(shares) * _TEST_ONLY_SHARE)
    father = chance.pick(countries, shares)
    mother = np.where(chance.is_below(0.85), father, chance.pick(countries, shares))
    own = np.where(chance.is_below(0.45), father, "United-States")
    return {
        "country_father": father, "country_mother": mother, "country_self": own,
        "citizenship": np.where(own == "United-States", "Native- Born in the United States", chance.pick(
            ("Foreign born- Not a citizen of U S ", "Foreign born- U S citizen by naturalization"), (2, 1))),
    }


def _names(table: Sequence[Tuple]) -> np.ndarray:
    return np.array([row[0] for row in table])
