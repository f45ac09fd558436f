"""What a date is, case by case: as many that are none as the neighbours of numbers need."""

import pytest

from realm.spans.dates import find_dates

# A sentence with its dates in brackets; the brackets are taken out before the search.
DAYS = """
Born on [12 March 1881] in Kent.
Born on [March 12, 1881], in Kent.
On [12 March] the king died.
On [Friday April 13] it ended.
On [Sunday, 7 December 1941], it began.
It began on [Sunday, December 7, 1941].
the [12th of March 1881]
the [12th March, 1881]
on [March 12th, 1881], and
on [March 12th] again
the [4th of July]
the [July 4] holiday
the [September 11] attacks
signed [Dec. 25, 2001], in Rome
signed [25 Dec 2001] in Rome
signed [25 Dec. 2001] in Rome
signed [12-Dec-2001] in Rome
on [03 May 1999] it
On [March 17 2007], protests
On [1 January 45 BC] it began.
Written on [1881-03-12].
Seen on [12/03/1881] and [3/12/1881].
Seen on [31/12/1999], not later.
Seen on [12.3.1881] there.
Seen on [12/03/81] there.
Held [12\u201314 March 1881].
Held [March 12\u201314, 1881].
Held [March 12-14].
On [14 and 15 November 2007], it rained.
From [30 May \u2013 2 June 1881].
From [28 June to 3 July 1863], they fought.
From [June 28 \u2013 July 3, 1863], they fought.
From [June 28 to July 3, 1863], they fought.
([2 May 1912] \u2013 [5 October 1962])
"""
MONTHS = """
in [January 2004], up to 15,000 marched
in [May 2004]\u2014no, in [June 2004]
It was [Sept. 2001] then.
It was [Sept 2001] then.
in [March to May 1881] and
in [March\u2013May 1881] and
in [June and July 1914] and
in [December 1999 \u2013 January 2000] and
in [August of 1914], guns
in [early May 1945], peace
in [mid-June 1999] and [late August 2001]
in the [summer of 1969]
in [spring 2004] and [Autumn 2005]
the [winter of 1812\u201313]
"""
YEARS = """
In [1856] it was abolished in [1909].
from [1939] to [1945]
between [1861] and [1865]
the war of [1939\u20131945]
the war of [1939\u201345]
the [2003\u201304] season
the [1999/2000] season
the [1999-2000] season
(born [1956])
in [1066], the
in [1492]; the
by [1776]: the
The [1998] elections
The [1990] World Cup
He died in [1547].
([1452\u20131519])
(c. [1450])
circa [1450] it was
since [1066] or [1704]
the year [1000]
in the year [476] it fell
the class of [2010].
the copyright \u00a9 [2010] of
[2001]\u2013present
in [1848]'s revolutions
"the [1812] overture"
the film ([1999]) and
by [1800], 3,000 people
the [1900-1910] survey
"""
ERAS = """
Killed in [44 BC] by friends.
Killed in [44 B.C.] by friends.
built c. [2500 BC] there
built in [3000 BCE] there
In [AD 79] it erupted; [30 B.C.] too.
in [79 AD] it
in [1066 CE] it
[27 BC \u2013 14 AD]
from [300\u2013250 BC] on
a [5th century BC] temple
in the [third millennium BC], they
"""
LONGER = """
in the [1990s] and [late 1880s]
the [1870s\u201380s]
the [1870s\u20131890s]
the [mid-1990s] boom
in the [1900's] it
the [1960s] counterculture
in the ['60s] it
the [18th and 19th centuries]
the [18th century]
the [eighteenth century]
the [late nineteenth century]
a [19th-century] house
an [early-20th-century] house
in the [twenty-first century]
in the [1st century AD]
from the [16th to the 18th century]
from the [16th to 18th centuries]
the [17th\u201318th centuries]
the first half of the [20th century]
"""
NONE = """
a crowd of 1500 people
some 2000 people and 1900 km
a 1900-foot hill and a 1850 m one
1,999 or 1999.5 or $1999 or 1999%
a cost of \u20ac2000 and \u00a31850
a group of 1200 soldiers, of 1300 cars
over 1,000 metres of quayside
2010 votes and 1999 seats
1950 square miles
he may 12 times
I May go
they march 12 miles
the March of progress
the March on Washington
No. 1234 and 12345 and 300
No. 1984 on the list
see page 1850 and pp. 1901
in room 1904 of flight 1985
along Route 1925
in 3000
in 999 cases
the 19th hole
the 100th time
the second half
a century ago
half a century later
20th Century Fox
Second Empire
Boeing 1500 jets
Boeing 747 and Apollo 11
at 19:45 and at 20:12:30
at 1945 hours
open 24/7 with 20/20 vision
3/4 of a cup, 1/2
13/45/1999
192.168.1999.1
2001:0db8::1
call 555-1881 or 1881-555
ISBN 19812011
version 1.1990
35 January and January 35
the 1980X model and the B1980
a score of 1999-2
10 Downing Street
Henry VIII and Louis XIV
aged 12 to 14
30 mayors and 12 marches
one Mayday in the Sepoy mutiny
Augustus and the Decembrists
Marches of 2 days
"""


def cases() -> list[str]:
    blocks = (DAYS, MONTHS, YEARS, ERAS, LONGER, NONE)
    return [line for block in blocks for line in block.strip().splitlines()]


def test_the_table_is_long_enough() -> None:
    assert len(cases()) >= 120
    assert len(NONE.strip().splitlines()) >= 40


@pytest.mark.parametrize("marked", cases())
def test_table(marked: str) -> None:
    text = marked.replace("[", "").replace("]", "")
    dates = [piece.partition("]")[0] for piece in marked.split("[")[1:]]
    assert [text[start:end] for start, end in find_dates(text)] == dates


def test_no_text_no_dates() -> None:
    assert find_dates("") == []


@pytest.mark.parametrize(
    "text", ["1999-" * 5000, "12/" * 5000, "early " * 5000, "1 May to " * 5000]
)
def test_odd_text_takes_linear_time(text: str) -> None:
    find_dates(text)
