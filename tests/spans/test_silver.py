"""Articles mark the names that their first sentences explain, and leave open what they do not."""

import pytest

from realm.corpus.documents import Document
from realm.spans.conll import TaggedSentence
from realm.spans.entities import RuleTagger
from realm.spans.silver import Article, Names, mark_articles, mark_sentence, read_article

CLARA = Article("Clara Osmund", "PER", "")
NAMES = Names({"Sorna": {"LOC"}, "Mercury": {"LOC", "MISC"}, "Ida": {"PER"}})
RULES = RuleTagger.fit(["He met Ida in Tavil."])


def document(title: str, text: str) -> Document:
    return Document(title, title, text)


def marked(sentence: TaggedSentence) -> tuple[list[tuple[str, str]], list[str]]:
    """The names with their kinds, and what is left open."""
    text = sentence.text
    named = [(text[start:end], label) for start, end, label in sentence.spans]
    return named, [text[start:end] for start, end in sentence.unsure]


@pytest.mark.parametrize(
    ("title", "text", "name"),
    [
        ("Tavil", "Tavil is a village in Velland.", "Tavil"),
        ("Tavil (Lomvar)", "Tavil is a village in Velland.", "Tavil"),
        ("Tavil, Lomvar", "Tavil is a village in Velland.", "Tavil"),
        ("Slow River", "Slow River is an album.", "Slow River"),
        ("Trade union", "A trade union is an organization of workers.", None),  # no name
        ("iPond", "iPond is a company.", None),
        ("It", "It is a novel.", None),
        ("Tavil", "In Velland there are villages.", None),
    ],
)
def test_titles_are_names_or_not(title: str, text: str, name: str | None) -> None:
    article = read_article(document(title, text))
    assert (article and article.name) == name


def test_a_long_article_is_read_to_the_end_of_a_word() -> None:
    article = read_article(document("Tavil", "Tavil is a village. " + "It stands. " * 100))
    assert article is not None
    assert len(article.text) < 700
    assert article.text.endswith((" It", " stands."))


def test_known_names_are_marked_and_others_left_open() -> None:
    text = 'Osmund swam in the Sorna, met Ida in Tavil near Keld Hall and saw "the end" of Mercury.'
    named, unsure = marked(mark_sentence(text, CLARA, NAMES, RULES))
    assert named == [("Osmund", "PER"), ("Sorna", "LOC")]
    # "Mercury" is two things, and one word of another person's name is nobody's.
    assert sorted(unsure) == ['"the end"', "Ida", "Keld Hall", "Mercury", "Osmund", "Tavil"]


def test_a_part_of_a_person_s_name_inside_another_name_is_none() -> None:
    named, unsure = marked(mark_sentence("He saw Osmund Hall.", CLARA, NAMES, RULES))
    assert named == []
    assert unsure == ["Osmund Hall", "He"]


def test_the_title_is_marked_wherever_it_stands() -> None:
    article = Article("Come as You Are", "MISC", "")
    text = "He sang Come as You Are, not Come as You Aren't."
    named, unsure = marked(mark_sentence(text, article, NAMES, RULES))
    assert named == [("Come as You Are", "MISC")]
    assert "Come as You Are" not in unsure


def test_first_and_last_words_of_many_titles_tell_the_kind() -> None:
    rivers = {f"Name{number} River": {"LOC"} for number in range(10)}
    people = {f"Clara Name{number}": {"PER"} for number in range(10)}
    names = Names({**rivers, **people, **{f"Ida Name{number}": {"PER"} for number in range(9)}})
    assert names.kind_of("Slow River") == "LOC"
    assert names.kind_of("Clara Osmund") == "PER"
    assert names.kind_of("Ida Osmund") is None  # nine are too few
    assert names.kind_of("River") is None  # the word alone is none of the names
    mixed = Names({**rivers, "Moon River": {"MISC"}})
    assert mixed.kind_of("Slow River") is None  # ten of eleven are too few


def test_as_many_articles_of_each_kind_as_there_are() -> None:
    villages = [document(f"Tavil{n}", f"Tavil{n} is a village.") for n in range(50)]
    others = [
        document("Keld", "Keld is a company. It made maps."),
        document("Slow River", "Slow River is an album."),
        document("Trade", "Trade may refer to many things."),
    ]
    file = mark_articles([*villages, *others], num_articles=12, seed=0)
    assert file.labels == {"LOC", "MISC", "ORG", "PER"}
    assert [len(document) for document in file.documents] == [
        1,
        1,
        1,
        1,
        1,
    ]  # "It made maps." has no name
    labels = [span.label for sentence in file.sentences for span in sentence.spans]
    assert labels == ["LOC", "LOC", "LOC", "MISC", "ORG"]
    assert file == mark_articles([*villages, *others], num_articles=12, seed=0)
    texts = [sentence.text for sentence in file.sentences]
    other = mark_articles([*villages, *others], num_articles=12, seed=1)
    assert texts != [sentence.text for sentence in other.sentences]
