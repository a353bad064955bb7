// What the server answers: the JSON that the command line prints, and little more. /api/v1/openapi.json documents it.
// CPU is in millicores, memory and storage in bytes, all else in whole units.

export type Amounts = Record<string, number>;

export interface WorkloadRef {
  apiVersion: string;
  kind: string;
  namespace: string;
  name: string;
}

export interface Choice {
  name: string;
  replicas: number;
  score: number;
  reason: string;
}

export interface Workspaces {
  workspaces: { name: string; path?: string }[];
  /** files or live; what the title says beside it. */
  source: "files" | "live";
  from: string;
  version: string;
}

export interface Cluster {
  workspace: string;
  name: string;
  location: string;
  labels?: Record<string, string>;
  ready: string;
  schedulingDisabled?: boolean;
  draining?: boolean;
  allocatable: Amounts;
  allocated: Amounts;
  reserved: Amounts;
  free: Amounts;
  utilization: Amounts;
  largestFree?: Amounts;
  overcommitted?: string[];
  capabilities?: { type: string; available: boolean; attributes?: Record<string, string> }[];
  taints?: { key: string; value?: string; effect: string }[];
  conditions?: { type: string; status: string; reason?: string; message?: string; lastTransitionTime?: string }[];
  /** How many workloads have a decision for it, and wait with it as the nearest. */
  workloads: number;
  waiting: number;
}

export interface Change {
  at: string;
  /** cluster, decision, move, waiting, policy ... */
  kind: string;
  text: string;
  cluster?: string;
  workload?: WorkloadRef;
}

export interface Fleet {
  workspace: string;
  at: string;
  generation: number;
  clusters: Cluster[];
  changes: Change[];
  summary: { clusters: number; overcommitted: number; waiting: number };
  problems?: string[];
}

export interface Obstacle {
  stage: string;
  constraint: string;
  expression: string;
  observed: { path: string; value: string }[];
  message: string;
  needs: string;
}

export interface Workload {
  workload: WorkloadRef;
  placement: string;
  /** Running, Partial (fewer clusters or replicas than asked), Waiting, Failed (an object or a policy is wrong), Unselected. */
  state: string;
  priority: number;
  clusters: Choice[];
  asked?: number;
  replicas?: number;
  requests?: Amounts;
  createdAt?: string;
  /** Of one that waits: its place in the queue, since when, and what for. */
  position?: number;
  since?: string;
  waitsFor?: string;
  nearest?: string;
  obstacles?: Obstacle[];
  blockedBy?: { kind: string; namespace?: string; name: string }[];
  estimate?: string;
  wouldFit?: unknown;
  error?: string;
  delivery?: { cluster: string; state: string; ready: number; replicas: number; message?: string }[];
}

export interface Workloads {
  workspace: string;
  total: number;
  workloads: Workload[];
}

export interface Verdict {
  cluster: string;
  feasible: boolean;
  chosen: boolean;
  replicas?: number;
  note?: string;
  points?: number;
  score: number;
  reason: string;
  factors: { name: string; score: number; weight: number; because: string }[];
  obstacles: Obstacle[];
}

/** One link of the chain from a placement to pods. */
export interface Link {
  what: string;
  name: string;
  /** ok, broken, pending. */
  state: string;
  message?: string;
}

export interface WhyData {
  workspace: string;
  workload: WorkloadRef;
  placement: string;
  clusters: Choice[];
  asked?: number;
  notes?: string[];
  noBetterPlace?: string;
  group?: string;
  divided?: boolean;
  error: string;
  summary: string;
  verdicts: Verdict[];
  /** Full text of the placement's constraints by name. */
  constraints?: { name: string; expression: string; message?: string }[];
  chain?: Link[];
  queue?: { position: number; waitsFor: string; nearest: string; since?: string; estimate?: string; obstacles: Obstacle[] };
  gain?: { from: string; to: Choice[]; gain: string; keeps: string[]; after: string };
  /** An earlier decision, not made now: the verdicts are those of now. */
  kept?: boolean;
}

export interface HistoryData {
  entries: { at: string; text: string; clusters?: Choice[] }[];
}

export interface Finding {
  severity: string;
  code?: string;
  file: string;
  line: number;
  column: number;
  object?: string;
  field?: string;
  message: string;
}

export interface Policies {
  workspace: string;
  placements: { namespace: string; name: string; yaml: string }[];
  modules: Record<string, string>;
  factors: string[];
  defaults: Record<string, number>;
}

export interface MoveChange {
  workspace: string;
  workload: WorkloadRef;
  placement: string;
  before: Choice[];
  after: Choice[];
  divided?: boolean;
  movedReplicas?: number;
  error: string;
  noBetterPlace?: string;
}

export interface Diff {
  moves: MoveChange[];
  gains: MoveChange[];
  redivided: MoveChange[];
  rescored: MoveChange[];
  standing: MoveChange[];
  held: MoveChange[];
  clusters: { workspace: string; name: string; before: Amounts; after: Amounts }[];
  summary: {
    workloads: number;
    before: number;
    after: number;
    moved: number;
    gained: number;
    rescored: number;
    redivided: number;
    movedReplicas: number;
    placed: number;
    unplaced: number;
    standing: number;
    held: number;
  };
}

export interface Played {
  findings: Finding[];
  diff?: Diff;
  elapsedMs: number;
}

export interface Series {
  source: "watched" | "prometheus";
  series: {
    /** Title of the chart that it belongs to. */
    chart: string;
    name: string;
    /** percent, count, or the name of a resource. */
    unit: string;
    /** Seconds since 1970, and the value. */
    points: [number, number][];
  }[];
}

export interface Completions {
  /** Names of a language: variables, fields and functions with what they are. */
  cel: Completion[];
  rego: Completion[];
}

export interface Completion {
  label: string;
  type: string;
  detail?: string;
  info?: string;
}

export interface Preset {
  name: string;
  title: string;
  description: string;
  module: string;
  file: string;
}
