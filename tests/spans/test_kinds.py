"""What the first sentence of an article says that it is about."""

import pytest

from realm.spans.kinds import kind_of_definition

DEFINITIONS = [
    ("Tavil is a village in the district of Lomvar, Velland.", "LOC"),
    ("The Sorna is one of the longest rivers in Velland.", None),  # nothing in the plural
    ("The Sorna () is a small, slow river that flows into the sea.", None),  # a comma ends it
    ("The Sorna is a small slow river that flows into the sea.", "LOC"),
    ("Mount Keld was the highest mountain of the range.", "LOC"),
    ("Lomvar Hall is a historic house situated near Tavil.", "LOC"),
    ("Ashford Brook is a populated place.", "LOC"),
    ("Ratanpur is a village development committee in Nepal.", "LOC"),
    ("Tavil Junction is a railway station on the coastal line.", "LOC"),
    ("Clara Osmund (born 2 May 1950) is a member of Parliament.", "PER"),
    ("Clara Osmund (2 May 1912 \u2013 5 October 1962) held several posts.", "PER"),
    ("Ida Renquist is a Vellish politician and former teacher.", "PER"),
    ("Ida Renquist was an American professional baseball pitcher who played in Tavil.", "PER"),
    ("Jaydee is a French comic book character created by Ida Renquist.", "PER"),
    ("Osmund was the first king of Velland.", "PER"),
    ("Tavil United F.C. is a football club based in Tavil.", "ORG"),
    ("The Mad Surveyors were a rock band from Velland.", "ORG"),
    ("Keld plc is a multinational company with offices in Tavil.", "ORG"),
    ("Velland National is the central bank of Velland.", "ORG"),
    ("WKLD (98.1 FM) is a radio station broadcasting from Tavil.", "ORG"),
    ("Keld & Sons is a publishing house founded in 1901.", "ORG"),
    ("The University of Tavil is a public university.", "ORG"),
    ("The 139th was an infantry regiment in the Union Army.", "ORG"),
    ("Slow River is the third album by the Mad Surveyors.", "MISC"),
    ('"Slow River" is a song written by Ida Renquist.', "MISC"),
    ("The Mapmaker is a 1986 Vellish film directed by Clara Osmund.", "MISC"),
    ("The Battle of Keld was a battle between two armies.", "MISC"),
    ("The Tavil Open is an annual golf tournament.", "MISC"),
    ("Vellish is a language spoken in Velland.", "MISC"),
    ("Keld 5 is a video game for two players.", "MISC"),
    ("The Keld T-5 is a light aircraft.", "MISC"),
    ("Aedes keldi is a species of mosquito.", None),
    ("Tavil may refer to several things.", None),
    ("It rises near Keld.\nThe Sorna is a river.", None),  # another paragraph
    ("", None),
]


@pytest.mark.parametrize(("text", "kind"), DEFINITIONS)
def test_kinds_by_hand(text: str, kind: str | None) -> None:
    assert kind_of_definition(text) == kind
