// The configurator: the choices on one side, the output on the other.

import { Checker, type Checked } from "./checker";
import { control, groupElement, type Control } from "./controls";
import type { Data, Group, ResourceKey } from "./data";
import { byId, element, renew } from "./element";
import { Outputs } from "./output";
import { problemLine, type Problem } from "./problem";
import "./scheme.js";
import * as selections from "./selection";
import { nameOf, texts } from "./texts";

// How many unknown settings of a link are named.
const MOST_NAMED = 10;

const RESOURCES: readonly ResourceKey[] = ["server", "benchmark"];

class Page {
  private readonly all: readonly selections.Choice[];
  private readonly controls: readonly Control[];
  private readonly checkers: Readonly<Record<ResourceKey, Checker>>;
  private readonly outputs = new Outputs();
  private selection: selections.Selection = new Map();

  constructor(private readonly data: Data) {
    this.all = selections.choices(data);
    this.checkers = { server: new Checker(data, "server"), benchmark: new Checker(data, "benchmark") };
    this.controls = RESOURCES.flatMap((resource) => this.build(resource));
    byId("version").textContent = `kimi-linear ${data.version}`;
    byId("form").addEventListener("input", () => this.read());
    byId("reset").addEventListener("click", () => this.take({ selection: new Map(), unknown: [] }));
    addEventListener("hashchange", () => this.take(selections.carriedBy(this.all, location.hash)));
    this.take(selections.carriedBy(this.all, location.hash));
  }

  private build(resource: ResourceKey): Control[] {
    const prefix = resource === "server" ? "" : "benchmark.";
    const made = new Map<string, Control>();
    const add = (key: string, isShownFirst: boolean): HTMLElement => {
      const choice = this.all.find((candidate) => candidate.key === key);
      if (!choice) throw new Error(`there is no choice ${key}`);
      const added = control(this.data, choice, isShownFirst);
      made.set(key, added);
      return added.root;
    };
    const fieldsOf = (group: Group, isFirst: boolean) => group.fields.map(({ path }) => add(prefix + path, isFirst));
    const [first, ...more] = this.data[resource].groups;
    const nameKey = resource === "server" ? selections.NAME : selections.BENCHMARK_NAME;
    byId(`${resource}-first`).prepend(add(nameKey, true), ...(first ? fieldsOf(first, true) : []));
    if (resource === "benchmark") byId("benchmark-first").append(add(selections.MEASURED, true));
    byId(`${resource}-more`).append(...more.map((group) => groupElement(group, fieldsOf(group, false))));
    // In the recipe's order.
    if (resource === "server") made.get("model.variant")?.root.after(byId("strategy"));
    return [...made.values()];
  }

  /** Read the values of the controls. */
  private read(): void {
    for (const { choice, read } of this.controls) selections.choose(this.selection, choice, read());
    this.update();
  }

  /** Take a selection and show it in the controls: a person who opens a link must see everything that it chooses. */
  private take({ selection, unknown }: selections.Carried): void {
    this.selection = selection;
    const lost = byId("unknown");
    lost.hidden = unknown.length === 0;
    lost.textContent = `The link also contains settings that this page does not know: ${unknown.slice(0, MOST_NAMED).join(", ")}`;
    for (const { choice, root, write } of this.controls) {
      write(selections.textOf(selection, choice));
      if (selection.has(choice.key)) unfold(root);
    }
    this.update();
  }

  private update(): void {
    const checked = { server: this.check("server"), benchmark: this.check("benchmark") };
    for (const resource of RESOURCES) this.tell(resource, checked[resource]);
    this.outputs.show(texts(this.data, checked, this.selection.get(selections.MEASURED) === "true"));
    this.controls
      .find(({ choice }) => choice.key === selections.BENCHMARK_NAME)
      ?.hint(selections.benchmarkName(this.selection));
    const hash = selections.fragment(this.selection);
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  private check(resource: ResourceKey): Checked {
    return this.checkers[resource].check(selections.manifest(this.data, this.all, this.selection, resource));
  }

  /** Show the problems of a resource: all in a list, and each beside its field. */
  private tell(resource: ResourceKey, checked: Checked): void {
    const isRefused = checked.errors.length > 0;
    const verdict = byId(`${resource}-verdict`);
    verdict.className = isRefused ? "worse" : "better";
    const name = nameOf(checked) || "(no name)";
    const words = `${this.data[resource].kind} ${name}: ${isRefused ? "invalid" : "valid"}`;
    if (verdict.textContent !== words) verdict.textContent = words;
    const own = this.controls.filter(({ choice }) => choice.resource === resource);
    renew(
      byId(`${resource}-problems`),
      checked.problems.map((problem) => this.line(own, problem)),
    );
    for (const each of own) each.tell(checked.problems.filter((problem) => controlOf(own, problem) === each));
  }

  private line(controls: readonly Control[], problem: Problem): HTMLElement {
    const text = problemLine(problem);
    const blamed = controlOf(controls, problem);
    if (!blamed) return element("li", { class: problem.severity }, text);
    const button = element("button", { type: "button", class: "problem" }, text);
    button.addEventListener("click", () => reveal(blamed));
    return element("li", { class: problem.severity }, button);
  }
}

/** Return the control of the field that a problem is about, of the field around it, or of the first field within it. */
function controlOf(controls: readonly Control[], { path }: Problem): Control | undefined {
  const around = controls.find(
    ({ choice }) => path === choice.path || path.startsWith(`${choice.path}.`) || path.startsWith(`${choice.path}[`),
  );
  return around ?? controls.find(({ choice }) => choice.path.startsWith(`${path}.`) && path.includes("."));
}

function reveal({ root, focus }: Control): void {
  unfold(root);
  focus();
}

function unfold(root: HTMLElement): void {
  const folded = root.closest("details");
  if (folded) folded.open = true;
}

new Page(JSON.parse(byId("data").textContent ?? "") as Data);
