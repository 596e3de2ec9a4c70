// What survives a reload: the list of images in the tab's session, the files themselves in the browser's database.

const LIST = "pixtools.images";
const KEPT_MS = 24 * 3600 * 1000;

export function readList() {
  try {
    return JSON.parse(sessionStorage.getItem(LIST)) ?? [];
  } catch {
    return [];
  }
}

export function writeList(list) {
  sessionStorage.setItem(LIST, JSON.stringify(list));
}

/** A database that may not be there: private windows have none, and the page does without. */
const opened = new Promise((resolve) => {
  try {
    const request = indexedDB.open("pixtools", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("files", { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(null);
  } catch {
    resolve(null);
  }
});

async function files(mode, work) {
  const database = await opened;
  if (!database) return undefined;
  return new Promise((resolve) => {
    const transaction = database.transaction("files", mode);
    const request = work(transaction.objectStore("files"));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onerror = transaction.onabort = () => resolve(undefined); // full: the page goes on without a copy
  });
}

export const keepFile = (id, file) => files("readwrite", (store) => store.put({ id, file, at: Date.now() }));
export const forgetFile = (id) => files("readwrite", (store) => store.delete(id));
export const fileOf = async (id) => (await files("readonly", (store) => store.get(id)))?.file;

/** Remove the files of tabs that were closed long ago. */
export async function tidy() {
  const old = (await files("readonly", (store) => store.getAll()))?.filter(({ at }) => Date.now() - at > KEPT_MS) ?? [];
  for (const { id } of old) await forgetFile(id);
}
