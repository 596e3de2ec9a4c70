// The workbench: images in, a recipe, results out.

import { Away, Problem, ask, capabilities, get, hasKey, onKey, post } from "./api.js";
import { Code } from "./code.js";
import { compare } from "./compare.js";
import { askForKey, confirm, showData, showText } from "./dialogs.js";
import { announce, h, replace, toast } from "./dom.js";
import { bytes, plural } from "./format.js";
import { History } from "./history.js";
import { Images } from "./images.js";
import { Live, isOpen } from "./live.js";
import { Plan } from "./plan.js";
import { startsFor } from "./recipe.js";
import { Rows } from "./rows.js";
import { Tree, startButton } from "./tree.js";

const $ = (id) => document.getElementById(id);
const SAMPLE = "page/sample.jpg";

class App {
  constructor({ operations, limits }, can) {
    this.can = can;
    this.limits = limits;
    this.operations = new Map(operations.map((operation) => [operation.name, operation]));
    this.live = new Live(can.events);
    this.images = new Images(this.live);
    this.tree = new Tree($("tree"), this.operations, limits);
    this.code = new Code($("code"));
    this.plan = new Plan($("plan"), can.plan);
    this.rows = new Rows($("rows"), this.#actions());
    this.history = new History($("history"), {
      live: this.live,
      onproblem: (error) => this.problem(error),
      actions: {
        ...this.#actions(),
        confirm,
        use: (operations) => this.#use(operations),
        change: (job, verb) => this.#change(job, verb),
      },
    });
    this.#wire();
  }

  #actions() {
    return {
      cancel: (item) => this.images.cancel(item),
      retry: (item) => this.images.retry(item),
      remove: (item) => this.images.remove(item),
      archive: (job) => this.#archive(job),
      compare: (item, result) =>
        this.#withFresh(item, () =>
          compare(
            item,
            item.job.results.find(({ name }) => name === result.name),
          ),
        ),
      read: (item, result) => this.#withFresh(item, () => this.#read(result)),
    };
  }

  /** Links hold for an hour; those of a tab that was open for longer are asked for again. */
  async #withFresh(item, act) {
    const soon = Date.now() + 60_000;
    if (item.job.results.some(({ expires_at: until }) => new Date(until) < soon) && this.images.list.includes(item))
      await this.images.refresh(item);
    act();
  }

  #wire() {
    this.tree.addEventListener("change", () => this.#recipeChanged());
    this.images.addEventListener("change", ({ detail }) =>
      detail ? this.#imageChanged(detail) : this.#imagesChanged(),
    );
    this.images.addEventListener("problem", ({ detail: { error, refused } }) => {
      if (!refused || !this.tree.showProblem(error, refused)) this.problem(error);
      else toast("The recipe was refused; the mistakes are marked.");
    });
    this.live.addEventListener("reach", () => this.#reach());
    this.live.addEventListener("refused", () => this.#needKey());
    onKey(() => this.#keyChanged());
    this.#wirePicking();
    $("run").addEventListener("click", () => this.run());
    $("clear").addEventListener("click", () => this.images.clear());
    $("all").addEventListener("click", () => this.#archiveAll());
    $("recipe-clear").addEventListener("click", () => this.tree.load([]));
    $("key").addEventListener("click", () => askForKey());
    window.addEventListener("hashchange", () => this.route());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !document.querySelector("dialog[open]"))
        this.run();
    });
    this.#menu();
    this.#recipeChanged();
    this.#imagesChanged();
    this.#keyChanged();
  }

  #menu() {
    const menu = $("starts-menu");
    replace(
      menu,
      startsFor(this.operations).map((start) =>
        startButton(start, () => {
          menu.hidePopover();
          this.tree.load(start.operations);
          announce(`The recipe is now: ${start.name}.`);
        }),
      ),
    );
    this.#templates(menu);
  }

  /** Templates of the server, with the values that they have by default. */
  async #templates(menu) {
    if (!this.can.templates) return;
    try {
      const { data } = await get("templates");
      for (const { name, version } of data) {
        const start = { name, about: `Template of this server, version ${version}.` };
        menu.append(startButton(start, () => this.#useTemplate(menu, name)));
      }
    } catch {
      // without the right to see them there are none to offer
    }
  }

  async #useTemplate(menu, name) {
    menu.hidePopover();
    try {
      this.tree.load(filledIn(await get(`templates/${encodeURIComponent(name)}`)));
    } catch (error) {
      this.problem(error);
    }
  }

  #wirePicking() {
    const input = $("files");
    const choose = () => input.click();
    for (const id of ["choose", "choose-more"]) $(id).addEventListener("click", choose);
    input.addEventListener("change", () => {
      this.#add(input.files);
      input.value = "";
    });
    $("sample").addEventListener("click", () => this.#addSample());
    let depth = 0;
    const isFiles = (event) => event.dataTransfer?.types.includes("Files");
    const over = (on) => document.body.classList.toggle("dropping", on);
    window.addEventListener("dragenter", (event) => {
      if (!isFiles(event)) return;
      depth += 1;
      over(true);
    });
    window.addEventListener("dragleave", () => {
      depth = Math.max(0, depth - 1);
      if (!depth) over(false);
    });
    window.addEventListener("dragover", (event) => event.preventDefault());
    window.addEventListener("drop", (event) => {
      event.preventDefault();
      depth = 0;
      over(false);
      this.#add(event.dataTransfer.files);
    });
    window.addEventListener("paste", (event) => this.#onPaste(event));
    const form = $("url-form");
    form.hidden = !this.can.urls;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#addUrls($("url").value)) $("url").value = "";
    });
  }

  #onPaste(event) {
    if (event.clipboardData.files.length) this.#add(event.clipboardData.files);
    else if (this.can.urls && !event.target.closest?.("input, textarea"))
      this.#addUrls(event.clipboardData.getData("text"));
  }

  #addUrls(text) {
    const urls = text.split(/\s+/).filter((part) => /^https?:\/\/./i.test(part) && URL.canParse(part));
    for (const url of urls) this.images.addUrl(url);
    if (!urls.length && text.trim()) toast("That is not the address of an image: it must begin with http:// or https://.");
    return urls.length > 0;
  }

  #add(files) {
    const all = [...files];
    const large = all.filter((file) => file.size > this.limits.max_upload_bytes);
    const added = this.images.add(all.filter((file) => !large.includes(file)));
    if (large.length)
      toast(
        `${large[0].name} has ${bytes(large[0].size)}; this server takes up to ${bytes(this.limits.max_upload_bytes)}.`,
      );
    if (added.length) announce(`${plural(added.length, "image")} added.`);
    if (location.hash.startsWith("#/jobs")) location.hash = "#/";
  }

  async #addSample() {
    const file = await (await ask(SAMPLE)).blob();
    this.#add([new File([file], "sample.jpg", { type: "image/jpeg" })]);
    $("run").focus();
  }

  run() {
    if (this.tree.isEmpty || !this.images.list.length) return;
    this.images.run(this.tree.json);
    announce(`Running the recipe on ${plural(this.images.list.length, "image")}.`);
  }

  #recipeChanged() {
    this.#showCode();
    $("recipe-clear").hidden = this.tree.isEmpty;
    this.#runBar();
    this.#replan();
  }

  #replan() {
    this.plan.ask(this.tree.json, this.images.list[0], (plan, problem) => this.tree.showPlan(plan, problem));
  }

  #showCode() {
    this.code.show({ operations: this.tree.json, filename: this.images.list[0]?.name ?? "photo.jpg" });
  }

  #imagesChanged() {
    this.rows.show(this.images.list);
    const some = this.images.list.length > 0;
    document.body.classList.toggle("has-images", some);
    $("drop").hidden = some;
    $("images-head").hidden = !some;
    $("run-bar").hidden = !some;
    this.#showCode();
    this.#runBar();
    if (this.plannedFor !== this.images.list[0]?.id) {
      this.plannedFor = this.images.list[0]?.id;
      this.#replan();
    }
  }

  #imageChanged(item) {
    this.rows.update(item);
    if (item === this.images.list[0] && item.width !== this.plannedWidth) {
      this.plannedWidth = item.width; // measured after it was added
      this.#replan();
    }
    if (item.job) {
      this.tree.showSteps(item.job);
      if (!isOpen(item.job) && item.said !== item.job.status) {
        item.said = item.job.status;
        announce(`${item.name}: ${item.job.status.replaceAll("_", " ")}.`);
      }
    }
    this.#runBar();
  }

  #runBar() {
    const { list } = this.images;
    const jobs = list.map(({ job }) => job).filter(Boolean);
    const working = list.filter(
      ({ state, job }) => ["queued", "uploading"].includes(state) || (job && isOpen(job)),
    ).length;
    const results = jobs.flatMap((job) => job.results);
    const total = list.reduce((sum, { size }) => sum + (size ?? 0), 0);
    const run = $("run");
    run.disabled = this.tree.isEmpty || !list.length || working === list.length;
    run.title = this.tree.isEmpty ? "Add an operation to the recipe first" : "Ctrl Enter";
    const again = jobs.length > 0 && jobs.length === list.length;
    $("run-text").textContent = working
      ? `Working on ${working} of ${list.length}`
      : again
        ? "Run again"
        : `Run on ${plural(list.length, "image")}`;
    $("count").textContent = `${plural(list.length, "image")}${total ? ` · ${bytes(total)}` : ""}`;
    $("results-count").textContent = results.length
      ? `${plural(results.length, "result")} · ${bytes(results.reduce((sum, result) => sum + result.bytes, 0))}`
      : "";
    $("all").hidden = !results.length || working > 0;
    document.title = working ? `(${list.length - working}/${list.length}) PixTools` : "PixTools";
  }

  #reach() {
    $("away").hidden = !this.live.away;
    announce(
      this.live.away ? "The server cannot be reached. Accepted jobs go on when it is back." : "The server is back.",
    );
  }

  problem(error) {
    if (error instanceof Problem && error.needsKey) this.#needKey(error.message);
    else if (error instanceof Problem || error instanceof Away) toast(error.message);
    else {
      console.error(error);
      toast(error.message);
    }
  }

  #needKey(why = "This server asks for an API key.") {
    if (!document.querySelector("dialog[open]")) askForKey(hasKey() ? why : "This server asks for an API key.");
  }

  #keyChanged() {
    $("key").classList.toggle("set", hasKey());
    $("key-text").textContent = hasKey() ? "Key set" : "API key";
    this.#showCode();
    if (location.hash.startsWith("#/jobs")) this.route();
  }

  async #read(result) {
    try {
      const answer = await fetch(result.address);
      if (result.format === "html") showText(result.name, await answer.text());
      else showData(result.name, await answer.json());
    } catch {
      window.open(result.address, "_blank", "noopener");
    }
  }

  /** A link cannot send a key, so that the ZIP is fetched and then saved. */
  async #archive(job) {
    const path = `jobs/${job.id}/archive`;
    if (!hasKey()) return save(path, "");
    try {
      const address = URL.createObjectURL(await (await ask(path)).blob());
      save(address, `pixtools-${job.id}.zip`);
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
    } catch (error) {
      this.problem(error);
    }
  }

  async #archiveAll() {
    for (const { job } of this.images.list) {
      if (job?.results.length) await this.#archive(job);
    }
  }

  async #change(job, verb) {
    try {
      await post(`jobs/${job.id}/${verb}`);
    } catch (error) {
      this.problem(error);
    }
  }

  #use(operations) {
    this.tree.load(operations);
    location.hash = "#/";
    toast("The recipe is in the workbench");
  }

  route() {
    const [, view, id] = location.hash.split("/");
    const inHistory = view === "jobs";
    $("workbench").hidden = inHistory;
    $("history").hidden = !inHistory;
    for (const link of document.querySelectorAll("nav a[data-view]")) {
      if (link.dataset.view === (inHistory ? "jobs" : "")) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (inHistory) this.history.open(id || null);
  }

  async start() {
    this.route();
    await this.images.restore();
  }
}

function save(address, name) {
  const link = h("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

/** The operations of a template, with the defaults of its parameters in the places of these. */
function filledIn({ operations, params }) {
  const defaults = params?.properties ?? {};
  const fill = (value) => {
    if (Array.isArray(value)) return value.map(fill);
    if (typeof value !== "object" || value === null) return value;
    if (Object.keys(value).length === 1 && "param" in value)
      return defaults[value.param]?.default ?? defaults[value.param]?.enum?.[0] ?? null;
    return Object.fromEntries(
      Object.entries(value)
        .map(([name, each]) => [name, fill(each)])
        .filter(([, each]) => each !== null),
    );
  };
  return fill(operations);
}

async function boot() {
  const status = $("boot");
  for (let pause = 500; ; pause = Math.min(pause * 1.5, 5000)) {
    try {
      const [listed, can] = await Promise.all([get("operations"), capabilities()]);
      status.remove();
      $("app").hidden = false;
      await new App(listed, can).start();
      return;
    } catch (error) {
      if (!(error instanceof Away || error instanceof Problem)) throw error;
      status.hidden = false;
      status.textContent = "Waiting for the server …";
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

boot();
