import pytest

from realm.spans.entities import RuleTagger, Span, join_tags, words_of

# What the rules learn from: which words stand in capitals or not inside sentences.
SENTENCES = [
    "So the engineers, former president and mathematics of the lake met in Paris and conversely.",
    "Then Curie and London went to see Lake Michigan near the college on the lake shore.",
    "Here England and Queen Victoria met king Harald of Norway and former Chancellor Merkel.",
    "The language is English-language and based in London-based "
    "but the Club met when the club and the club and club met.",
]


def names(sentence: str) -> list[str]:
    (spans,) = RuleTagger.fit(SENTENCES).tag([sentence])
    assert all(span.label == "entity" for span in spans)
    return [sentence[span.start : span.end] for span in spans]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("He met Marie Curie in the house.", ["Marie Curie"]),
        # Beginnings of sentences
        ("Engineers went home.", []),
        ("Curie went home.", ["Curie"]),
        ("Zzyx went home.", []),
        ("In Paris they met.", ["Paris"]),
        ("Former Chancellor Merkel left.", ["Chancellor Merkel"]),
        ("Lake Michigan is deep.", ["Lake Michigan"]),
        ("Marie Curie went home.", ["Marie Curie"]),
        ("Although Curie left, he stayed.", ["Curie"]),
        ('He said: "Engineers of London left."', ["London"]),
        ("The Beatles sang.", ["Beatles"]),
        ("Later The Rolling Stones sang.", ["Rolling Stones"]),
        # Phrases
        ("at the University of the Western Cape now", ["University of the Western Cape"]),
        ("by Ludwig van Beethoven and J. R. R. Tolkien",
         ["Ludwig van Beethoven", "J. R. R. Tolkien"]),
        ("in St. Louis with Dr. Martin Luther King, Jr. himself",
         ["St. Louis", "Dr. Martin Luther King, Jr."]),
        ("before World War I.", ["World War I"]),
        ("by U.S. troops of NATO", ["U.S.", "NATO"]),
        ("on Apollo 11.", ["Apollo 11"]),
        ("from Boeing 747 jets", ["Boeing"]),
        ("in Helsinki, Finland 17 September", ["Helsinki", "Finland", "September"]),
        ("of the 1st Armored Division there", ["1st Armored Division"]),
        # Possessives
        ("when England's Queen Victoria met him", ["England", "Queen Victoria"]),
        ("at King's College then", ["King's College"]),
        ("by Curie's London friend's Paris", ["Curie", "London", "Paris"]),
        # Hyphens
        ("an English-language paper by Jean-Paul Sartre", ["English", "Jean-Paul Sartre"]),
        ("with Chiang Kai-shek in Stratford-upon-Avon",
         ["Chiang Kai-shek", "Stratford-upon-Avon"]),
        # What no reader could be asked for
        ("what I said and I'm on Monday", []),
        ("when the Club met, D. said", []),
        ("with O'Brien there", ["O'Brien"]),
        # Other scripts
        ("in \u0141\u00f3d\u017a, \u041b\u0435\u0432 \u0422\u043e\u043b\u0441\u0442\u043e\u0439",
         ["\u0141\u00f3d\u017a", "\u041b\u0435\u0432 \u0422\u043e\u043b\u0441\u0442\u043e\u0439"]),
        ("", []),
        ("no names here at all", []),
    ],
)  # fmt: skip
def test_names_by_table(sentence: str, expected: list[str]) -> None:
    assert names(sentence) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("a hill of 1,200 metres", ["1,200 metres"]),
        ("it is 5.2 km long and 30% steel", ["5.2 km", "30%"]),
        ("for $3.5 million or \u20ac200", ["$3.5 million", "\u20ac200"]),
        ("some 2 million people", ["2 million people"]),
        ("aged 12 and no. 7", []),
        ("by 1.2.3 km", []),
        ("at 10 km/h or 5 miles/8 km", ["10 km/h", "5 miles", "8 km"]),
    ],
)
def test_numbers_by_table(sentence: str, expected: list[str]) -> None:
    (spans,) = RuleTagger.fit(SENTENCES).tag([sentence])
    assert [sentence[s.start : s.end] for s in spans if s.label == "number"] == expected


def test_sentences_are_tagged_alike_alone_and_together() -> None:
    tagger = RuleTagger.fit(SENTENCES)
    assert tagger.tag(SENTENCES) == [tagger.tag([sentence])[0] for sentence in SENTENCES]


@pytest.mark.parametrize("text", ["Ab " * 20_000, "A." * 20_000, "A-" * 20_000, "1," * 20_000])
def test_odd_text_takes_linear_time(text: str) -> None:
    RuleTagger.fit([text]).tag([text])


def test_tags_are_joined() -> None:
    tags = ["O", "B-PER", "I-PER", "B-PER", "O", "I-LOC", "I-LOC", "I-ORG", "O"]
    offsets = [(0, 0), (0, 3), (4, 9), (10, 13), (14, 16), (17, 20), (21, 25), (26, 30), (0, 0)]
    words = [None, 0, 1, 2, 3, 4, 5, 6, None]
    assert join_tags(tags, offsets, words) == [
        Span(0, 9, "PER"),
        Span(10, 13, "PER"),
        Span(17, 25, "LOC"),
        Span(26, 30, "ORG"),
    ]


@pytest.mark.parametrize(("last", "alone"), [("E-", "S-"), ("L-", "U-")])
def test_tags_that_name_ends_are_joined(last: str, alone: str) -> None:
    tags = ["B-PER", "I-PER", f"{last}PER", f"{alone}PER", f"{alone}LOC", "O"]
    offsets = [(0, 3), (4, 9), (10, 13), (14, 16), (17, 20), (21, 25)]
    assert join_tags(tags, offsets, range(6)) == [
        Span(0, 13, "PER"), Span(14, 16, "PER"), Span(17, 20, "LOC"),
    ]  # fmt: skip


def test_the_first_token_speaks_for_its_word() -> None:
    offsets = [(0, 3), (3, 5), (5, 6)]
    assert join_tags(["PER", "O", "O"], offsets, [0, 0, 1]) == [Span(0, 5, "PER")]
    assert join_tags(["O", "PER", "O"], offsets, [0, 0, 1]) == []
    assert join_tags(["B-PER", "B-PER", "I-PER"], offsets, [0, 0, 1]) == [Span(0, 6, "PER")]


def test_a_sign_of_a_capital_is_no_word_of_its_own() -> None:
    # "Old Keld": each word behind its sign, which says something else.
    offsets = [(0, 1), (0, 3), (4, 5), (4, 6), (6, 8)]
    words = [0, 1, 2, 3, 3]
    tags = ["B-PER", "B-LOC", "O", "I-LOC", "O"]
    assert join_tags(tags, offsets, words) == [Span(0, 8, "LOC")]
    assert [word.position for word in words_of(offsets, words)] == [1, 3]
