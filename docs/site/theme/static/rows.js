/* Lets Sphinx's search find rows of tables: fields, reasons, metrics, options and Helm values.

   Sphinx's index has the words of each page, but not where on the page they are. So the page of the search has the texts
   of all rows (repository_markdown.py). These functions replace Sphinx's search for objects. */
"use strict";

{
  const stemmer = new Stemmer();
  const split = (text) => splitQuery(text.toLowerCase());
  const stem = (word) => stemmer.stemWord(word);
  const rows = () => JSON.parse(document.getElementById("rows").textContent);

  /* As in Sphinx, a name counts more than a word of a text, and a whole word counts more than a part of a word. */
  const score = (row, words) => {
    const title = row.title.toLowerCase();
    const last = split(title.split(/[. ]/).pop()).join(" ");
    if (words.every((word) => title.includes(word))) {
      if ([last, split(title).join(" ")].includes(words.join(" "))) return Scorer.title + 1;
      return words.some((word) => last.includes(word)) ? Scorer.objNameMatch : Scorer.objPartialMatch;
    }
    const text = [title, ...row.texts].join(" ").toLowerCase();
    const stems = new Set(split(text).map(stem));
    if (words.every((word) => stems.has(stem(word)) || title.includes(word))) return Scorer.term + 1;
    return words.every((word) => text.includes(word)) ? Scorer.partialTerm + 1 : 0;
  };

  /* Returns the text of a row that has the most words of the query; of several, the last one, the description. */
  const quote = (row, words) => {
    const count = (text) => words.filter((word) => text.toLowerCase().includes(word)).length;
    return row.texts.reduce((best, text) => (count(text) >= count(best) ? text : best), "");
  };

  const found = (words) =>
    rows().flatMap((row) => {
      const points = score(row, words);
      const said = [row.kind, quote(row, words)].filter(Boolean).join(": ");
      return points ? [[row.page, row.title, `#${row.anchor}`, said, points, row.page, SearchResultKind.object]] : [];
    });

  /* Sphinx calls this for each word of a query, with all its words. */
  Search.performObjectSearch = (word, words) => {
    const telling = [...words].filter((each) => !stopwords.has(each));
    return word === telling[0] ? found(telling) : [];
  };
}
