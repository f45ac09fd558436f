import pytest

from realm.spans.dates import find_dates


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("Born on 12 March 1881 in Kent.", ["12 March 1881"]),
        ("Born on March 12, 1881, in Kent.", ["March 12, 1881"]),
        ("On 12 March the king died.", ["12 March"]),
        ("On Friday April 13 it ended.", ["Friday April 13"]),
        ("the 12th of March 1881", ["12th of March 1881"]),
        ("Held 12\u201314 March 1881.", ["12\u201314 March 1881"]),
        ("On 14 and 15 November 2007, it rained.", ["14 and 15 November 2007"]),
        ("From 30 May \u2013 2 June 1881.", ["30 May \u2013 2 June 1881"]),
        ("(2 May 1912 \u2013 5 October 1962)", ["2 May 1912", "5 October 1962"]),
        ("in January 2004, up to 15,000 marched", ["January 2004"]),
        ("On March 17 2007, protests", ["March 17 2007"]),
        ("It was Sept. 2001 then.", ["Sept. 2001"]),
        ("Written on 1881-03-12.", ["1881-03-12"]),
        ("in the 1990s and late 1880s", ["1990s", "late 1880s"]),
        ("Killed in 44 BC by friends.", ["44 BC"]),
        ("In AD 79 it erupted; 30 B.C. too.", ["AD 79", "30 B.C."]),
        ("27 BC \u2013 14 AD", ["27 BC \u2013 14 AD"]),
        ("a 5th century BC temple", ["5th century BC"]),
        ("the 18th and 19th centuries", ["18th and 19th centuries"]),
        ("the eighteenth century", ["eighteenth century"]),
        ("In 1856 it was abolished in 1909.", ["1856", "1909"]),
        ("from 1939 to 1945", ["1939", "1945"]),
        ("the war of 1939\u20131945", ["1939\u20131945"]),
        ("the 2003\u201304 season", ["2003\u201304"]),
        ("(born 1956)", ["1956"]),
        ("in 1066, the", ["1066"]),
        ("The 1998 elections", ["1998"]),
        ("He died in 1547.", ["1547"]),
        ("(1452\u20131519)", ["1452\u20131519"]),
        # not dates
        ("a crowd of 1500 people", []),
        ("some 2000 people and 1900 km", []),
        ("1,999 or 1999.5 or $1999", []),
        ("a group of 1200 soldiers, of 1300 cars", []),
        ("over 1,000 metres of quayside", []),
        ("he may 12 times", []),
        ("No. 1234 and 12345 and 300", []),
        ("in 3000", []),
        ("the 19th hole", []),
        ("I May go", []),
        ("Boeing 1500 jets", []),
        ("", []),
    ],
)
def test_table(text: str, dates: list[str]) -> None:
    assert [text[start:end] for start, end in find_dates(text)] == dates
