"""Where does a text name a date?

One regular expression, as in the paper (section 3.4: "a regular expression is used to identify
dates"), which did not publish its own. It finds days, months with a year, years, ranges of
them, decades and centuries. A bare number from 1000 to 2099 is a year only where its
neighbours allow it: "in 1848" but not "1848 people".
"""

import re

_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December"
    r"|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?)"
)
_DAY = r"(?:3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?(?!\d)"
_YEAR = r"(?:20\d\d|1\d\d\d)(?!\d)"
_ERA = r"(?:BCE?|B\.C\.(?:E\.)?|CE|AD|A\.D\.)(?!\w)"
_TO = r"\s?(?:-|\u2013|\u2014|/)\s?"
_WEEKDAY = r"(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day,?\s)?"
_DAYS = rf"{_DAY}(?:(?:{_TO}|\sand\s|\sto\s){_DAY})?"
_ORDINAL = (
    r"(?:\d{1,2}(?:st|nd|rd|th)|(?:twenty|thirty|forty|fifty)[- ](?:first|second)"
    r"|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth"
    r"|thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth)"
)

# Words after a number that make it a quantity; plural words do so too before 1800, when few
# events are dated and most four-digit numbers count something.
_UNITS = (
    r"(?:acres?|bc|dead|degrees|dollars|employees|feet|foot|ft|grams?|hectares?|horsepower|hours"
    r"|hp|inhabitants|kg|kilometers|kilometres|kilograms|km|lbs?|members|men|meters?|metres?"
    r"|mg|mi|miles?|minutes|mm|people|percent|persons?|points?|pounds|rpm|runs|seats|soldiers|square"
    r"|students|tonnes|tons|troops|units|votes|women|yards?|years)(?!\w)"
)
_NOT_QUANTITY = rf"(?!,\d|[.:]\d|%|°|-?\s?{_UNITS})"
_BEFORE_YEAR = (
    r"(?<=\bin )|(?<=\bby )|(?<=\bof )|(?<=\bto )|(?<=\bc\. )|(?<=\bca\. )|(?<=\bfrom )"
    r"|(?<=\bsince )|(?<=\buntil )|(?<=\bafter )|(?<=\bcirca )|(?<=\band )|(?<=\bbefore )"
    r"|(?<=\baround )|(?<=\bduring )|(?<=\bbetween )|(?<=\byear )|(?<=\bearly )|(?<=\blate )"
    r"|(?<=\bIn )|(?<=\bBy )|(?<=\bFrom )|(?<=\bSince )|(?<=\bAfter )|(?<=\bBefore )|(?<=\()"
)
_RANGE_END = rf"(?:{_TO}(?:{_YEAR}|\d\d(?!\d)))?"

_DATES = re.compile(
    r"(?<![\w.,$€£#/\u2013-])(?:"
    + "|".join(
        (
            # 1881-03-12, 12/03/1881
            rf"{_YEAR}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?![\w-])",
            rf"\d{{1,2}}[/.]\d{{1,2}}[/.]{_YEAR}",
            # 12 March 1881, the 12th of March, 12-14 March 1881, 30 May - 2 June 1881
            rf"{_WEEKDAY}{_DAYS}\s(?:of\s)?{_MONTH}"
            rf"(?:{_TO}{_DAY}\s{_MONTH})?(?:,?\s{_YEAR}|\s\d{{1,3}}\s{_ERA})?(?!\w)",
            # March 12, 1881; March 12-14, 1881
            rf"{_WEEKDAY}{_MONTH}\s{_DAYS}(?!\w)(?:,?\s{_YEAR}(?!\w))?",
            # March 1881, March to May 1881, March of 1881
            rf"{_MONTH}(?:(?:{_TO}|\sand\s|\sto\s){_MONTH})?,?\s(?:of\s)?{_YEAR}(?!\w)",
            # 44 BC, AD 79, 27 BC - 14 AD
            rf"\d{{1,4}}(?:{_TO}\d{{1,4}})?\s?{_ERA}(?:{_TO}\d{{1,4}}\s?{_ERA})?",
            r"(?:AD|A\.D\.)\s\d{1,4}(?!\d)",
            # the 1990s, late 1990s, 1880s-1890s
            rf"(?:(?:early|mid|late)[- ])?(?:1\d|20)\d0'?s(?:{_TO}(?:(?:1\d|20)?\d0)'?s)?(?!\w)",
            # 5th century BC, eighteenth and nineteenth centuries
            rf"(?:(?:early|mid|late)[- ])?{_ORDINAL}(?:(?:{_TO}|\sand\s|\sto\s){_ORDINAL})?"
            rf"[- ](?:century|centuries|millennium)(?!\w)(?:\s{_ERA})?",
            # in 1881, 1881-82; older years need a word before them that fits a year
            rf"(?:1[89]\d\d|20[0-4]\d)(?!\d){_RANGE_END}(?!\w){_NOT_QUANTITY}",
            rf"(?:{_BEFORE_YEAR}){_YEAR}{_RANGE_END}(?!\w){_NOT_QUANTITY}(?!\s[a-z]+s\b)",
        )
    )
    + ")"
)
_MAYBE_DATE = re.compile(r"\d|centur|millenni")


def find_dates(text: str) -> list[tuple[int, int]]:
    """Return the character ranges of dates, in order and without overlap."""
    if _MAYBE_DATE.search(text) is None:
        return []
    return [match.span() for match in _DATES.finditer(text)]
