import bz2
import os
import re
from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from spelling import spelling_tokenizer

from realm.corpus.documents import Document, read_documents
from realm.corpus.passages import CorpusSettings, cut_passages, normalise
from realm.corpus.wikipedia import read_articles
from realm.corpus.wikitext import plain_text


def page(title: str, text: str, *, ns: int = 0, extra: str = "", model: str = "wikitext") -> str:
    return (
        f"<page><title>{title}</title><ns>{ns}</ns><id>{abs(hash(title))}</id>{extra}<revision>"
        f"<id>1</id><model>{model}</model><text>{escape(text)}</text></revision></page>"
    )


def dump(*pages: str) -> bytes:
    head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/"><siteinfo/>'
    return (head + "\n".join(pages) + "</mediawiki>").encode()


def test_only_articles_of_running_text_are_kept() -> None:
    content = dump(
        page("Kept", "Text."),
        page("Old", "#REDIRECT [[Kept]]"),
        page("Moved", "x", extra='<redirect title="Kept"/>'),
        page("Talk:Kept", "x", ns=1),
        page("Module", "x", model="Scribunto"),
        page("List of things", "x"),
        page("Lists of things", "x"),
        page("Index of things", "x"),
        page("Outline of things", "x"),
        page("Mercury (disambiguation)", "x"),
        page("Mercury", "'''Mercury''' may be:\n* x\n{{disambiguation|geo}}"),
        page("Smith", "x {{Hndis|Smith}}"),
        page("Ada", "x {{Airport disambiguation}}"),
        page("Listing of things", "Kept too: {{about|x|y|Mercury (disambiguation)}}"),
    )
    assert [a.title for a in read_articles(BytesIO(content))] == ["Kept", "Listing of things"]


def test_a_page_may_stand_alone() -> None:
    content = b"<page><title>Kept</title><id>1</id><revision><text>x</text></revision></page>"
    assert [article.title for article in read_articles(BytesIO(content))] == ["Kept"]


def test_a_compressed_dump_is_a_source(tmp_path: Path) -> None:
    text = "'''One''' is a [[number]] that begins.\n\n== Notes ==\nNot this text, it is a note."
    (tmp_path / "w.xml.bz2").write_bytes(bz2.compress(dump(page("One", text))))
    (document,) = read_documents([tmp_path])
    assert document == Document(
        document.document_id, "One", "One is a number that begins."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wikitext", "expected"),
    [
        ("a ''b'' '''c''' [[d|e]] [[f]] g", "a b c e f g"),
        ("one two three four five<ref>no</ref>.<ref name=x /> six", "one two three four five. six"),
        ("one two three<!-- no --> four\nfive six", "one two three four five six"),
        ("[[File:a.jpg|thumb|no [[no]]]]one two three four five", "one two three four five"),
        ("one two three four five\n[[Category:No]]\n[[fr:Non]]", "one two three four five"),
        ("{|\n|-\n| no || no no no no no\n|}\none two three four five", "one two three four five"),
        ("{{Infobox|a={{no}}|b=no}}one two three four five", "one two three four five"),
        ("A ({{IPA-fr|x}}; born 1900) was a person", "A (born 1900) was a person"),
        ("A ({{lang-fr|''ab''}}, {{lang|de|cd}}) was it", "A (ab, cd) was it"),
        ("A ({{IPA|x}}) was a person once", "A was a person once"),
        ("It is {{convert|5|km|mi|1}} far away", "It is 5 km far away"),
        ("It is {{convert|5|-|7|sqmi|km2}} in size", "It is 5\u20137 square miles in size"),
        ("He is {{convert|6|ft|2|in|m}} tall", "He is 6 feet 2 inches tall"),
        ("It weighs {{convert|5|lb|3|oz|kg}} now", "It weighs 5 pounds 3 ounces now"),
        ("It is {{convert|5|km|mi|0}} far away", "It is 5 km far away"),
        ("{{as of|2019|6|30}}, it had none", "As of 30 June 2019, it had none"),
        ("{{as of|2019|06}}, it had none", "As of June 2019, it had none"),
        ("The ''Bismarck'''s crew was lost", "The Bismarck's crew was lost"),
        ("Old '''Tavil''''s port is small", "Old Tavil's port is small"),
        ("The [[Titanic (film)|''Titanic'']]'s score won much", "The Titanic's score won much"),
        ("{{as of|2010|May}}, it had two {{frac|1|2}}", "As of May 2010, it had two 1/2"),
        ("H<sub>2</sub>O and 5&nbsp;km of [[35&nbsp;mm film]]", "H2O and 5 km of 35 mm film"),
        ("<math>\\alpha_{i} = \\frac{a}{b}</math> be it", "alpha _i = (a)/(b) be it"),
        ("fell at {{coord|30|12|N|74|7|W}} in the sea",
         "fell at 30\u00b012\u2032N 74\u00b07\u2032W in the sea"),
        ("{{coord|1|2|display=title}}one two three four five", "one two three four five"),
        ("see [http://x.org the site] or [http://x.org] there now", "see the site or there now"),
        ("== Head ==\none two three four five\n=== Sub ===\nsix seven eight nine ten",
         "one two three four five\n\nsix seven eight nine ten"),
        ("one two three four five\n==See also==\n* No no no no no.\n===Deep===\nno no no no no"
         "\n==Next==\nsix seven eight nine ten",
         "one two three four five\n\nsix seven eight nine ten"),
        ("They are:\n* no sentence in here at all\n* But this one is a sentence.\n"
         ": ''And'' this is one too.", "But this one is a sentence.\n\nAnd this is one too."),
        ("<blockquote>one two three four five</blockquote>six seven eight nine ten",
         "one two three four five\n\nsix seven eight nine ten"),
        ("{{quote|one two three four five}}", "one two three four five"),
        ("one two three four five __NOTOC__", "one two three four five"),
        ("<gallery>\nFile:a.jpg|no no no no no\n</gallery>", ""),
        ("{{unclosed one two three four five", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_plain_text(wikitext: str, expected: str) -> None:
    assert plain_text(wikitext) == expected


@pytest.mark.slow
def test_a_real_dump_reads_as_prose() -> None:
    path = Path(os.environ.get("REALM_DATA", "../shared/data"), "dumps")
    if not path.is_dir():
        pytest.skip("REALM_DATA has no dumps")
    documents = {document.title: document.text for document in read_documents([path])}
    assert 90 <= len(documents) <= 106
    assert documents["Angola"].startswith(
        "Angola, officially the Republic of Angola (Rep\u00fablica de Angola; Kikongo, Kimbundu "
        "and Umbundu: Repubilika ya Ngola), is a country in Southern Africa."
    )
    tokenizer = spelling_tokenizer()
    for title, text in documents.items():
        passages = cut_passages(Document("d", title, text), tokenizer, CorpusSettings())
        joined = "".join(passage.text for passage in passages)
        assert joined.replace(" ", "") == "".join(text.split())
        for passage in passages:
            source = text[passage.source_start : passage.source_end]
            assert normalise(source).text == passage.text
        markup = re.search(
            r"\[\[|\]\]|\{\{|\}\}|\{\||\|\}|</?(?:ref|div|br)|&\w+;|''|\(\s*[,;)]", text
        )
        assert markup is None, f"{title}: {markup}"
        assert len(text) > 300
