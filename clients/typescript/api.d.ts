// Made by make_types.py of the server's `/openapi.json`: change nothing here.

/** Keys, oldest first. */
export interface ApiKeyList {
  data: ApiKeyView[];
}

/** A key, without the secret. */
export interface ApiKeyView {
  /** The public part of the key. */
  id: string;
  tenant: string;
  description: string;
  scopes: string[];
  /** Id of the key that made it; null: the command line made it. */
  created_by: string | null;
  created_at: string;
  expires_at: string | null;
  revoked_at: string | null;
  /** To the minute; null: not used yet. */
  last_used_at: string | null;
}

/** A new key. */
export interface ApiKeyWithSecret {
  /** The public part of the key. */
  id: string;
  tenant: string;
  description: string;
  scopes: string[];
  /** Id of the key that made it; null: the command line made it. */
  created_by: string | null;
  created_at: string;
  expires_at: string | null;
  revoked_at: string | null;
  /** To the minute; null: not used yet. */
  last_used_at: string | null;
  /** For `Authorization: Bearer …`; not shown again. */
  key: string;
}

/** Assets by name. */
export interface AssetList {
  data: AssetView[];
}

/** An image or a font that trees can use. */
export interface AssetView {
  name: string;
  kind: "font" | "image";
  content_type: string;
  /** Pixels; null: it is not an image. */
  width: number | null;
  height: number | null;
  bytes: number;
  sha256: string;
  updated_at: string;
}

/** One request to a receiver. */
export interface AttemptView {
  number: number;
  at: string;
  seconds: number;
  status_code: number | null;
  /** Null: the receiver has accepted the event. */
  error: string | null;
  /** The beginning of the answer's body. */
  answer: string | null;
}

