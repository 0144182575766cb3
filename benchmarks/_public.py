"""The data sets of ``bench quality``: where a reader gets the files, their hashes, and what YAML describes."""
import csv
import dataclasses
import functools
import hashlib
import os
from typing import Callable, Dict, List, Tuple

from benchmarks._data import census_files
from feature_specs.errors import DataError
from preprocessing.samples.sample import write_sample

_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "datasets")
_GENRES = ("unknown", "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama",
           "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western")
_FILMS_COLUMNS = ("user_id", "film_id", "genres", "gender", "occupation", "area", "age", "year", "like", "rating")


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set of the quality benchmark.

    Attributes:
        dataset: name of a built-in dataset file, or the path of one.
        files: {published file: SHA-256}; empty where nothing is fetched or any rows will do.
        origin: where a reader gets the files, and on what terms.
        texts: from (source folder, scratch folder) to training and test file.
        max_bad_rows: lines that are no rows.
    """

    dataset: str
    files: Dict[str, str]
    origin: str
    texts: Callable[[str, str], Tuple[str, str]]
    max_bad_rows: int = 0

    def make(self, source: str, directory: str) -> Tuple[str, str]:
        """Checks the files and returns the training and the test file.

        Args:
            source: folder with the published files.
            directory: existing folder to write into.

        Raises:
            DataError: a file is missing or is another one.
        """
        for name, expected in self.files.items():
            path = os.path.join(source, name)
            if not source or not os.path.isfile(path):
                raise DataError("%s is not %s; get it from %s, and name its folder with --source"
                                % (name, "in %s" % source if source else "given", self.origin))
            with open(path, "rb") as stream:
                found = hashlib.sha256(stream.read()).hexdigest()
            if found != expected:
                raise DataError("%s has the SHA-256 %s, expected %s; get it from %s"
                                % (path, found, expected, self.origin))
        return self.texts(source, directory)


def _census(source: str, directory: str) -> Tuple[str, str]:
    del directory
    return census_files(source)


def _shop(source: str, directory: str) -> Tuple[str, str]:
    del source
    return write_sample("shop", directory, 500000, 100000)


def _adult(source: str, directory: str) -> Tuple[str, str]:
    del directory
    return os.path.join(source, "adult.data"), os.path.join(source, "adult.test")


def _films(fold: int, source: str, directory: str) -> Tuple[str, str]:
    """Joins a fold's ratings with users and films; a zip code becomes its first two characters, a title its year."""
    users = {row[0]: row for row in _rows(os.path.join(source, "u.user"), "|")}
    films = {row[0]: row for row in _rows(os.path.join(source, "u.item"), "|")}
    paths = []
    for name in ("u%d.base" % fold, "u%d.test" % fold):
        path = os.path.join(directory, name + ".tsv")
        with open(path, "w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
            writer.writerow(_FILMS_COLUMNS)
            for user_id, film_id, rating, _ in _rows(os.path.join(source, name), "\t"):
                _, age, gender, occupation, area = users[user_id]
                film = films[film_id]
                genres = "|".join(genre for genre, mark in zip(_GENRES, film[5:]) if mark == "1")
                writer.writerow([user_id, film_id, genres, gender, occupation, area[:2], age, film[2][-4:],
                                 int(int(rating) >= 4), rating])
        paths.append(path)
    return paths[0], paths[1]


def _rows(path: str, separator: str) -> List[List[str]]:
    with open(path, encoding="latin-1", newline="") as stream:
        return list(csv.reader(stream, delimiter=separator, quoting=csv.QUOTE_NONE))


DATA_SETS: Dict[str, DataSet] = {
    "census": DataSet("census", {}, "UCI data set 117 (CC BY 4.0)", _census),
    "shop": DataSet("shop", {}, "", _shop),
    "shop_apart": DataSet(os.path.join(_FOLDER, "shop_apart.yaml"), {}, "", _shop),
    "adult": DataSet(
        os.path.join(_FOLDER, "adult.yaml"),
        {"adult.data": "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
         "adult.test": "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05"},
        "UCI data set 2, https://archive.ics.uci.edu/dataset/2/adult (CC BY 4.0)", _adult, 1),
}

# MovieLens 100K comes with five folds; ``films`` is the first one, ``films2`` to ``films5`` are the others.
_FILMS = {"u.user": "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c",
          "u.item": "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701"}
_FOLDS = (("ce253ec86c448b44fb3ba9a30d12dcfc2e9210cbde71efada3730c22e9ac212a",
           "18c6014a4b2c7324f250a63f8904a7b16b2b19f911129e346141507b0cbac950"),
          ("6c06f0b5df4b256da1a994f3ac66edc8da4d3f09bc9282df6b14d893366d703e",
           "4de658d1e04ed9104629509a2e2528fce833ac8e048280183f1df167632038c3"),
          ("afdc155c291c6edc41c0407e39d7462eb98d341e064f0b0a12175b80b3c4af5d",
           "0f548b51c78327de4c156461d3e430b7e5579fe2b5681586a59416e48fd35f6d"),
          ("219f0f4d40dfe9c5141d425f53fa91ee23ed275f14e280bbf1b50117afb064ca",
           "7c02ad0a1e7ab1083c8b9d4b627203a051dd7b5eab46d99fa44de33470de8db9"),
          ("a9574e59ce961eec2121627760b6e9b0974ce1637b3fe69ac32cb14a4bfab485",
           "351cc52e0d15b6c721466276fc24671d40936899e3d01fadeaf312915b8c5634"))
DATA_SETS.update({
    "films" if number == 1 else "films%d" % number: DataSet(
        os.path.join(_FOLDER, "films.yaml"), dict(_FILMS, **{"u%d.base" % number: base, "u%d.test" % number: test}),
        "https://files.grouplens.org/datasets/movielens/ml-100k.zip (MovieLens 100K: research use, no redistribution "
        "without permission)", functools.partial(_films, number))
    for number, (base, test) in enumerate(_FOLDS, 1)})
