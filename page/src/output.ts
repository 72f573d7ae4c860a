// The output: a tab for each text, with buttons to copy and download it.

import { byId, element } from "./element";
import type { Text } from "./texts";

/** The tabs and the text of the chosen one. */
export class Outputs {
  private readonly tabs = new Map<string, HTMLButtonElement>();
  private texts: readonly Text[] = [];
  private chosen = "";
  private readonly list = byId("tabs");
  private readonly panel = byId("text");

  constructor() {
    this.list.addEventListener("keydown", (event) => this.move(event));
    byId("skip").addEventListener("click", () => byId("output").focus());
    byId("copy").addEventListener("click", () => void this.copy(this.current.text, "Copied."));
    byId("download").addEventListener("click", () => this.download());
    byId("copy-link").addEventListener("click", () => void this.copy(location.href, "Copied the link."));
  }

  /** Show these texts, and mark the refused ones. */
  show(texts: readonly Text[]): void {
    this.texts = texts;
    for (const { key, title, isRefused } of texts) {
      const tab = this.tabs.get(key) ?? this.add(key);
      tab.textContent = title;
      tab.classList.toggle("refused", isRefused);
    }
    this.choose(this.chosen || (texts[0]?.key ?? ""));
  }

  private get current(): Text {
    const found = this.texts.find(({ key }) => key === this.chosen);
    if (!found) throw new Error(`there is no output ${this.chosen}`);
    return found;
  }

  private add(key: string): HTMLButtonElement {
    const tab = element("button", { type: "button", role: "tab", id: `tab-${key}`, "aria-controls": "text" });
    tab.addEventListener("click", () => this.choose(key));
    this.tabs.set(key, tab);
    this.list.append(tab);
    return tab;
  }

  private choose(key: string): void {
    this.chosen = key;
    say("");
    for (const [other, tab] of this.tabs) {
      tab.setAttribute("aria-selected", String(other === key));
      tab.tabIndex = other === key ? 0 : -1;
    }
    this.panel.setAttribute("aria-labelledby", `tab-${key}`);
    this.panel.textContent = this.current.text;
  }

  /** Move between tabs with the arrow keys, Home and End. */
  private move(event: KeyboardEvent): void {
    const keys = [...this.tabs.keys()];
    const at = keys.indexOf(this.chosen);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
    const key = to === undefined ? undefined : keys.at(to % keys.length);
    if (key === undefined) return;
    event.preventDefault();
    this.choose(key);
    this.tabs.get(key)?.focus();
  }

  private async copy(text: string, done: string): Promise<void> {
    say("");
    const isCopied = (await copyByClipboard(text)) || copyBySelection(text);
    say(isCopied ? done : "The browser does not allow copying: select the text and copy it.");
  }

  private download(): void {
    const { file, text } = this.current;
    const address = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    element("a", { href: address, download: file }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
    say(`Downloaded ${file}.`);
  }
}

/** Copy a text to the clipboard. Return false if the browser refuses, or gives pages from plain HTTP no access. */
async function copyByClipboard(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** Copy in the old way, for browsers that give this page no access to the clipboard. */
function copyBySelection(text: string): boolean {
  const focused = document.activeElement;
  const area = element("textarea", { class: "hidden", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  if (focused instanceof HTMLElement) focused.focus();
  return isCopied;
}

function say(text: string): void {
  byId("said").textContent = text;
}
