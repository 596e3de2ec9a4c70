// A client of PixTools' HTTP API, for every platform with `fetch`; "pixtools-client/node" adds files.

/** @typedef {import("../types.js").Abortable} Abortable */
/** @typedef {import("../types.js").Asset} Asset */
/** @typedef {import("../types.js").ClientOptions} ClientOptions */
/** @typedef {import("../types.js").Delivery} Delivery */
/** @typedef {import("../types.js").DeliveryFilters} DeliveryFilters */
/** @typedef {import("../types.js").Endpoint} Endpoint */
/** @typedef {import("../types.js").Event} Event */
/** @typedef {import("../types.js").FactsSource} FactsSource */
/** @typedef {import("../types.js").Job} Job */
/** @typedef {import("../types.js").JobFilters} JobFilters */
/** @typedef {import("../types.js").Key} Key */
/** @typedef {import("../types.js").OperationEntry} OperationEntry */
/** @typedef {import("../types.js").OperationTree} OperationTree */
/** @typedef {import("../types.js").Operations} Operations */
/** @typedef {import("../types.js").Plan} Plan */
/** @typedef {import("../types.js").PlanOptions} PlanOptions */
/** @typedef {import("../types.js").Problem} Problem */
/** @typedef {import("../types.js").RemoteSource} RemoteSource */
/** @typedef {import("../types.js").Result} Result */
/** @typedef {import("../types.js").RunOptions} RunOptions */
/** @typedef {import("../types.js").Source} Source */
/** @typedef {import("../types.js").Step} Step */
/** @typedef {import("../types.js").Store} Store */
/** @typedef {import("../types.js").SubmitOptions} SubmitOptions */
/** @typedef {import("../types.js").Template} Template */
/** @typedef {import("../types.js").TemplateSummary} TemplateSummary */
/** @typedef {import("../types.js").WaitOptions} WaitOptions */

export { Client } from "./client.js";
export {
  AssetNotFound,
  BadRequest,
  ClientError,
  Conflict,
  DownloadFailed,
  ExternalIdTaken,
  FileExists,
  Forbidden,
  Invalid,
  InvalidSignature,
  JobExpired,
  JobFailed,
  JobNotFound,
  LimitReached,
  NotFound,
  Refused,
  ResultNotFound,
  ServerAway,
  StoreNotFound,
  TemplateNotFound,
  TooLarge,
  Unauthorized,
  UnsupportedImage,
  WaitTimeout,
} from "./errors.js";
export { verify } from "./webhooks.js";
