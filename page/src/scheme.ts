// Light or dark, as the system or the reader chooses.

const KEY = "kimi-linear-scheme";

export function setUpScheme(): void {
  const inputs = [...document.querySelectorAll<HTMLInputElement>("input[name=scheme]")];
  const kept = inputs.find(({ value }) => value === remembered());
  if (kept) kept.checked = true;
  for (const input of inputs) input.addEventListener("change", () => apply(input.value));
  apply(inputs.find(({ checked }) => checked)?.value ?? "");
}

function apply(scheme: string): void {
  document.documentElement.dataset["scheme"] = scheme;
  try {
    localStorage.setItem(KEY, scheme);
  } catch {
    // Some browsers store nothing for a page from a file: then the reader has to choose again next time.
  }
}

function remembered(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