/** Blur (Gaussian). */
export interface BlurOperation {
  op: "blur";
  /** Standard deviation in pixels. */
  sigma: number;
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

/** Encode as AVIF. */
export interface ConvertAvifOperation {
  op: "convert_avif";
  /** Largest size of the file; `quality` is then the highest quality that is tried. */
  max_bytes?: number | null;
  /** Required similarity to the image: gives the smallest file with this SSIM, whatever `quality` says. */
  min_ssim?: number | null;
  /**
   * `copyright` keeps the author and the owner of the rights, `icc` the image's own colours with their
   * profile, `all` everything except thumbnails, also the place and serial numbers.
   */
  keep_metadata?: "none" | "copyright" | "icc" | "all";
  /** Higher is closer to the image and larger. */
  quality?: number;
  /** 0 is fastest, 9 gives the smallest file. */
  effort?: number;
  /** Keep every pixel as it is; `quality` has no effect. */
  lossless?: boolean;
  /** Resolution of colour; `auto` is 4:4:4 from quality 90 on, 4:2:0 below. */
  chroma?: "auto" | "4:2:0" | "4:4:4";
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

/** Encode as GIF. */
export interface ConvertGifOperation {
  op: "convert_gif";
  /** Largest size of the file; `quality` is then the highest quality that is tried. */
  max_bytes?: number | null;
  /** Required similarity to the image: gives the smallest file with this SSIM, whatever `quality` says. */
  min_ssim?: number | null;
  /** Largest number of colours in the palette. */
  colours?: 2 | 4 | 8 | 16 | 32 | 64 | 128 | 256;
  /** Strength of the dithering that makes up for lost colours. */
  dither?: number;
  /** 1 is fastest, 10 finds the best palette. */
  effort?: number;
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

/** Encode as JPEG. */
export interface ConvertJpegOperation {
  op: "convert_jpeg";
  /** Largest size of the file; `quality` is then the highest quality that is tried. */
  max_bytes?: number | null;
  /** Required similarity to the image: gives the smallest file with this SSIM, whatever `quality` says. */
  min_ssim?: number | null;
  /**
   * `copyright` keeps the author and the owner of the rights, `icc` the image's own colours with their
   * profile, `all` everything except thumbnails, also the place and serial numbers.
   */
  keep_metadata?: "none" | "copyright" | "icc" | "all";
  /** Higher is closer to the image and larger. */
  quality?: number;
  /** Load as a whole picture that gets sharper. */
  progressive?: boolean;
  /** Resolution of colour; `auto` is 4:4:4 from quality 90 on, 4:2:0 below. */
  chroma?: "auto" | "4:2:0" | "4:4:4";
  /** Colour under transparent pixels. */
  background?: string;
  /** Trellis quantization: the file is a tenth smaller and takes three times as long. */
  trellis?: boolean;
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

/** Encode as PNG. */
export interface ConvertPngOperation {
  op: "convert_png";
  /** Largest size of the file; `quality` is then the highest quality that is tried. */
  max_bytes?: number | null;
  /** Required similarity to the image: gives the smallest file with this SSIM, whatever `quality` says. */
  min_ssim?: number | null;
  /**
   * `copyright` keeps the author and the owner of the rights, `icc` the image's own colours with their
   * profile, `all` everything except thumbnails, also the place and serial numbers.
   */
  keep_metadata?: "none" | "copyright" | "icc" | "all";
  /** 0 is fastest, 9 gives the smallest file. */
  compression?: number;
  /** Load as a whole picture that gets sharper; the file is larger. */
  progressive?: boolean;
  /** Use a palette of at most this many colours: far smaller, with losses. */
  colours?: 2 | 4 | 16 | 256 | null;
  /** With a palette: strength of the dithering that makes up for lost colours. */
  dither?: number;
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

/** Encode as TIFF, without loss. */
export interface ConvertTiffOperation {
  op: "convert_tiff";
  /** Largest size of the file; `quality` is then the highest quality that is tried. */
  max_bytes?: number | null;
  /** Required similarity to the image: gives the smallest file with this SSIM, whatever `quality` says. */
  min_ssim?: number | null;
  /**
   * `copyright` keeps the author and the owner of the rights, `icc` the image's own colours with their
   * profile, `all` everything except thumbnails, also the place and serial numbers.
   */
  keep_metadata?: "none" | "copyright" | "icc" | "all";
  /** All of these are lossless. */
  compression?: "none" | "lzw" | "deflate";
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

/** Encode as WebP. */
export interface ConvertWebpOperation {
  op: "convert_webp";
  /** Largest size of the file; `quality` is then the highest quality that is tried. */
  max_bytes?: number | null;
  /** Required similarity to the image: gives the smallest file with this SSIM, whatever `quality` says. */
  min_ssim?: number | null;
  /**
   * `copyright` keeps the author and the owner of the rights, `icc` the image's own colours with their
   * profile, `all` everything except thumbnails, also the place and serial numbers.
   */
  keep_metadata?: "none" | "copyright" | "icc" | "all";
  /** Higher is closer to the image and larger. */
  quality?: number;
  /** 0 is fastest, 6 gives the smallest file. */
  effort?: number;
  /** Keep every pixel as it is; `quality` has no effect. */
  lossless?: boolean;
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

/** Cut out a rectangle, by its corner or by gravity. */
export interface CropOperation {
  op: "crop";
  /** Pixels. */
  width: number;
  /** Pixels. */
  height: number;
  /** Left edge, together with `top`. An area outside the image fails the step with `area_outside_image`. */
  left?: number | null;
  /** Top edge, together with `left`. */
  top?: number | null;
  /** Without `left` and `top`: the part that is kept, at most the whole image. */
  gravity?:
    | "center"
    | "north"
    | "northeast"
    | "east"
    | "southeast"
    | "south"
    | "southwest"
    | "west"
    | "northwest"
    | "attention";
  focal_point?: [number, number] | null;
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

/** One page of deliveries, newest first. */
export interface DeliveryPage {
  data: DeliverySummary[];
  /** Pass as `cursor` for the next page; null on the last one. */
  next_cursor: string | null;
  has_more: boolean;
}

export type DeliveryStatus = "pending" | "delivered" | "exhausted";

/** One event for one receiver. */
export interface DeliverySummary {
  id: string;
  /** The same in every attempt and for every receiver of the event. */
  webhook_id: string;
  event: EventType;
  job_id: string | null;
  /** Null: it goes to the `webhook_url` of the job. */
  endpoint_id: string | null;
  /** URL without its query, which may be secret. */
  url: string;
  status: DeliveryStatus;
  attempt_count: number;
  /** How often in a row it was postponed because its host failed too often. */
  postponements: number;
  created_at: string;
  next_attempt_at: string | null;
  /** Latest time at which it is given up; null before its first attempt and after its end. */
  expires_at: string | null;
  delivered_at: string | null;
  /** Why the last attempt failed, or why it was given up. */
  error: string | null;
}

/** One event for one receiver, with all its attempts. */
export interface DeliveryView {
  id: string;
  /** The same in every attempt and for every receiver of the event. */
  webhook_id: string;
  event: EventType;
  job_id: string | null;
  /** Null: it goes to the `webhook_url` of the job. */
  endpoint_id: string | null;
  /** URL without its query, which may be secret. */
  url: string;
  status: DeliveryStatus;
  attempt_count: number;
  /** How often in a row it was postponed because its host failed too often. */
  postponements: number;
  created_at: string;
  next_attempt_at: string | null;
  /** Latest time at which it is given up; null before its first attempt and after its end. */
  expires_at: string | null;
  delivered_at: string | null;
  /** Why the last attempt failed, or why it was given up. */
  error: string | null;
  /** The last 100 at most, oldest first. */
  attempts: AttemptView[];
}

/** Remove noise with a neural network; its strength need not be known. */
export interface DenoiseOperation {
  op: "denoise";
  /** How much of the noise is removed. */
  strength?: number;
  /**
   * `exact` is DnCNN. `fast` is a network that takes the measured noise as an input, and is several times as
   * fast. `camera` is the same network for the noise of cameras, which is stronger in the shadows and
   * smoothed by demosaicing and JPEG. `auto` chooses `camera` for noise that is smoothed like that, `fast`
   * for noise that depends on light or colour, otherwise `exact`.
   */
  profile?: "exact" | "fast" | "camera" | "auto";
  /** Leave the image as it is if its noise is weaker than this standard deviation, on the scale of 8 bits. */
  if_noisy?: number | null;
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

/** Members that are left out stay as they are. */
export interface EndpointChange {
  url?: string | null;
  events?:
    | ("job.completed" | "job.completed_with_errors" | "job.failed" | "job.cancelled")[]
    | null;
  description?: string | null;
  enabled?: boolean | null;
}

/** All endpoints, oldest first. */
export interface EndpointList {
  data: EndpointView[];
}

/** A registered receiver of webhooks. */
export interface EndpointView {
  id: string;
  /** URL without its query, which may be secret. */
  url: string;
  description: string;
  /** Event types that it receives; empty: all. */
  events: EventType[];
  enabled: boolean;
  /** Why PixTools disabled it; null: it is enabled, or a request did it. */
  disabled_reason: string | null;
  created_at: string;
}

/** An endpoint, and the secret with which its receiver checks signatures: shown only in this answer. */
export interface EndpointWithSecret {
  id: string;
  /** URL without its query, which may be secret. */
  url: string;
  description: string;
  /** Event types that it receives; empty: all. */
  events: EventType[];
  enabled: boolean;
  /** Why PixTools disabled it; null: it is enabled, or a request did it. */
  disabled_reason: string | null;
  created_at: string;
  secret: string;
}

/** Why a job or a step did not succeed. */
export interface ErrorRecord {
  code:
    | "area_outside_image"
    | "asset_missing"
    | "body_too_large"
    | "corrupt_font"
    | "corrupt_image"
    | "daily_limit_reached"
    | "database_unavailable"
    | "empty_file"
    | "field_too_long"
    | "glyph_missing"
    | "head_too_large"
    | "image_not_encoded"
    | "image_too_large"
    | "internal_error"
    | "invalid_filename"
    | "invalid_source"
    | "invalid_source_url"
    | "invalid_upload"
    | "invisible_text"
    | "known_poison"
    | "limit_exceeded"
    | "no_room"
    | "object_incomplete"
    | "object_not_found"
    | "output_denied"
    | "output_exists"
    | "output_failed"
    | "output_unavailable"
    | "pixel_process_died"
    | "poison_input"
    | "rate_limited"
    | "source_busy"
    | "source_changed"
    | "source_denied"
    | "source_failed"
    | "source_not_found"
    | "source_unavailable"
    | "source_unusable"
    | "source_url_refused"
    | "step_failed"
    | "step_timed_out"
    | "stopping"
    | "storage_limit_reached"
    | "storage_unavailable"
    | "target_too_long"
    | "target_unreachable"
    | "tenant_limit"
    | "too_many_assets"
    | "too_many_connections"
    | "too_many_endpoints"
    | "too_many_keys"
    | "too_many_listeners"
    | "too_many_open_jobs"
    | "too_many_stores"
    | "too_many_templates"
    | "too_much_work"
    | "truncated_image"
    | "unavailable"
    | "unsupported_asset"
    | "unsupported_image"
    | "upload_too_large"
    | "workspace_failed"
    | "workspace_full";
  message: string;
  /** Whether the same work may succeed if it is repeated. */
  retryable: boolean;
}

/** A part of the log of events, oldest first. */
export interface EventPage {
  data: EventView[];
  /** Pass as `after` to continue after these events. */
  next_after: string;
  has_more: boolean;
}

export type EventType =
  | "job.completed"
  | "job.completed_with_errors"
  | "job.failed"
  | "job.cancelled"
  | "webhook.test";

/** The content of a webhook, with its `webhook-id`. */
export interface EventView {
  /** The `webhook-id`. */
  id: string;
  type: EventType;
  timestamp: string;
  /**
   * The job as it was then; URLs are fresh, or null if the result is gone. For a job that its client has
   * deleted it has only `id`, `status` and `deleted`: true.
   */
  data: Record<string, unknown>;
}

/** Mirror. */
export interface FlipOperation {
  op: "flip";
  /** `horizontal` exchanges left and right, `vertical` top and bottom. */
  direction?: "horizontal" | "vertical" | "both";
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

/** Convert to grey: one channel with the luminance, computed in linear sRGB light; transparency is kept. */
export interface GrayscaleOperation {
  op: "grayscale";
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

export type Health = "ok" | "degraded" | "down";

/** One part of the service. */
export interface HealthCheck {
  status: Health;
  seconds: number;
  /** Why it is not ok. */
  error?: string;
}

/** The state of every part. */
export interface HealthView {
  status: Health;
  checks: Record<string, HealthCheck>;
  queues: Record<string, QueueView>;
}

/** The input file of the job; all members except its name are null until it has been fetched. */
export interface InputView {
  filename: string;
  format: "avif" | "gif" | "heic" | "jpeg" | "png" | "tiff" | "webp" | null;
  /** Pixels of the upright image, after the EXIF orientation. */
  width: number | null;
  height: number | null;
  bytes: number | null;
  sha256: string | null;
  /**
   * Where it is fetched from, as in `input` of the request, without queries and headers; null: it came with
   * the request.
   */
  source: Record<string, string> | null;
}

/** Relative addresses of the job and its parts. */
export interface JobLinks {
  self: string;
  events: string;
  archive: string;
}

/** One page of a listing, newest first. */
export interface JobPage {
  data: JobView[];
  /** Pass as `cursor` for the next page; null on the last one. */
  next_cursor: string | null;
  has_more: boolean;
}

/**
 * The state of a job: pending -> processing -> one of the others. Only an explicit retry leads back to
 * pending.
 */
export type JobStatus =
  | "pending"
  | "processing"
  | "completed"
  | "completed_with_errors"
  | "failed"
  | "cancelled";

/** A job: its input and operations, its state, and its results. */
export interface JobView {
  id: string;
  status: JobStatus;
  created_at: string;
  finished_at: string | null;
  /** When the job and its results are removed; null until it has ended, as the time counts from then. */
  expires_at: string | null;
  /** 9 goes first. */
  priority: number;
  /** The tags of the request. */
  tags: Record<string, string>;
  /** The client's own name for the job. */
  external_id: string | null;
  /** Name and version of the template. */
  template: string | null;
  input: InputView;
  /** The tree as it was sent. */
  operations: OperationTree;
  steps: StepView[];
  results: ResultView[];
  error: ErrorRecord | null;
  links: JobLinks;
}

/** One page of dead letters, newest first. */
export interface LetterPage {
  data: LetterView[];
  /** Pass as `cursor` for the next page; null on the last one. */
  next_cursor: string | null;
  has_more: boolean;
}

/** Work that was given up. */
export interface LetterView {
  id: string;
  created_at: string;
  reason: string;
  queue: string;
  job_id: string | null;
  /** Operations of the task; empty: the message could not be read. */
  operations: string[];
  message: string;
}

/** The process answers. */
export interface Liveness {
  status: "ok";
}

/** Report the file's metadata as JSON; ends a branch. */
export interface MetadataOperation {
  op: "metadata";
  /** Whether to report where the photograph was taken. */
  gps?: boolean;
  /** Largest number of dominant colours to report. */
  colours?: number;
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: [];
}

/** The key to make. */
export interface NewApiKey {
  /** What the key may do; not more than the key that makes it. */
  scopes: Scope[];
  description?: string;
  /** Time from which the key is refused; null: never. */
  expires_at?: string | null;
  /** Default: your own; another tenant needs the scope `admin`. */
  tenant?: string | null;
}

/** A receiver to register. */
export interface NewEndpoint {
  url: string;
  /** Event types that it receives; empty: all. */
  events?:
    | ("job.completed" | "job.completed_with_errors" | "job.failed" | "job.cancelled")[];
  description?: string;
}

/** A connection to a bucket. */
export interface NewStore {
  /** `s3://bucket`, `gs://bucket` or `az://container`. */
  url: string;
  /** An endpoint that the operator has allowed; null: the provider's own. */
  endpoint?: string | null;
  /** Region of S3; null: this server's default. */
  region?: string | null;
  /**
   * For `s3://`: `access_key_id`, `secret_access_key`, `session_token`; for `gs://`: `client_email`,
   * `private_key`, `private_key_id` of a service account's key file; for `az://`: `account`, `account_key`.
   */
  credentials: Record<string, string>;
}

/** A tree with places for parameters. */
export interface NewTemplate {
  /** An operation tree; {"param": "width"} may stand for any whole value. */
  operations: unknown[];
  /**
   * JSON schema of an object with the parameters. A parameter may have `type` (`string`, `integer`, `number`,
   * `boolean`), `enum`, `minimum`, `maximum`, `maxLength`, `default`.
   */
  params?: Record<string, unknown>;
  /** Where results are also written, as in `POST /process`. */
  output?: Record<string, unknown> | null;
}

export type OperationEntry =
  | OperationName
  | ResizeOperation
  | CropOperation
  | RotateOperation
  | FlipOperation
  | TrimOperation
  | BlurOperation
  | SharpenOperation
  | GrayscaleOperation
  | WatermarkOperation
  | ConvertWebpOperation
  | ConvertAvifOperation
  | ConvertJpegOperation
  | ConvertPngOperation
  | ConvertGifOperation
  | ConvertTiffOperation
  | MetadataOperation
  | WebOperation
  | DenoiseOperation;

/** All operations, and the limits for trees and uploads. */
export interface OperationList {
  operations: OperationView[];
  limits: Record<string, number>;
}

export type OperationName =
  | "flip"
  | "trim"
  | "sharpen"
  | "grayscale"
  | "convert_webp"
  | "convert_avif"
  | "convert_jpeg"
  | "convert_png"
  | "convert_gif"
  | "convert_tiff"
  | "metadata"
  | "web"
  | "denoise";

/**
 * Parallel branches that all start from the upload. `GET /operations` says how many operations and levels
 * there may be.
 */
export type OperationTree = OperationEntry[];

/** One operation that a tree may use. */
export interface OperationView {
  name: string;
  description: string;
  queue: Queue;
  /** Null: the format stays as it is. */
  output_format: "avif" | "gif" | "html" | "jpeg" | "json" | "png" | "tiff" | "webp" | null;
  /** Whether it gives several files; `output_format` is then that of the manifest. */
  bundle: boolean;
  /** JSON schema of the parameters. */
  params: Record<string, unknown>;
  example: Record<string, unknown> | string;
}

/** Where a result was also written. */
export interface OutputView {
  store: string;
  key: string;
  url: string;
  /** False: another object was there, and was left as it is (`if_exists: skip`). */
  written: boolean;
}

/** What a request would do and cost; no job was made. */
export interface PlanView {
  input: PlannedInput;
  /** Name and version of the template. */
  template: string | null;
  /** The tree as it was sent, or as the template gives it. */
  operations: unknown[];
  steps: PlannedStepView[];
  results: PlannedResultView[];
  /** CPU time of all steps; null if it depends on the pixels or on the source. */
  cpu_seconds: number | null;
  /** Memory of the process that needs most. */
  memory_bytes: number | null;
  /** Size of all results; null if one is not known. */
  bytes: number | null;
}

/** The known facts about the image; null if it would have to be fetched. */
export interface PlannedInput {
  format: "avif" | "gif" | "heic" | "jpeg" | "png" | "tiff" | "webp" | null;
  width: number | null;
  height: number | null;
  bytes: number | null;
}

/** One planned result; values that depend on the pixels or on the source are null. */
export interface PlannedResultView {
  /** If the widths of a set depend on the pixels, `{width}` stands for one. */
  name: string;
  step: string;
  format: "avif" | "gif" | "html" | "jpeg" | "json" | "png" | "tiff" | "webp" | null;
  width: number | null;
  height: number | null;
  /** An estimate from photographs of this size. */
  bytes: number | null;
}

/** One operation that would run. */
export interface PlannedStepView {
  /** Path in the tree. */
  id: string;
  op:
    | "blur"
    | "convert_avif"
    | "convert_gif"
    | "convert_jpeg"
    | "convert_png"
    | "convert_tiff"
    | "convert_webp"
    | "crop"
    | "denoise"
    | "fetch"
    | "flip"
    | "grayscale"
    | "metadata"
    | "resize"
    | "rotate"
    | "sharpen"
    | "trim"
    | "watermark"
    | "web";
  queue: Queue;
  /** Steps of one task run together; the task has the id of its last step. */
  task: string;
}

/** RFC 9457 problem details; decide by `code`, which never changes its meaning. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  /** Description of the problem for people. */
  detail: string;
  code:
    | "asset_in_use"
    | "asset_not_found"
    | "body_too_large"
    | "built_in_template"
    | "client_left"
    | "conflict"
    | "daily_limit_reached"
    | "database_unavailable"
    | "delivery_not_found"
    | "duplicate_result_name"
    | "empty_file"
    | "endpoint_disabled"
    | "endpoint_not_found"
    | "expired_key"
    | "external_id_taken"
    | "field_too_long"
    | "foreign_origin"
    | "head_too_large"
    | "host_refused"
    | "idempotency_key_in_flight"
    | "idempotency_key_reused"
    | "internal_error"
    | "invalid_cursor"
    | "invalid_download_link"
    | "invalid_external_id"
    | "invalid_filename"
    | "invalid_form"
    | "invalid_idempotency_key"
    | "invalid_json"
    | "invalid_limit"
    | "invalid_operations"
    | "invalid_output"
    | "invalid_parameter"
    | "invalid_request"
    | "invalid_result_name"
    | "invalid_source"
    | "invalid_source_url"
    | "invalid_store"
    | "invalid_tags"
    | "invalid_template"
    | "invalid_tenant_name"
    | "invalid_upload"
    | "invalid_webhook_url"
    | "job_already_finished"
    | "job_expired"
    | "job_not_finished"
    | "job_not_found"
    | "keep_too_long"
    | "key_in_query"
    | "key_not_found"
    | "key_refused"
    | "known_poison"
    | "letter_not_found"
    | "limit_exceeded"
    | "malformed_key"
    | "method_not_allowed"
    | "missing_field"
    | "missing_key"
    | "missing_scope"
    | "mistyped_key"
    | "no_room"
    | "not_found"
    | "nothing_to_retry"
    | "operations_too_long"
    | "own_webhook"
    | "range_not_satisfiable"
    | "rate_limited"
    | "request_timeout"
    | "result_not_found"
    | "revoked_key"
    | "source_url_refused"
    | "stopping"
    | "storage_limit_reached"
    | "storage_unavailable"
    | "store_endpoint_refused"
    | "store_not_found"
    | "store_refused"
    | "target_too_long"
    | "template_not_found"
    | "templates_only"
    | "tenant_exists"
    | "tenant_limit"
    | "tenant_not_found"
    | "tenant_stays"
    | "too_many_assets"
    | "too_many_connections"
    | "too_many_endpoints"
    | "too_many_keys"
    | "too_many_listeners"
    | "too_many_open_jobs"
    | "too_many_operations"
    | "too_many_stores"
    | "too_many_templates"
    | "too_much_work"
    | "tree_too_deep"
    | "truncated_image"
    | "truncated_request"
    | "unauthorized"
    | "unavailable"
    | "unknown_asset"
    | "unknown_field"
    | "unknown_key"
    | "unknown_operation"
    | "unknown_parameter"
    | "unknown_template"
    | "unreadable_secret"
    | "unsupported_asset"
    | "unsupported_image"
    | "unsupported_media_type"
    | "upload_too_large"
    | "webhook_url_refused";
  /** Path of the request. */
  instance?: string;
  /** One entry for each mistake that has a place in the request; left out if there is none. */
  errors?: ProblemError[];
  /** The setting's limit that was exceeded. */
  limit?: number;
  /** The refused value, shortened. */
  value?: unknown;
  [member: string]: unknown;
}

/** One mistake in the input. */
export interface ProblemError {
  detail: string;
  /** JSON pointer to the mistake, as a URI fragment. */
  pointer: string;
  /** Code of this mistake. */
  code?: string;
  /** The limit that was exceeded. */
  limit?: number;
  /** The refused value, shortened. */
  value?: unknown;
  [member: string]: unknown;
}

/** The queues with work, each with its own worker deployment. */
export type Queue =
  | "default_queue"
  | "small_queue"
  | "ml_inference_queue"
  | "webhook_queue"
  | "fetch_queue";

/** One queue. */
export interface QueueView {
  /** Messages ready for a worker. */
  messages: number;
  /** Consumers of the queue. */
  workers: number;
}

/** Whether work can be accepted, and the state of the parts that this needs. */
export interface Readiness {
  status: Health;
  checks: Record<string, HealthCheck>;
}

/** The outcome of sending a dead letter again. */
export interface RedriveView {
  id: string;
  done: string;
}

/** Replays of an endpoint, newest first. */
export interface ReplayList {
  data: ReplayView[];
}

/** The events that an endpoint gets again. */
export interface ReplayRequest {
  since: string;
  /** Default: now. */
  until?: string | null;
  /** Leave out events that the endpoint has accepted. */
  missed_only?: boolean;
}

/** A replay: events that an endpoint gets again, one after the other. */
export interface ReplayView {
  id: string;
  endpoint_id: string;
  since: string;
  until: string;
  missed_only: boolean;
  /** Number of events so far. */
  events: number;
  created_at: string;
  /** Null: more events will follow. */
  finished_at: string | null;
  /** Why it ended before all were sent. */
  error: string | null;
}

/** Scale to a width, a height or a box; the aspect ratio is kept unless `fit` is `fill`. */
export interface ResizeOperation {
  op: "resize";
  /** Target width in pixels; a width, a height or both are needed. */
  width?: number | null;
  /** Target height in pixels. */
  height?: number | null;
  /**
   * How to fit into a width and a height: `inside` stays within the box, `outside` covers the box without
   * cutting, `cover` fills it and cuts off the rest, `contain` stays within it and pads it, `fill` distorts.
   */
  fit?: "inside" | "outside" | "cover" | "contain" | "fill";
  /**
   * The part that `cover` keeps, and where `contain` puts the image; `attention` keeps the most eye-catching
   * part and is only for `cover`.
   */
  gravity?:
    | "center"
    | "north"
    | "northeast"
    | "east"
    | "southeast"
    | "south"
    | "southwest"
    | "west"
    | "northwest"
    | "attention";
  focal_point?: [number, number] | null;
  /** Colour that `contain` pads with; two more digits are alpha. */
  background?: string;
  /** Whether an image smaller than the target may grow. */
  enlarge?: boolean;
  /** Scale in linear light: fine bright detail stays bright. Slower, since the decoder cannot scale. */
  linear?: boolean;
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

/** One stored output. */
export interface ResultView {
  name: string;
  /** Id of the step that made it. */
  step: string;
  format: "avif" | "gif" | "html" | "jpeg" | "json" | "png" | "tiff" | "webp";
  content_type:
    | "application/json"
    | "image/avif"
    | "image/gif"
    | "image/heic"
    | "image/jpeg"
    | "image/png"
    | "image/tiff"
    | "image/webp"
    | "text/html";
  /** Pixels; null: the file is not an image. */
  width: number | null;
  height: number | null;
  bytes: number;
  sha256: string;
  filename: string;
  /** Absolute, signed, valid until `expires_at`. Fetch the job again for a fresh one. */
  url: string;
  expires_at: string;
  /** Null: the request named no `output`. */
  output: OutputView | null;
}

/** Rotate clockwise; quarter turns are lossless, other angles enlarge the canvas. */
export interface RotateOperation {
  op: "rotate";
  /** Degrees clockwise. */
  angle: number;
  /** Colour of the corners that open, except at quarter turns; two more digits are alpha. */
  background?: string;
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

/** How a secret is replaced. */
export interface Rotation {
  /** Seconds for which the old secret signs as well. */
  overlap_seconds?: number;
}

/** A permission of a key. It covers only the data of the key's tenant. */
export type Scope =
  | "jobs:write"
  | "jobs:read"
  | "templates:write"
  | "stores:write"
  | "webhooks:write"
  | "keys:write"
  | "admin";

/** A new secret: shown only in this answer. */
export interface Secret {
  secret: string;
}

/** Sharpen lightness, not colour; flat areas are sharpened less than edges, so that noise stays low. */
export interface SharpenOperation {
  op: "sharpen";
  /** Size of the detail that is sharpened, in pixels. */
  sigma?: number;
  /** Strength in flat areas. */
  flat?: number;
  /** Strength at edges. */
  edges?: number;
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

/** The state of a step: pending -> running -> one of the others; back to pending only for another attempt. */
export type StepStatus = "pending" | "running" | "succeeded" | "failed" | "skipped" | "cancelled";

/** One operation of the tree. */
export interface StepView {
  /**
   * Path in the tree: `0.1` is the second `then` entry of the first branch. The step `input` fetches the
   * input.
   */
  id: string;
  op:
    | "blur"
    | "convert_avif"
    | "convert_gif"
    | "convert_jpeg"
    | "convert_png"
    | "convert_tiff"
    | "convert_webp"
    | "crop"
    | "denoise"
    | "fetch"
    | "flip"
    | "grayscale"
    | "metadata"
    | "resize"
    | "rotate"
    | "sharpen"
    | "trim"
    | "watermark"
    | "web";
  /** `skipped`: the step before it failed. */
  status: StepStatus;
  attempts: number;
  queue: Queue;
  started_at: string | null;
  /** Duration; steps that run as one task have the same. */
  seconds: number | null;
  /** Share that is done; only `denoise` and `web` report it as they run. */
  progress: number;
  /** Estimated seconds until the end; null for operations without progress. */
  seconds_left: number | null;
  /** What the operation reports about the image. */
  report: Record<string, unknown> | null;
  error: ErrorRecord | null;
}

/** All stores, by name. */
export interface StoreList {
  data: StoreView[];
}

/** A connection to a bucket, without its credentials. */
export interface StoreView {
  name: string;
  url: string;
  /** Null: the provider's own. */
  endpoint: string | null;
  /** Region of S3. */
  region: string;
  created_at: string;
  updated_at: string;
}

/** The latest version of each template; those that come with PixTools first. */
export interface TemplateList {
  data: TemplateSummary[];
}

/** A template, without its tree. */
export interface TemplateSummary {
  name: string;
  version: number;
  /** Name and version, as in requests. */
  template: string;
  /** JSON schema of the parameters. */
  params: Record<string, unknown>;
  /** Whether it comes with PixTools. */
  built_in: boolean;
  /** When this version was stored; null: it comes with PixTools. */
  created_at: string | null;
}

/** A version of a template; it never changes. */
export interface TemplateView {
  name: string;
  version: number;
  /** Name and version, as in requests. */
  template: string;
  /** JSON schema of the parameters. */
  params: Record<string, unknown>;
  /** Whether it comes with PixTools. */
  built_in: boolean;
  /** When this version was stored; null: it comes with PixTools. */
  created_at: string | null;
  operations: unknown[];
  output: Record<string, unknown> | null;
}

/** Tenants by name. */
export interface TenantList {
  data: TenantView[];
}

/** A tenant: a user of the service, separate from all others. */
export interface TenantView {
  name: string;
  created_at: string;
  /** When erasing it began. */
  deleted_at: string | null;
  /** Number of valid keys. */
  keys: number;
}

/** The timeline of a job. */
export interface TimelineView {
  lines: string[];
}

/** Cut off a border of one colour. */
export interface TrimOperation {
  op: "trim";
  /** How far from the border's colour still counts as border. */
  threshold?: number;
  /** Colour of the border; default: that of the top left pixel. The step reports the area that was kept. */
  background?: string | null;
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

/** A page of a tenant's usage, oldest first. */
export interface UsagePage {
  data: UsageView[];
  /** Pass as `cursor` for the next page; null on the last one. */
  next_cursor: string | null;
  has_more: boolean;
}

/** Usage of the jobs that ended on a day, by key and template; sums over their steps. */
export interface UsageView {
  /** Day in UTC. */
  day: string;
  /** Empty: the requests had no key. */
  key_id: string;
  /** Name and version; empty: the requests named none. */
  template: string;
  jobs: number;
  /** Bytes that the tasks have read; several tasks may read the same upload. */
  bytes_in: number;
  /** Bytes of all results. */
  bytes_out: number;
  /** Pixels of the tasks' inputs, over all frames. */
  pixels: number;
  /** CPU time of the processes that worked on pixels. */
  cpu_seconds: number;
}

/** Put a stored image or a line of text over the image; one of the two is needed. */
export interface WatermarkOperation {
  op: "watermark";
  /** Name of an image that was stored with PUT /assets. */
  image?: string | null;
  /** One line of text, instead of an image. */
  text?: string | null;
  /** Colour of the text; two more digits are alpha. */
  colour?: string;
  /**
   * Name of a font that was stored with PUT /assets, for the text; a character that it lacks is drawn in
   * another font. Default: DejaVu Sans.
   */
  font?: string | null;
  /** Where the mark is. */
  gravity?:
    | "center"
    | "north"
    | "northeast"
    | "east"
    | "southeast"
    | "south"
    | "southwest"
    | "west"
    | "northwest";
  /** Width of the mark, as a share of the image's width. */
  scale?: number;
  /** Distance to the border, as a share of the image's shorter side. */
  margin?: number;
  /** 1 hides the image under the mark. */
  opacity?: number;
  /** Repeat the mark over the whole image, with the margin between marks. */
  repeat?: boolean;
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: OperationEntry[];
}

/**
 * Make the files for a web page: images in several widths and formats, placeholders, a manifest, a
 * `<picture>`.
 */
export interface WebOperation {
  op: "web";
  /**
   * Widths in pixels, never above the image's own. Default, without `dpr` and `bytes_step`: 320, 640, 1280
   * and 1920.
   */
  widths?: number[] | null;
  /** Formats of the images. Browsers take the first one that they support of AVIF, WebP and JPEG. */
  formats?: ("avif" | "webp" | "jpeg")[];
  /** Quality in every format; default: 65 for AVIF, 80 for the others. */
  quality?: number | null;
  /** Width in CSS pixels of an image that is always shown in one size; needs `dpr`. */
  width?: number | null;
  /** Device pixel ratios; an image is made for each. */
  dpr?: number[] | null;
  /**
   * Choose as few widths as possible, so that each file is at most this many bytes larger than the next
   * smaller one; measured in the first format.
   */
  bytes_step?: number | null;
  /** Smallest width, with `bytes_step`; default: 320. */
  min_width?: number | null;
  /** Largest width, with `bytes_step`; default: 1920. */
  max_width?: number | null;
  /** Largest number of widths, with `bytes_step`; default: 20. If more are needed, the step fails. */
  max_images?: number | null;
  /** Required similarity to the image: gives the smallest files with this SSIM, whatever `quality` says. */
  min_ssim?: number | null;
  /** Width at which the page shows the image, as the `sizes` of HTML; not with `dpr`. */
  sizes?: string;
  /** Alternative text of the image. */
  alt?: string;
  /** `eager` for images that are visible at once. */
  loading?: "lazy" | "eager";
  /** Address of the folder that the files will be in; it is put before their names. */
  base_url?: string | null;
  /** Colour under transparent pixels in JPEG. */
  background?: string;
  /** Name of the result; default: the path of operations. */
  as?: string;
  /** Whether it is a result although `then` continues from it. */
  keep?: boolean;
  /** What continues from its output. */
  then?: [];
}

/** Every route: what it takes, and what it answers when all is well. */
export interface Routes {
  /** Upload an image and run a tree of operations on it */
  "POST /process": {
    path?: never;
    query?: never;
    json: {
      /** Where the image comes from. */
      input: {
        /** http, https, or `data:` with the image itself, at most 512000 bytes. */
        url: string;
        /** Only for the origin of the URL; never shown again. */
        headers?: Record<string, string> | null;
      } | {
        /** Name of a store. */
        store: string;
        key: string;
      } | {
        job: string;
        /** Name of an existing result. */
        result: string;
      };
      operations?: OperationTree;
      /** Gets a POST when the job has ended: an http or https URL; empty or null: nothing does. */
      webhook_url?: string | null;
      /** Among the jobs that wait, yours of the highest priority go first. */
      priority?: number | null;
      /** Instead of `operations`: a template by its name, or by name and version. */
      template?: string | null;
      /** Values for the template's parameters. */
      params?: Record<string, unknown> | null;
      /** To find the job by. */
      tags?: Record<string, string> | null;
      /** Your own name for the job: a second one of this name is refused with 409. */
      external_id?: string | null;
      /** From the job's end until it is removed; `expires_at` of the job says when. */
      keep_seconds?: number | null;
      /** A store that the results are written to as well. */
      output?: {
        /** Name of a store. */
        store: string;
        /**
         * A template with `{input.dir}`, `{input.stem}`, `{name}`, `{ext}`, `{sha256:12}`, `{date}`, `{job}`.
         */
        key: string;
        if_exists?: "replace" | "skip" | "fail" | null;
        cache_control?: string | null;
      } | null;
    };
    answer: JobView;
  };
  /** State, steps and results of a job */
  "GET /jobs/{job_id}": {
    path: {
      /** Id of the job. */
      job_id: string;
    };
    query?: never;
    json?: never;
    answer: JobView;
  };
  /** Erase a job and all its objects */
  "DELETE /jobs/{job_id}": {
    path: {
      /** Id of the job. */
      job_id: string;
    };
    query?: never;
    json?: never;
    answer: undefined;
  };
  /** Jobs, newest first */
  "GET /jobs": {
    path?: never;
    query?: {
      limit?: number;
      /** `next_cursor` of the previous page. */
      cursor?: string | null;
      /** Only jobs in this state. */
      status?: JobStatus | null;
      /** Only jobs with this tag, as `name:value`. */
      tag?: string | null;
      /** Only the job with this external id. */
      external_id?: string | null;
      /** Only uploads with exactly this name. */
      filename?: string | null;
      /** Only jobs created at or after this time, with its zone. */
      created_after?: string | null;
      /** Only jobs created before this time, with its zone. */
      created_before?: string | null;
    };
    json?: never;
    answer: JobPage;
  };
  /** End a job now */
  "POST /jobs/{job_id}/cancel": {
    path: {
      /** Id of the job. */
      job_id: string;
    };
    query?: never;
    json?: never;
    answer: JobView;
  };
  /** Repeat what failed, was skipped or cancelled */
  "POST /jobs/{job_id}/retry": {
    path: {
      /** Id of the job. */
      job_id: string;
    };
    query?: never;
    json?: never;
    answer: JobView;
  };
  /** All results as one ZIP */
  "GET /jobs/{job_id}/archive": {
    path: {
      /** Id of the job. */
      job_id: string;
    };
    query?: never;
    json?: never;
    answer: never;
  };
  /** What a request to /process would do and take, and all that is wrong with it */
  "POST /plan": {
    path?: never;
    query?: never;
    json: {
      /** Where the image comes from. */
      input: {
        /** http, https, or `data:` with the image itself, at most 512000 bytes. */
        url: string;
        /** Only for the origin of the URL; never shown again. */
        headers?: Record<string, string> | null;
      } | {
        /** Name of a store. */
        store: string;
        key: string;
      } | {
        job: string;
        /** Name of an existing result. */
        result: string;
      } | {
        facts: {
          format: "jpeg" | "png" | "webp" | "gif" | "tiff" | "avif" | "heic";
          width: number;
          height: number;
          bytes: number;
        };
      };
      operations?: OperationTree;
      /** Gets a POST when the job has ended: an http or https URL; empty or null: nothing does. */
      webhook_url?: string | null;
      /** Among the jobs that wait, yours of the highest priority go first. */
      priority?: number | null;
      /** Instead of `operations`: a template by its name, or by name and version. */
      template?: string | null;
      /** Values for the template's parameters. */
      params?: Record<string, unknown> | null;
      /** To find the job by. */
      tags?: Record<string, string> | null;
      /** Your own name for the job: a second one of this name is refused with 409. */
      external_id?: string | null;
      /** From the job's end until it is removed; `expires_at` of the job says when. */
      keep_seconds?: number | null;
      /** A store that the results are written to as well. */
      output?: {
        /** Name of a store. */
        store: string;
        /**
         * A template with `{input.dir}`, `{input.stem}`, `{name}`, `{ext}`, `{sha256:12}`, `{date}`, `{job}`.
         */
        key: string;
        if_exists?: "replace" | "skip" | "fail" | null;
        cache_control?: string | null;
      } | null;
    };
    answer: PlanView;
  };
  /** Download a result by its signed link, or with a key */
  "GET /jobs/{job_id}/results/{name}": {
    path: {
      name: string;
      /** Id of the job. */
      job_id: string;
    };
    query?: {
      /** From the link. */
      expires?: number | null;
      /** From the link. */
      signature?: string | null;
    };
    json?: never;
    answer: Blob;
  };
  /** Every operation with the JSON schema of its parameters */
  "GET /operations": {
    path?: never;
    query?: never;
    json?: never;
    answer: OperationList;
  };
  /** Save a connection to a bucket */
  "PUT /stores/{store}": {
    path: {
      /** Name of the store. */
      store: string;
    };
    query?: never;
    json: NewStore;
    answer: StoreView;
  };
  /** One store */
  "GET /stores/{store}": {
    path: {
      /** Name of the store. */
      store: string;
    };
    query?: never;
    json?: never;
    answer: StoreView;
  };
  /** Delete a store */
  "DELETE /stores/{store}": {
    path: {
      /** Name of the store. */
      store: string;
    };
    query?: never;
    json?: never;
    answer: undefined;
  };
  /** Every store */
  "GET /stores": {
    path?: never;
    query?: never;
    json?: never;
    answer: StoreList;
  };
  /** Store a template, or a new version of it */
  "PUT /templates/{template_name}": {
    path: {
      /** Name. */
      template_name: string;
    };
    query?: never;
    json: NewTemplate;
    answer: TemplateView;
  };
  /** A template */
  "GET /templates/{template_name}": {
    path: {
      /** Name, or name and version: `shop@2`. */
      template_name: string;
    };
    query?: never;
    json?: never;
    answer: TemplateView;
  };
  /** Delete a template with all its versions */
  "DELETE /templates/{template_name}": {
    path: {
      /** Name. */
      template_name: string;
    };
    query?: never;
    json?: never;
    answer: undefined;
  };
  /** Every template */
  "GET /templates": {
    path?: never;
    query?: never;
    json?: never;
    answer: TemplateList;
  };
  /** Store an image or a font, or replace it */
  "PUT /assets/{asset_name}": {
    path: {
      /** Name in trees. */
      asset_name: string;
    };
    query?: never;
    json?: never;
    answer: AssetView;
  };
  /** One asset */
  "GET /assets/{asset_name}": {
    path: {
      /** Name in trees. */
      asset_name: string;
    };
    query?: never;
    json?: never;
    answer: AssetView;
  };
  /** Delete an asset */
  "DELETE /assets/{asset_name}": {
    path: {
      /** Name in trees. */
      asset_name: string;
    };
    query?: never;
    json?: never;
    answer: undefined;
  };
  /** All assets */
  "GET /assets": {
    path?: never;
    query?: never;
    json?: never;
    answer: AssetList;
  };
  /** Every endpoint */
  "GET /webhooks": {
    path?: never;
    query?: never;
    json?: never;
    answer: EndpointList;
  };
  /** Register a receiver of events */
  "POST /webhooks": {
    path?: never;
    query?: never;
    json: NewEndpoint;
    answer: EndpointWithSecret;
  };
  /** One endpoint */
  "GET /webhooks/{endpoint_id}": {
    path: {
      /** Id of the endpoint. */
      endpoint_id: string;
    };
    query?: never;
    json?: never;
    answer: EndpointView;
  };
  /** Change an endpoint */
  "PATCH /webhooks/{endpoint_id}": {
    path: {
      /** Id of the endpoint. */
      endpoint_id: string;
    };
    query?: never;
    json: EndpointChange;
    answer: EndpointView;
  };
  /** Remove an endpoint and its deliveries */
  "DELETE /webhooks/{endpoint_id}": {
    path: {
      /** Id of the endpoint. */
      endpoint_id: string;
    };
    query?: never;
    json?: never;
    answer: undefined;
  };
  /** Give an endpoint a new secret */
  "POST /webhooks/{endpoint_id}/rotate": {
    path: {
      /** Id of the endpoint. */
      endpoint_id: string;
    };
    query?: never;
    json?: Rotation | null;
    answer: Secret;
  };
  /** Send an event of type webhook.test */
  "POST /webhooks/{endpoint_id}/test": {
    path: {
      /** Id of the endpoint. */
      endpoint_id: string;
    };
    query?: never;
    json?: never;
    answer: DeliveryView;
  };
  /** Send all events since a time again */
  "POST /webhooks/{endpoint_id}/replay": {
    path: {
      /** Id of the endpoint. */
      endpoint_id: string;
    };
    query?: never;
    json: ReplayRequest;
    answer: ReplayView;
  };
  /** Replays and their progress */
  "GET /webhooks/{endpoint_id}/replays": {
    path: {
      /** Id of the endpoint. */
      endpoint_id: string;
    };
    query?: never;
    json?: never;
    answer: ReplayList;
  };
  /** What was sent to receivers, newest first */
  "GET /deliveries": {
    path?: never;
    query?: {
      limit?: number;
      /** `next_cursor` of the page before. */
      cursor?: string | null;
      /** Only deliveries in this state. */
      status?: DeliveryStatus | null;
      /** Only to this endpoint. */
      endpoint?: string | null;
      /** Only about this job. */
      job?: string | null;
    };
    json?: never;
    answer: DeliveryPage;
  };
  /** One delivery with its attempts */
  "GET /deliveries/{delivery_id}": {
    path: {
      /** Id of the delivery. */
      delivery_id: string;
    };
    query?: never;
    json?: never;
    answer: DeliveryView;
  };
  /** Send one event again */
  "POST /deliveries/{delivery_id}/replay": {
    path: {
      /** Id of the delivery. */
      delivery_id: string;
    };
    query?: never;
    json?: never;
    answer: DeliveryView;
  };
  /** The log of events, oldest first */
  "GET /events": {
    path?: never;
    query?: {
      /** `next_after` of the previous answer, or the id of an event; 0: from the beginning. */
      after?: string;
      limit?: number;
      /** Only events of this type. */
      type?: EventType | null;
    };
    json?: never;
    answer: EventPage;
  };
  /** Live events of one job */
  "GET /jobs/{job_id}/events": {
    path: {
      /** Id of the job. */
      job_id: string;
    };
    query?: never;
    json?: never;
    answer: never;
  };
  /** Live events of all jobs */
  "GET /events/stream": {
    path?: never;
    query?: {
      /** Id of the event after which to begin; 0: from the beginning; default: only new events. */
      after?: string | null;
      /** Only events of this type. */
      type?: EventType | null;
    };
    json?: never;
    answer: never;
  };
  /** Make an API key */
  "POST /keys": {
    path?: never;
    query?: never;
    json: NewApiKey;
    answer: ApiKeyWithSecret;
  };
  /** Every key of the tenant, revoked and expired ones included */
  "GET /keys": {
    path?: never;
    query?: {
      /** A tenant other than your own; needs the scope `admin`. */
      tenant?: string | null;
    };
    json?: never;
    answer: ApiKeyList;
  };
  /** Revoke a key */
  "DELETE /keys/{key_id}": {
    path: {
      /** Id of the key. */
      key_id: string;
    };
    query?: {
      /** A tenant other than your own; needs the scope `admin`. */
      tenant?: string | null;
    };
    json?: never;
    answer: undefined;
  };
  /** Usage by day, key and template */
  "GET /usage": {
    path?: never;
    query?: {
      /** First day (UTC); default: 30 days before the last one. */
      since?: string | null;
      /** Last day (UTC); default: today. */
      until?: string | null;
      limit?: number;
      /** `next_cursor` of the previous page. */
      cursor?: string | null;
      /** A tenant other than your own; needs the scope `admin`. */
      tenant?: string | null;
    };
    json?: never;
    answer: UsagePage;
  };
  /** The audit log, as JSON Lines */
  "GET /audit": {
    path?: never;
    query?: {
      /** Only entries at or after this time, with its zone. */
      since?: string | null;
      /** Only entries before this time, with its zone. */
      until?: string | null;
      /** A tenant other than your own; needs the scope `admin`. */
      tenant?: string | null;
    };
    json?: never;
    answer: never;
  };
  /** Whether the process answers; checks nothing else */
  "GET /health/live": {
    path?: never;
    query?: never;
    json?: never;
    answer: Liveness;
  };
  /** Whether work can be accepted: database and storage answer */
  "GET /health/ready": {
    path?: never;
    query?: never;
    json?: never;
    answer: Readiness;
  };
  /** Every dependency with its latency, the queues and their workers */
  "GET /health": {
    path?: never;
    query?: never;
    json?: never;
    answer: HealthView;
  };
  /** Timeline of a job, in words */
  "GET /jobs/{job_id}/timeline": {
    path: {
      /** Id of the job. */
      job_id: string;
    };
    query?: never;
    json?: never;
    answer: TimelineView;
  };
  /** Work that was given up, newest first */
  "GET /dead-letters": {
    path?: never;
    query?: {
      limit?: number;
      /** `next_cursor` of the page before. */
      cursor?: string | null;
      /** A tenant other than your own; needs the scope `admin`. */
      tenant?: string | null;
    };
    json?: never;
    answer: LetterPage;
  };
  /** Run work again that was given up */
  "POST /dead-letters/{letter_id}/redrive": {
    path: {
      /** Id of the dead letter. */
      letter_id: string;
    };
    query?: {
      /** A tenant other than your own; needs the scope `admin`. */
      tenant?: string | null;
    };
    json?: never;
    answer: RedriveView;
  };
  /** All tenants */
  "GET /tenants": {
    path?: never;
    query?: never;
    json?: never;
    answer: TenantList;
  };
  /** Metrics in the text formats of Prometheus */
  "GET /metrics": {
    path?: never;
    query?: never;
    json?: never;
    answer: never;
  };
}
