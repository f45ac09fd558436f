"""Where does a text name a date?

One regular expression, as in the paper (section 3.4: "a regular expression is used to identify
dates"), which did not publish its own. It finds days, months and seasons with a year, years,
ranges of them, decades and centuries. A bare number from 1000 to 2099 is a year only where its
neighbours allow it: "in 1848" but not "1848 people".
"""

import re

_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December"
    r"|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?)"
)
_DAY = r"(?:3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?(?!\d)"
_DAY_NUMBER, _MONTH_NUMBER = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
_YEAR = r"(?:20\d\d|1\d\d\d)(?!\d)"
_ERA = r"(?:BCE?|B\.C\.(?:E\.)?|CE|AD|A\.D\.)(?!\w)"
_TO = r"\s?(?:-|\u2013|\u2014|/)\s?"
_WEEKDAY = r"(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day,?\s)?"
_RANGE_END = rf"(?:{_TO}(?:{_YEAR}|\d\d(?!\d)))?"
_UNTIL = rf"(?:{_TO}|\sto\s)"
_PART = r"(?:(?:early|mid|late)[- ])?"
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
    r"|hp|inhabitants|kg|kilometers|kilometres|kilograms|km|lbs?|m|members|men|meters?|metres?"
    r"|mg|mi|miles?|minutes|mm|people|percent|persons?|points?|pounds|rpm|runs|seats|soldiers|square"
    r"|students|tonnes|tons|troops|units|votes|women|yards?|years)(?!\w)"
)
_NOT_QUANTITY = rf"(?!,\d|[.:-]\d|%|°|-?\s?{_UNITS})"
# What a number numbers: these come just before it.
_NOT_NUMBERED = (
    r"(?<!\b[Nn]o\. )(?<!\b[Nn]os\. )(?<!\b[Pp]p\. )(?<!\b[Pp]\. )(?<!\b[Pp]age )(?<!\b[Pp]ages )"
    r"(?<!\b[Rr]oom )(?<!\b[Rr]oute )(?<!\b[Hh]ighway )(?<!\b[Ff]light )(?<!\b[Nn]umber )"
)
_BEFORE_YEAR = (
    r"(?<=\bin )|(?<=\bby )|(?<=\bof )|(?<=\bto )|(?<=\bc\. )|(?<=\bca\. )|(?<=\bfrom )"
    r"|(?<=\bsince )|(?<=\buntil )|(?<=\bafter )|(?<=\bcirca )|(?<=\band )|(?<=\bbefore )"
    r"|(?<=\bor )|(?<=\baround )|(?<=\bduring )|(?<=\bbetween )|(?<=\byear )|(?<=\bearly )"
    r"|(?<=\blate )|(?<=\bIn )|(?<=\bBy )|(?<=\bFrom )|(?<=\bSince )|(?<=\bAfter )|(?<=\bBefore )"
    r"|(?<=\()"
)

_DATES = re.compile(
    r"(?<![\w.,$€£#/\u2013-])(?:"
    + "|".join(
        (
            # 1881-03-12, 12/03/1881, 12.3.1881, 12/03/81, 12-Mar-1881
            rf"{_YEAR}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?![\w-])",
            rf"(?:{_DAY_NUMBER}[/.]{_MONTH_NUMBER}|{_MONTH_NUMBER}[/.]{_DAY_NUMBER})[/.]{_YEAR}(?!\.\d)",
            rf"(?:{_DAY_NUMBER}/{_MONTH_NUMBER}|{_MONTH_NUMBER}/{_DAY_NUMBER})/\d\d(?![\w/])",
            rf"{_DAY}-{_MONTH}-{_YEAR}(?!\w)",
            # 12 March 1881, the 12th of March, 12-14 March 1881, 30 May - 2 June 1881,
            # June 28 to July 3, 1863
            rf"{_WEEKDAY}{_DAYS}\s(?:of\s)?{_MONTH}"
            rf"(?:{_UNTIL}{_DAY}\s{_MONTH})?(?:,?\s{_YEAR}|\s\d{{1,3}}\s{_ERA})?(?!\w)",
            # March 12, 1881; March 12-14, 1881
            rf"{_WEEKDAY}{_MONTH}\s{_DAYS}(?:{_UNTIL}{_MONTH}\s{_DAY})?(?!\w)(?:,?\s{_YEAR}(?!\w))?",
            # March 1881, March to May 1881, March of 1881, December 1999 - January 2000
            rf"{_PART}{_MONTH}(?:(?:{_TO}|\sand\s|\sto\s){_MONTH})?,?\s(?:of\s)?{_YEAR}"
            rf"(?:{_TO}{_MONTH}\s{_YEAR})?(?!\w)",
            # summer of 1969, winter 1812-13
            rf"{_PART}(?:[Ss]pring|[Ss]ummer|[Aa]utumn|[Ww]inter)\s(?:of\s)?{_YEAR}{_RANGE_END}(?!\w)",
            # the year 476
            r"(?<=\byear )\d{3}(?![\w,.]\d|\w)",
            # 44 BC, AD 79, 27 BC - 14 AD
            rf"\d{{1,4}}(?:{_TO}\d{{1,4}})?\s?{_ERA}(?:{_TO}\d{{1,4}}\s?{_ERA})?",
            r"(?:AD|A\.D\.)\s\d{1,4}(?!\d)",
            # the 1990s, late 1990s, 1880s-1890s
            rf"{_PART}(?:(?:1\d|20)\d0'?s|['\u2019]\d0s)(?:{_TO}(?:(?:1\d|20)?\d0)'?s)?(?!\w)",
            # 5th century BC, eighteenth and nineteenth centuries
            rf"{_PART}{_ORDINAL}(?:(?:{_TO}|\s(?:and|to)\s(?:the\s)?){_ORDINAL})?"
            rf"[- ](?:century|centuries|millennium)(?!\w)(?:\s{_ERA})?",
            # in 1881, 1881-82; older years need a word before them that fits a year
            rf"{_NOT_NUMBERED}(?:1[89]\d\d|20[0-4]\d)(?!\d){_RANGE_END}(?!\w){_NOT_QUANTITY}",
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
