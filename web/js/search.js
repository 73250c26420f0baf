// @ts-check
// ComfyUI's search for nodes knows search aliases from 0.11 on; before, it reads names alone. There the pack's nodes are
// found by the words of their descriptions as well, which hold the same words. Where ComfyUI's search is built another
// way than here, it stays as it is.

// @ts-ignore served by ComfyUI
import { app } from "../../../scripts/app.js";
import { withDescribed } from "./search_logic.js";

app.registerExtension({
  name: "longtake.search",

  setup() {
    const store = app.extensionManager?._p?._s?.get("nodeDef");
    const service = store?.nodeSearchService;
    const kind = service && Object.getPrototypeOf(service); // the store makes a new service where nodes change
    const search = kind?.searchNode;
    if (!search || service.nodeFuseSearch?.keys?.includes("search_aliases")) return;
    kind.searchNode = function (/** @type {string} */ query, /** @type {any[]} */ filters, /** @type {any[]} */ ...rest) {
      const found = search.call(this, query, filters, ...rest);
      if (filters?.length || typeof query !== "string" || !Array.isArray(found)) return found;
      const all = /** @type {any[]} */ (Object.values(store.nodeDefsByName ?? {}));
      return withDescribed(query, found, all.filter((node) => node.name?.startsWith("LongTake")));
    };
  },
});
