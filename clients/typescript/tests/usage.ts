// What the types allow, and what they do not; nothing of this runs.

import { Client, Invalid, verify, type Job, type OperationTree, type Plan } from "pixtools-client";
import { Client as NodeClient } from "pixtools-client/node";

const client: Client = new NodeClient();
const tree: OperationTree = [
  "convert_webp",
  { op: "resize", width: 320, then: [{ op: "convert_avif", quality: 50, as: "small" }] },
];

export async function right(file: File): Promise<Plan> {
  const job: Job = await client.run(file, tree, { tags: { sku: "7" }, timeoutSeconds: 60 });
  const width: number | null | undefined = job.results[0]?.width;
  if (job.status === "completed_with_errors") console.log(width);
  await client.submit({ store: "photos", key: "1.jpg" }, { template: "shop@2", params: { width } });
  await client.submit(new URL("https://images.example/1.jpg"), "flip", {
    output: { store: "web", key: "{name}.{ext}" },
  });
  for await (const { finished_at: at } of client.jobs({ status: "failed", created_after: new Date() })) at?.slice();
  const event = await verify("whsec_", new Headers(), new Uint8Array());
  const { lines }: { lines: string[] } = await client.call("GET /jobs/{job_id}/timeline", {
    path: { job_id: event.id },
  });
  const created = await client.createWebhook("https://hooks.example", { events: ["job.failed"] });
  console.log(lines, created.secret, new Invalid("").errors[0]?.pointer);
  await new NodeClient("http://127.0.0.1:8000", { key: "pxt_1" }).run("photo.jpg", "flip", {
    to: "results",
    ifExists: "rename",
  });
  return client.plan({ facts: { format: "jpeg", width: 1, height: 1, bytes: 1 } }, tree);
}

export async function wrong(file: File, job: Job): Promise<void> {
  // @ts-expect-error there is no such operation
  await client.run(file, [{ op: "explode" }]);
  // @ts-expect-error there is no such parameter
  await client.run(file, [{ op: "resize", widht: 320 }]);
  // @ts-expect-error it needs a parameter
  await client.run(file, ["resize"]);
  // @ts-expect-error nothing continues from what is no image
  await client.run(file, [{ op: "metadata", then: ["flip"] }]);
  // @ts-expect-error there is no such option
  await client.submit(file, "flip", { external: "a" });
  // @ts-expect-error facts are for plans
  await client.submit({ facts: { format: "jpeg", width: 1, height: 1, bytes: 1 } }, "flip");
  // @ts-expect-error a browser writes no files
  await client.run(file, "flip", { to: "results" });
  // @ts-expect-error there is no such state
  if (job.status === "finished") return;
  // @ts-expect-error there is no such filter
  client.jobs({ filenames: "a" });
  // @ts-expect-error there is no such route
  await client.call("GET /job/{job_id}", {});
  // @ts-expect-error an id is missing
  await client.call("GET /jobs/{job_id}", {});
  // @ts-expect-error there is no such scope
  await client.createKey(["jobs:everything"]);
}
