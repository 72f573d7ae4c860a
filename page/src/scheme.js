// Light or dark, as the system or the reader chooses. The documentation's pages load this file as it is, so it is a
// plain script.
{
  const KEY = "kimi-linear-scheme";

  const remembered = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      // Some browsers store nothing for a page from a file. Then the reader must choose again next time.
      return null;
    }
  };

  /** @param {string} scheme */
  const apply = (scheme) => {
    document.documentElement.dataset["scheme"] = scheme;
  };

  /** @param {string} scheme */
  const choose = (scheme) => {
    apply(scheme);
    try {
      localStorage.setItem(KEY, scheme);
    } catch {
      // As above.
    }
  };

  // Do this before the page is complete. Otherwise the page would first appear in other colours.
  const kept = remembered();
  if (kept) apply(kept);
  addEventListener("DOMContentLoaded", () => {
    for (const input of /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("input[name=scheme]"))) {
      if (input.value === kept) input.checked = true;
      input.addEventListener("change", () => choose(input.value));
    }
  });
}
