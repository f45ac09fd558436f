"""What kind of thing does the first sentence of an article say that it is about?

The last word before "of", "in", "that" and the like after "is a" is the head: "Tavil is a small
village in Velland" tells of a village, and villages are places. The kinds are those of
CoNLL-2003: persons, organisations, places, and other names (works, events, products).
"""

import re
from itertools import chain, islice

PERSON = "PER"
KINDS = ("LOC", "MISC", "ORG", PERSON)

# Two words joined by a hyphen are asked for before the last one.
_HEADS = {
    "PER": """
    academic accountant activist actor actress administrator admiral adventurer alderman ambassador
    anarchist animator anthropologist archaeologist archbishop architect aristocrat artist
    astronaut astronomer athlete attorney author aviator ballerina banker baritone baron baroness
    baronet barrister baseman bassist biologist bishop blogger botanist bowler boxer broadcaster
    businessman businessperson businesswoman cardinal caricaturist cartoonist catcher celebrity
    cellist centre-back chancellor chaplain character chef chemist chief choreographer
    cinematographer clergyman cleric climber coach collector columnist comedian comedienne
    commander commissioner composer conductor congressman conservationist consul cornerback
    correspondent count countess courtier cricketer criminal critic curator cyclist dancer daughter
    deacon dean deejay defenceman defender defenseman dentist designer detective dictator diplomat
    director diver dj dramatist driver drummer duchess duke earl ecologist economist editor
    educator egyptologist emperor empress engineer engraver entertainer entomologist entrepreneur
    environmentalist equestrian essayist ethnologist evangelist executive expert explorer farmer
    fencer fighter figure filmmaker financier footballer forward friar gangster general geneticist
    geographer geologist goalkeeper goaltender golfer governor guard guitarist gymnast heiress
    heptathlete hero historian hurdler hurler hypnotist illustrator industrialist infielder
    inventor investor jeweller jockey journalist judge judoka jumper jurist keyboardist king knight
    lady landowner lawmaker lawyer leader lecturer librarian librettist lieutenant linebacker
    lineman linguist lobbyist logician lord lyricist magician man manager marathoner martyr
    mathematician mayor mechanic medallist medievalist merchant meteorologist midfielder minister
    missionary mobster model monk mountaineer murderer musician musicologist mystic naturalist
    neurologist neuroscientist nobleman noblewoman novelist nun nurse officer official orator
    organist orientalist outfielder painter paleontologist paralympian pastor pathologist patriarch
    percussionist performer personality pharmacist philanthropist philologist philosopher
    photographer photojournalist physician physicist physiologist pianist pilot pioneer pirate
    pitcher player playwright poet policeman politician pope practitioner preacher prelate
    presenter president priest prince princess printer printmaker producer professor programmer
    prosecutor psychiatrist psychoanalyst psychologist publicist publisher punter quarterback queen
    rabbi racer rapper receiver recipient referee reformer reporter researcher revolutionary rider
    rower ruler runner sailor saint samurai saxophonist scholar scientist screenwriter scriptwriter
    sculptor secretary senator sergeant settler shooter shortstop singer singer-songwriter skater
    skier skipper snowboarder sociologist soldier soloist songwriter soprano sovereign speaker
    sportsman sportsperson sportswoman sprinter spy statesman statistician striker student
    suffragette surgeon swimmer teacher technician tenor theologian theorist thrower titleholder
    translator traveller trumpeter tycoon umpire vibraphonist vicar violinist virtuoso vocalist
    warrior weightlifter wife winger woman woodcarver worker wrestler writer zoologist
    """,
    "ORG": """
    academy administration agency airline alliance army assembly association authority band bank
    battalion board brand brewery brigade bureau business cabinet caucus chain chapter charity
    choir club coalition college commission committee company confederation confraternity
    conglomerate congregation congress consortium consultancy cooperative corporation corps council
    court denomination department diocese division duo ensemble enterprise faction faculty
    federation firm fleet force foundation franchise fraternity government group guild institute
    institution label league legislature magazine manufacturer military-unit ministry network
    newspaper nonprofit operator orchestra order organisation organization parliament partnership
    party publishing-house quartet quintet radio-station regiment retailer school seminary society
    sorority squad squadron studio subsidiary supergroup supplier syndicate team television-station
    tribunal trio troupe trust union university vendor
    """,
    "LOC": """
    airfield airport archipelago area arena arrondissement avenue base basin bay beach borough
    bridge building canal canton cape capital castle cathedral cave cemetery chapel church city
    commune community complex constituency continent country county crater creek cricket-ground dam
    desert development-committee district dungeon estate estuary fjord football-ground forest fort
    fortress garden glacier gorge hall hamlet harbor harbour headland highway hill hospital hotel
    house inlet intersection island islands islet isthmus kibbutz kingdom lagoon lake landmark
    lighthouse locality location mall mansion marsh mine mission monastery monument moshav mosque
    motorway mountain mountain-range mountains municipalities municipality museum neighborhood
    neighbourhood oasis oblast observatory palace parish park pass peak peninsula place plain
    planet plateau plaza pond port prefecture preserve prison province railway raion ranch region
    republic reservoir residence resort ridge river road ruin ruins runway sea seamount seaport
    settlement shrine site skyscraper spring square stadium state station strait stream street
    subdistrict subdivision suburb summit synagogue tehsil temple territory theater theatre tower
    town township trail tributary tunnel valley velodrome venue villa village voivodeship volcano
    ward waterfall watershed wilderness winery woodland zoo
    """,
    "MISC": """
    agreement aircraft airliner album anthem anthology app application attack autobiography award
    ballet battle bill biography book browser campaign car cartoon case championship comedy comic
    competition compilation computer concert conference console conspiracy contest convention cup
    dance debut derby dialect disaster documentary drama edition election ep epic episode epistle
    essay event exhibition expedition fair festival fiction film game games handgun helicopter
    holiday hymn incident invasion journal language law lawsuit locomotive machine manga manuscript
    marathon massacre medal memoir miniseries missile mixtape motorcycle movement movie musical
    mutiny newsletter novel novella olympics opera operation oratorio pageant painting pistol play
    playoffs poem premiere prize protest race rebellion recording referendum regatta release
    religion revolt revolution rifle riot robot sailplane satellite scandal season sedan serial
    series ship siege single sitcom software song soundtrack spacecraft stakes steamship strike
    submarine symphony tank telenovela tour tournament train treaty trial trilogy trophy truck
    uprising vehicle version vessel videogame war warship weapon yacht
    """,
}
_KIND_OF_HEAD = {head: kind for kind, heads in _HEADS.items() for head in heads.split()}
_IS = re.compile(
    r"(?<!\w)(?:is|was|are|were)\s(?:\w+ly\s|also\s)?"
    r"(?:(?:one|the name|a type|a kind|a series)\sof\s)?(?:an?|the|two|three)\s"
)
_END_OF_PHRASE = re.compile(
    r"[,.;:]|\s(?:of|in|on|at|by|for|from|to|with|within|near|as|and|or|that|which|who|whose|where"
    r"|about|between|during|under)\s"
)
_IN_BRACKETS = re.compile(r"\s*\([^()]*\)")
_BORN = re.compile(r"\([^()]*\bborn\b|\([^()]*\d{4}\s?[\u2013-][^()]*\b\w+\s\d{4}\)")
_LAST_WORDS = 3  # "a village situated", "a film directed"


def kind_of_definition(text: str) -> str | None:
    """The kind of what a text begins to define, or nothing where it is not told."""
    paragraph = text.partition("\n")[0]
    if _BORN.search(paragraph):
        return PERSON
    plain = _IN_BRACKETS.sub("", _IN_BRACKETS.sub("", paragraph))
    found = _IS.search(plain)
    if found is None:
        return None
    words = _END_OF_PHRASE.split(plain[found.end() :], maxsplit=1)[0].lower().split()
    pairs = [f"{first}-{second}" for first, second in zip(["", *words], words, strict=False)]
    heads = chain.from_iterable(zip(reversed(pairs), reversed(words), strict=True))
    return next(filter(None, map(_KIND_OF_HEAD.get, islice(heads, 2 * _LAST_WORDS))), None)
