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

/** Since when, and why, what is shown may not be what is. */
export interface Behind {
  since: string;
  message: string;
}

/** What every answer about a workspace begins with. */
export interface Shown {
  workspace: string;
  at: string;
  version: string;
  behind?: Behind;
  /** There is no PlacementDecision: what is shown is where the workloads would run. */
  simulated?: boolean;
  problems?: string[];
}

export interface Workspaces {
  workspaces: { name: string; path?: string; behind?: Behind }[];
  /** files, live (one workspace, by a kubeconfig) or server (any that the caller may read). */
  source: "files" | "live" | "server";
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

/** Whether the workloads of a placement survive the loss of any one domain. */
export interface Headroom {
  namespace: string;
  placement: string;
  topologyKey: string;
  survives: boolean;
  message: string;
}

/** What the controller decides nothing on now: placements, or the whole workspace where it names none. */
export interface Suspended {
  placements?: string[];
  by: string;
}

export interface Fleet extends Shown {
  clusters: Cluster[];
  changes: Change[];
  headroom?: Headroom[];
  suspended?: Suspended[];
  summary: { clusters: number; overcommitted: number; waiting: number };
}

export interface Obstacle {
  stage: string;
  constraint: string;
  expression: string;
  /** Where that stands in the text of the constraint, in code points. */
  span?: { start: number; end: number };
  observed: { path: string; value: string }[];
  message: string;
  needs: string;
}

export interface Queued {
  position?: number;
  since?: string;
  waitsFor?: string;
  nearest?: string;
  obstacles?: Obstacle[];
  blockedBy?: { kind: string; namespace?: string; name?: string }[];
  nominatedClusters?: string[];
  estimate?: { at: string; because?: string };
  /** A cluster that would have a place for it, if it were registered. */
  wouldFit?: {
    name?: string;
    location?: string;
    labels?: Record<string, string>;
    capabilities?: { type: string; attributes?: Record<string, string> }[];
    allocatable?: Record<string, string>;
  };
}

export interface Workload extends Queued {
  workload: WorkloadRef;
  placement: string;
  priority: number;
  state: string;
  clusters: Choice[];
  leaving?: string[];
  asked?: number;
  replicas?: number;
  waitingReplicas?: number;
  requests?: Amounts;
  createdAt?: string;
  decidedAt?: string;
  error?: string;
  delivery?: { cluster: string; state: string; replicas: number; message?: string }[];
  suspended?: string;
}

export interface Workloads extends Shown {
  total: number;
  states: Record<string, number>;
  namespaces: string[];
  placements: string[];
  workloads: Workload[];
  continue?: string;
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

/** One link of the chain from the workload to its pods. */
export interface Link {
  name: string;
  state: string;
  wrong: boolean;
}

export interface WhyData extends Shown {
  workload: WorkloadRef;
  placement: string;
  clusters: Choice[];
  asked?: number;
  notes?: string[];
  noBetterPlace?: string;
  group?: string;
  divided?: boolean;
  waitingReplicas?: number;
  error: string;
  summary: string;
  verdicts: Verdict[];
  gain?: { from: string; to: Choice[]; gain: string; keeps: string[]; after: string };
  /** How many clusters each stage rejects, and how many are left. */
  stages: { name: string; rejected: number; left: number }[];
  constraints?: { name: string; expression: string; message?: string }[];
  chain: Link[];
  /** How it fares on the clusters that it has by its decision, and on those that it leaves. */
  delivered: { name: string; leaving?: boolean; health?: string; message?: string }[];
  wrong: string;
  queue?: Queued;
  /** The smallest changes that would each admit it to a cluster, the nearest first. */
  remedies?: { cluster: string; needs: string[] }[];
  suspended?: string;
  headroom?: Headroom;
}

export interface HistoryData extends Shown {
  changes: { at: string; from?: string[]; to?: string[]; reason: string; message?: string }[];
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

export interface Policies extends Shown {
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
  suspended?: Suspended[];
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
  /** Why Prometheus adds nothing. */
  problem?: string;
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
  /** What the clusters have. */
  fleet: {
    clusters: string[];
    locations: string[];
    labels: Record<string, string[]>;
    capabilities: Record<string, string[]>;
    taints: string[];
    conditions: string[];
    resources: string[];
  };
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
  /** The modules by which it comes into force, by name: they go with it. */
  entries: Record<string, string>;
}
