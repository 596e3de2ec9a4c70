// Types of the client, in addition to those of `api.d.ts`, which are made from the server's description.

import type {
  ApiKeyView,
  AssetView,
  DeliverySummary,
  DeliveryView,
  EndpointView,
  EventView,
  JobView,
  OperationTree,
  PlanView,
  ResultView,
  Routes,
  StepView,
  StoreView,
  TemplateSummary,
  TemplateView,
} from "./api.js";

export type { OperationEntry, OperationTree, Problem, ProblemError, TemplateSummary } from "./api.js";

export type Job = JobView;
export type Step = StepView;
export type Result = ResultView;
export type Plan = PlanView;
export type Template = TemplateView;
export type Store = StoreView;
export type Asset = AssetView;
export type Event = EventView;
export type Endpoint = EndpointView;
export type Delivery = DeliverySummary;
export type DeliveryWithAttempts = DeliveryView;
export type Key = ApiKeyView;

type SubmitBody = Routes["POST /process"]["json"];
type Query<R extends keyof Routes> = NonNullable<Routes[R]["query"]>;

/** An image that is sent. A stream is read to its end first, so that it can be sent again. */
export type Bytes = Blob | ArrayBuffer | ArrayBufferView | ReadableStream<Uint8Array>;
/** An image that the server fetches: from the web, from a store, or a result of another job. */
export type RemoteSource = SubmitBody["input"];
/** Facts about an image that is not sent. */
export type FactsSource = Extract<Routes["POST /plan"]["json"]["input"], { facts: unknown }>;
/** A text is a URL; for the client of "pixtools-client/node" a text without a scheme is a path. */
export type Source = Bytes | RemoteSource | URL | string;

/** Names separated by commas, the tree as JSON text, or the tree. */
export type Operations = string | OperationTree;
/** A time with its zone. */
export type Moment = Date | string;

export interface ClientOptions {
  /** An API key. */
  key?: string | undefined;
  /**
   * Seconds for which a repeatable request is sent again while the server is away or overloaded;
   * default: 30.
   */
  patienceSeconds?: number;
  /** Called with the error, and the seconds until the request is sent again. */
  onRetry?: (error: Error & { code: string }, seconds: number) => void;
  /** Replaces the global `fetch`, for proxies, certificates and the like. */
  fetch?: typeof fetch;
}

export interface Abortable {
  /** Ends the call, with the signal's reason as the error. Accepted jobs go on at the server. */
  signal?: AbortSignal | undefined;
}

/** Fields of the request, with the names of the API. */
export type Order = Omit<SubmitBody, "input" | "operations">;

export interface PlanOptions extends Order, Abortable {
  operations?: Operations;
  /** File name of the upload; default: that of the file. */
  filename?: string;
}

export interface SubmitOptions extends PlanOptions {
  /**
   * The same key gives the same job for a day. By default it is a new key, so that the request can be repeated if the
   * answer is lost.
   */
  idempotencyKey?: string;
}

export interface WaitOptions extends Abortable {
  /** Time after which the call ends with `WaitTimeout`; default: no limit. */
  timeoutSeconds?: number | undefined;
}

export interface RunOptions extends SubmitOptions, WaitOptions {}

/** A job must match all filters. */
export interface JobFilters extends Omit<Query<"GET /jobs">, "cursor" | "created_after" | "created_before"> {
  created_after?: Moment;
  created_before?: Moment;
}
export type DeliveryFilters = Omit<Query<"GET /deliveries">, "cursor">;
export type UsageFilters = Omit<Query<"GET /usage">, "cursor" | "limit">;

export interface AuditFilters {
  since?: Moment;
  until?: Moment;
  tenant?: string;
}

export interface EventFilters {
  /** Id of an event; the first event is the one after it. */
  after?: string;
  /** Only events of this type. */
  type?: Query<"GET /events">["type"];
}

export type NewTemplate = Omit<Routes["PUT /templates/{template_name}"]["json"], "operations">;
export type NewStore = Routes["PUT /stores/{store}"]["json"];
export type NewKey = Omit<Routes["POST /keys"]["json"], "scopes">;
export type Scopes = Routes["POST /keys"]["json"]["scopes"];
export type EndpointChange = Routes["PATCH /webhooks/{endpoint_id}"]["json"];
export type NewEndpoint = Omit<Routes["POST /webhooks"]["json"], "url">;
export type ReplayRequest = Omit<Routes["POST /webhooks/{endpoint_id}/replay"]["json"], "since" | "until"> & {
  since: Moment;
  until?: Moment;
};

/** What to do if a file with other content exists. */
export type IfExists = "fail" | "replace" | "skip" | "rename";

export interface DownloadOptions extends Abortable {
  ifExists?: IfExists | undefined;
}

export interface RunToOptions extends RunOptions {
  /** Folder for the results; it is made if absent. */
  to?: string;
  ifExists?: IfExists | undefined;
}

/** Where the content of a download goes. */
export interface Sink {
  /** Discard everything so far: the download starts again. */
  restart(): void | Promise<void>;
  write(chunk: Uint8Array): void | Promise<void>;
}
