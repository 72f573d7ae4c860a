// The output texts, one for each tab.

import type { Checked } from "./checker";
import { dockerCommands, serverCommand } from "./commands";
import { valueAt, type Data, type Json, type JsonObject, type ResourceKey } from "./data";
import { refusal } from "./problem";
import { yaml } from "./yaml";

export interface Text {
  readonly key: string;
  readonly title: string;
  /** The name of the file that it is downloaded as. */
  readonly file: string;
  readonly text: string;
  readonly isRefused: boolean;
}

/** Return the texts of a server and its benchmark; the Helm values contain the benchmark if isMeasured. */
export function texts(data: Data, checked: Readonly<Record<ResourceKey, Checked>>, isMeasured: boolean): Text[] {
  const { server, benchmark } = checked;
  const [ofServer, ofBenchmark] = [server.errors.length > 0, benchmark.errors.length > 0];
  const [file, values] = [`${nameOf(server) || "server"}.yaml`, helmValues(server, isMeasured ? benchmark : undefined)];
  const ofValues = ofServer || (isMeasured && ofBenchmark);
  const [command = "", ...before] = ofServer ? [] : commands(data, server);
  const stated = (text: string) => (ofServer ? refusal(server.errors) : `${text}\n`);
  const docker = stated([...before, command].join("\n\n"));
  return [
    { key: "server", title: file, file, text: yaml(server.manifest), isRefused: ofServer },
    { key: "helm", title: "Helm values", file: "values.yaml", text: yaml(values), isRefused: ofValues },
    { key: "command", title: "Command", file: "kimi-linear.sh", text: stated(command), isRefused: ofServer },
    { key: "docker", title: "Docker", file: "docker.sh", text: docker, isRefused: ofServer },
    {
      key: "benchmark",
      title: "Benchmark",
      file: "benchmark.yaml",
      text: yaml(benchmark.manifest),
      isRefused: ofBenchmark,
    },
  ];
}

/** Return the server's command, and the commands before it that prepare a container. */
function commands(data: Data, server: Checked): string[] {
  const spec = valueAt(server.declared, "spec") as Checked["declared"];
  return [serverCommand(data, spec), ...dockerCommands(data, spec)];
}

function helmValues(server: Checked, benchmark: Checked | undefined): JsonObject {
  const entry = (found: Checked) => ({ [nameOf(found)]: { spec: valueAt(found.manifest, "spec") as Json } });
  return { servers: entry(server), ...(benchmark ? { benchmarks: entry(benchmark) } : {}) };
}

export function nameOf({ manifest }: Checked): string {
  return String(valueAt(manifest, "metadata.name"));
}
