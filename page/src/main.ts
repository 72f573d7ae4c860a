// The configurator: the choices on one side, what they make on the other.

import { dockerCommands, serverCommand } from "./commands";
import { control, groupElement, type Control } from "./controls";
import { valueAt, type Data, type Group, type Json, type JsonObject, type ResourceKey } from "./data";
import { byId, element } from "./element";
import { Outputs, type Output } from "./output";
import { problemLine, refusal, type Problem } from "./problem";
import { ruleTable, type RuleTable } from "./rules";
import { setUpScheme } from "./scheme";
import {
  BENCHMARK_NAME,
  benchmarkName,
  choices,
  choose,
  fragment,
  manifest,
  NAME,
  selectionOf,
  textOf,
  type Choice,
  type Selection,
} from "./selection";
import { declared, shapeProblems, type Declared } from "./shape";
import { yaml } from "./yaml";

const RESOURCES: readonly ResourceKey[] = ["server", "benchmark"];

/** A resource that was checked. */
interface Checked {
  readonly manifest: JsonObject;
  /** The same as JSON. */
  readonly text: string;
  readonly problems: readonly Problem[];
  readonly declared: Declared;
}

class Page {
  private readonly all: readonly Choice[];
  private readonly controls: readonly Control[];
  private readonly rules: Readonly<Record<ResourceKey, RuleTable>>;
  private readonly outputs = new Outputs();
  private readonly checked: { [resource in ResourceKey]?: Checked } = {};
  private selection: Selection = new Map();

  constructor(private readonly data: Data) {
    this.all = choices(data);
    this.rules = { server: ruleTable(data.server.rules), benchmark: ruleTable(data.benchmark.rules) };
    this.controls = RESOURCES.flatMap((resource) => this.build(resource));
    byId("version").textContent = `kimi-linear ${data.version}`;
    byId("form").addEventListener("input", () => this.read());
    byId("reset").addEventListener("click", () => this.take(new Map()));
    addEventListener("hashchange", () => this.take(selectionOf(this.all, location.hash)));
    this.take(selectionOf(this.all, location.hash));
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
    const nameKey = resource === "server" ? NAME : BENCHMARK_NAME;
    byId(`${resource}-first`).prepend(add(nameKey, true), ...(first ? fieldsOf(first, true) : []));
    byId(`${resource}-more`).append(...more.map((group) => groupElement(group, fieldsOf(group, false))));
    // In the recipe's order.
    if (resource === "server") made.get("model.variant")?.root.after(byId("strategy"));
    return [...made.values()];
  }

  /** Take what the controls hold. */
  private read(): void {
    for (const { choice, read } of this.controls) choose(this.selection, choice, read());
    this.update();
  }

  /** Take a selection, and let the controls show it. */
  private take(selection: Selection): void {
    this.selection = selection;
    for (const { choice, write } of this.controls) write(textOf(selection, choice));
    this.update();
  }

  private update(): void {
    const checked = { server: this.check("server"), benchmark: this.check("benchmark") };
    for (const resource of RESOURCES) this.tell(resource, checked[resource]);
    const refused = new Set(RESOURCES.filter((resource) => errorsOf(checked[resource]).length > 0));
    this.outputs.show(this.texts(checked), refused);
    this.controls.find(({ choice }) => choice.key === BENCHMARK_NAME)?.hint(benchmarkName(this.selection));
    const hash = fragment(this.selection);
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  /** Check a resource, unless it is still the one that was checked last. */
  private check(resource: ResourceKey): Checked {
    const { schema } = this.data[resource];
    const written = manifest(this.data, this.all, this.selection, resource);
    const text = JSON.stringify(written);
    const last = this.checked[resource];
    if (last?.text === text) return last;
    const problems = shapeProblems(this.data, schema, written);
    const whole = problems.length > 0 ? {} : declared(schema, written);
    const found = problems.length > 0 ? problems : this.rules[resource](whole);
    return (this.checked[resource] = { manifest: written, text, problems: found, declared: whole });
  }

  /** Show the problems of a resource: all in a list, and each beside its field. */
  private tell(resource: ResourceKey, { manifest: written, problems }: Checked): void {
    const count = problems.filter(({ severity }) => severity === "error").length;
    const verdict = byId(`${resource}-verdict`);
    verdict.className = count > 0 ? "worse" : "better";
    const words = `${this.data[resource].kind} ${String(valueAt(written, "metadata.name")) || "(no name)"}: ${count > 0 ? "invalid" : "valid"}`;
    if (verdict.textContent !== words) verdict.textContent = words;
    const own = this.controls.filter(({ choice }) => choice.resource === resource);
    byId(`${resource}-problems`).replaceChildren(...problems.map((problem) => this.line(own, problem)));
    for (const each of own) each.tell(problems.filter((problem) => controlOf(own, problem) === each));
  }

  private line(controls: readonly Control[], problem: Problem): HTMLElement {
    const text = problemLine(problem);
    const blamed = controlOf(controls, problem);
    if (!blamed) return element("li", { class: problem.severity }, text);
    const button = element("button", { type: "button", class: "problem" }, text);
    button.addEventListener("click", () => reveal(blamed));
    return element("li", { class: problem.severity }, button);
  }

  private texts({ server, benchmark }: Record<ResourceKey, Checked>): Output[] {
    const name = String(valueAt(server.manifest, "metadata.name"));
    const values = { servers: { [name]: { spec: valueAt(server.manifest, "spec") as Json } } };
    const errors = errorsOf(server);
    const spec = valueAt(server.declared, "spec") as Declared;
    const command = errors.length > 0 ? "" : serverCommand(this.data, spec);
    const commands = errors.length > 0 ? [] : [...dockerCommands(this.data, spec), command];
    const stated = (text: string) => (errors.length > 0 ? refusal([...errors]) : `${text}\n`);
    return [
      {
        key: "server",
        title: `${name || "server"}.yaml`,
        file: `${name || "server"}.yaml`,
        text: yaml(server.manifest),
        resource: "server",
      },
      { key: "helm", title: "Helm values", file: "values.yaml", text: yaml(values), resource: "server" },
      { key: "command", title: "Command", file: "kimi-linear.sh", text: stated(command), resource: "server" },
      { key: "docker", title: "Docker", file: "docker.sh", text: stated(commands.join("\n\n")), resource: "server" },
      {
        key: "benchmark",
        title: "Benchmark",
        file: "benchmark.yaml",
        text: yaml(benchmark.manifest),
        resource: "benchmark",
      },
    ];
  }
}

function errorsOf({ problems }: Checked): Problem[] {
  return problems.filter(({ severity }) => severity === "error");
}

/** Return the control of the field that a problem is about, or of the whole that it is in. */
function controlOf(controls: readonly Control[], { path }: Problem): Control | undefined {
  return controls.find(
    ({ choice }) => path === choice.path || path.startsWith(`${choice.path}.`) || path.startsWith(`${choice.path}[`),
  );
}

function reveal({ root, focus }: Control): void {
  const folded = root.closest("details");
  if (folded) folded.open = true;
  focus();
}

setUpScheme();
new Page(JSON.parse(byId("data").textContent ?? "") as Data);
