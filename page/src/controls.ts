// The form: a control for each choice, built from the field's schema.

import type { Data, Group } from "./data";
import { element, renew } from "./element";
import type { Problem } from "./problem";
import { LONGEST_TEXT, linesOf, type Choice } from "./selection";

export interface Control {
  readonly choice: Choice;
  readonly root: HTMLElement;
  read(): string;
  write(text: string): void;
  focus(): void;
  /** Show the problems of the field beside it. */
  tell(problems: readonly Problem[]): void;
  /** Show the value that an empty field means. */
  hint(text: string): void;
}

const TITLES = { error: "Error", warning: "Warning" };

type Input = HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement;

interface Parts {
  /** The element that is marked as wrong and described: one input, or a group of inputs. */
  readonly marked: HTMLElement;
  readonly inputs: readonly Input[];
  readonly root: HTMLElement;
  read(): string;
  write(text: string): void;
}

export function control(data: Data, choice: Choice, isShownFirst: boolean): Control {
  const parts = partsOf(data, choice, isShownFirst);
  const messages = element("div", { class: "messages", id: `${choice.key}-messages`, "aria-live": "polite" });
  parts.root.dataset["choice"] = choice.key;
  parts.root.append(messages);
  parts.marked.setAttribute("aria-describedby", `${choice.key}-about ${messages.id}`);
  return {
    choice,
    root: parts.root,
    read: parts.read,
    write: parts.write,
    focus: () => (parts.inputs.find((input) => input.matches(":checked")) ?? parts.inputs[0])?.focus(),
    tell: (problems) => tell(parts, messages, problems),
    hint: (text) => parts.inputs[0]?.setAttribute("placeholder", text),
  };
}

function tell(parts: Parts, messages: HTMLElement, problems: readonly Problem[]): void {
  const isWrong = problems.some(({ severity }) => severity === "error");
  for (const input of parts.inputs) input.setAttribute("aria-invalid", String(isWrong));
  const told = problems.map(({ severity, message }) =>
    element("p", { class: severity }, `${TITLES[severity]}: ${message}`),
  );
  renew(messages, told);
}

function partsOf(data: Data, choice: Choice, isShownFirst: boolean): Parts {
  const { schema } = choice;
  if (schema.items?.properties) return suites(data, choice);
  if (schema.enum)
    return isShownFirst ? radios(choice, schema.enum.map(String)) : select(choice, schema.enum.map(String));
  if (schema.type === "boolean") return checkbox(choice);
  return schema.type === "array" || schema.type === "object" ? lines(choice) : line(choice);
}

function about(choice: Choice, text = choice.schema.description ?? ""): HTMLElement {
  return element("p", { class: "about", id: `${choice.key}-about` }, text);
}

function single(choice: Choice, input: Input, hint = ""): Parts {
  const label = element("label", { for: choice.key }, choice.label);
  const root = element(
    "div",
    { class: "field" },
    label,
    input,
    about(choice, [choice.schema.description, hint].filter(Boolean).join(" ")),
  );
  return { root, marked: input, inputs: [input], read: () => input.value, write: (text) => (input.value = text) };
}

function line(choice: Choice): Parts {
  const { type, default: value } = choice.schema;
  const isNumber = type === "integer" || type === "number";
  const placeholder = value === undefined || value === null ? "" : String(value);
  const input = element("input", {
    ...{ id: choice.key, type: "text", value: choice.initial, placeholder, maxlength: String(LONGEST_TEXT) },
    ...{ autocomplete: "off", autocapitalize: "off", spellcheck: "false", inputmode: isNumber ? "decimal" : "text" },
  });
  return single(choice, input);
}

function lines(choice: Choice): Parts {
  const input = element("textarea", {
    ...{ id: choice.key, rows: "2", maxlength: String(LONGEST_TEXT) },
    ...{ autocomplete: "off", autocapitalize: "off", spellcheck: "false" },
  });
  input.value = choice.initial;
  return single(choice, input, choice.schema.type === "object" ? "One key=value per line." : "One per line.");
}

function select(choice: Choice, values: string[]): Parts {
  const empty = choice.initial === "" ? [element("option", { value: "" }, "–")] : [];
  const options = values.map((value) => element("option", { value }, choice.titles[value] ?? value));
  const input = element("select", { id: choice.key }, ...empty, ...options);
  input.value = choice.initial;
  return single(choice, input);
}

function checkbox(choice: Choice): Parts {
  const input = element("input", { id: choice.key, type: "checkbox" });
  input.checked = choice.initial === "true";
  const root = element(
    "div",
    { class: "field" },
    element("label", { class: "switch" }, input, choice.label),
    about(choice),
  );
  return {
    root,
    marked: input,
    inputs: [input],
    read: () => String(input.checked),
    write: (text) => (input.checked = text === "true"),
  };
}

function group(choice: Choice, inputs: readonly HTMLInputElement[], titles: (Node | string)[][]): HTMLElement {
  const options = inputs.map((input, number) =>
    element("label", { class: "option" }, input, ...(titles[number] ?? [])),
  );
  const legend = element("legend", {}, choice.label);
  return element(
    "fieldset",
    { class: "field" },
    legend,
    element("div", { class: "options" }, ...options),
    about(choice),
  );
}

function radios(choice: Choice, values: string[]): Parts {
  const inputs = values.map((value) =>
    element("input", { type: "radio", name: choice.key, value, id: `${choice.key}-${value}` }),
  );
  const write = (text: string) => inputs.forEach((input) => (input.checked = input.value === text));
  write(choice.initial);
  const root = group(
    choice,
    inputs,
    values.map((value) => [choice.titles[value] ?? value]),
  );
  return { root, marked: root, inputs, read: () => inputs.find(({ checked }) => checked)?.value ?? "", write };
}

function suites(data: Data, choice: Choice): Parts {
  const inputs = data.suites.map(({ name }) =>
    element("input", { type: "checkbox", value: name, id: `${choice.key}-${name}` }),
  );
  const write = (text: string) => inputs.forEach((input) => (input.checked = linesOf(text).includes(input.value)));
  write(choice.initial);
  const root = group(
    choice,
    inputs,
    data.suites.map((suite) => [suite.name, element("small", {}, suite.about)]),
  );
  return {
    root,
    marked: root,
    inputs,
    read: () =>
      inputs
        .filter(({ checked }) => checked)
        .map(({ value }) => value)
        .join("\n"),
    write,
  };
}

/** Return the fields of a group under its title. */
export function groupElement({ title, about: text }: Group, fields: readonly HTMLElement[]): HTMLElement {
  const head = text ? [element("p", { class: "about" }, text)] : [];
  return element("fieldset", { class: "group" }, element("legend", {}, title), ...head, ...fields);
}
