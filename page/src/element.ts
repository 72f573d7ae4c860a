// Elements of the page.

type Attributes = { readonly [name: string]: string };

/** Make an element. Text is inserted as text: nothing from a person or a link becomes markup. */
export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Attributes,
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Return an element of page.html. */
export function byId<Type extends HTMLElement = HTMLElement>(id: string): Type {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element ${id}`);
  return found as Type;
}

/** Replace the contents of an element only if the text differs, because a screen reader reads new contents again. */
export function renew(parent: Element, children: readonly Element[]): void {
  if (textsOf(children) !== textsOf([...parent.children])) parent.replaceChildren(...children);
}

function textsOf(elements: readonly Element[]): string {
  return elements.map(({ textContent }) => textContent).join("\n");
}
