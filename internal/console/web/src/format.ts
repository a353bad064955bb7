// Numbers with units, and names as people say them.
import type { Amounts, WorkloadRef } from "./api";

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const binary = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

export const count = (n: number): string => number.format(n);

/** plural is for example "1 cluster" or "3 clusters". */
export const plural = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;

export function resourceName(resource: string): string {
  switch (resource) {
    case "cpu":
      return "CPU";
    case "memory":
      return "Memory";
    case "storage":
      return "Storage";
    case "nvidia.com/gpu":
      return "GPU (nvidia.com)";
    default:
      return resource;
  }
}

/** amount is for example "12 cores", "1.5 TiB" or "8". */
export function amount(resource: string, value: number): string {
  if (resource === "cpu") {
    return Math.abs(value) < 1000 && value % 1000 !== 0 ? `${count(value / 1000)} cores` : plural(value / 1000, "core");
  }
  if (resource === "memory" || resource === "storage" || resource === "ephemeral-storage") {
    let unit = 0;
    for (; Math.abs(value) >= 1024 && unit < binary.length - 1; unit++) value /= 1024;
    return `${count(value)} ${binary[unit]}`;
  }
  return count(value);
}

export const percent = (n: number): string => `${count(n)}%`;

/** used is allocated and reserved in percent of allocatable; undefined where there is none. */
export function used(allocatable: number, taken: number): number | undefined {
  if (allocatable > 0) return (100 * taken) / allocatable;
  return taken > 0 ? Infinity : undefined;
}

/** Resources in the order in which people ask for them. */
export function resources(of: { allocatable: Amounts }[]): string[] {
  const names = new Set<string>();
  for (const cluster of of) for (const [name, value] of Object.entries(cluster.allocatable)) if (value !== 0) names.add(name);
  const first = ["cpu", "memory", "storage"];
  return [...first.filter((n) => names.has(n)), ...[...names].filter((n) => !first.includes(n)).sort()];
}

export const refText = (w: WorkloadRef): string => `${w.kind} ${w.namespace}/${w.name}`;
export const refPath = (w: WorkloadRef): string[] => ["why", w.kind, w.namespace, w.name];

/** age is for example "4 min" or "3 d". */
export function age(since: string | undefined, now = Date.now()): string {
  const at = since ? Date.parse(since) : NaN;
  if (Number.isNaN(at)) return "";
  const seconds = Math.max(0, (now - at) / 1000);
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export const clock = (at: string): string =>
  Number.isNaN(Date.parse(at)) ? at : new Date(at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export function list(names: string[], most = 6): string {
  if (names.length > most) return `${names.slice(0, most).join(", ")} and ${names.length - most} more`;
  return names.length < 2 ? (names[0] ?? "") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
